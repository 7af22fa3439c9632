"""With which number format and which attention kernel a model is run in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

PLAIN_ATTENTION_TOKENS = 512
"""On CPUs attention is computed plainly up to this length: torch's fused kernel has a slow backward pass there."""


@contextmanager
def precision(device: torch.device, dtype: torch.dtype, length: int) -> Iterator[None]:
    """Run matrix products in `dtype` (float32 weights stay as they are), sequences being `length` tokens long."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        if device.type == "cpu" and length <= PLAIN_ATTENTION_TOKENS:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield
