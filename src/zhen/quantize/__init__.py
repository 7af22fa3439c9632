"""Weights in 8 or 4 bits: rounded by group, or by GPTQ with the errors that calibration text shows."""
