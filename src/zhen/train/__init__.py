"""Training: the order of sequences, batches, optimizers, the loop, training checkpoints, the stage `pretrain`."""
