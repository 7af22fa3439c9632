"""The live page of a training run: its files are followed, nothing is locked, written or asked of the network."""
