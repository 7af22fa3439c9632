"""Checkpoints as files that are distrusted: a strict reader, a writer, names, loading, inspection."""
