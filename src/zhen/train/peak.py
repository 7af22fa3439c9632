"""The fastest matrix product this machine was seen to do, measured in the run: what MFU is a share of."""

from __future__ import annotations

import time

import torch

_SHAPES = ((512, 512, 512), (4096, 256, 768), (1024, 1024, 1024), (2048, 2048, 2048), (8192, 8192, 8192))
"""Rows, inner size, columns; from small to large, a shape that would take too long is left out."""

_REPEATS = 3


def matmul_peak(device: torch.device, seconds: float = 0.6) -> float:
    """Best FLOP/s (2·rows·inner·columns a product) over a few shapes in bfloat16 and float32, in about `seconds`.

    The best of all formats is taken: a CPU without bfloat16 units is measured by its float32. A shape is tried
    while it is expected to fit into the time that is left.
    """
    best = 0.0
    for dtype in (torch.float32, torch.bfloat16):
        best = max(best, _peak_of(dtype, device, seconds / 2))
    return best


def _peak_of(dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    best, end = 0.0, time.perf_counter() + seconds
    for rows, inner, columns in _SHAPES:
        work = 2.0 * rows * inner * columns
        if best and time.perf_counter() + (_REPEATS + 1) * work / best > end:
            break
        left = torch.ones(rows, inner, dtype=dtype, device=device)
        right = torch.ones(columns, inner, dtype=dtype, device=device)
        out = torch.empty(rows, columns, dtype=dtype, device=device)
        torch.mm(left, right.T, out=out)
        for _ in range(_REPEATS):
            finish(device)
            begun = time.perf_counter()
            torch.mm(left, right.T, out=out)
            finish(device)
            best = max(best, work / (time.perf_counter() - begun))
    return best


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
