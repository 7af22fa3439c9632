"""Tuning: dialogues read, masked and packed; LoRA and preferences; the stage `tune`, on the loop of `train`."""
