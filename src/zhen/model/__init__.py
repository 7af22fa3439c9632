"""The decoder: its configuration, sizes, rotary positions, forward pass, cache, plain generation and likelihood."""
