"""With which number format and which kernels a model is run in training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from zhen.model.linear import product_dtype

_memory: Any = torch.utils.deterministic

PLAIN_ATTENTION_TOKENS = 128
"""On CPUs attention is computed plainly up to this length: there torch's fused kernel is the slower one, forward and
backward together (35 against 19 ms at 128 tokens, 33 against 38 at 256; 4 heads of 32, 4,096 tokens, one thread)."""


@contextmanager
def same_bits(one_thread: bool = False) -> Iterator[None]:
    """Use only kernels that give the same bits every time (on the same kind of machine, with as many threads)."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    if one_thread:
        torch.set_num_threads(1)
    before = torch.are_deterministic_algorithms_enabled(), _memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # nothing is read that was not written: filling fresh memory would only cost time
    _memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before[0])
        _memory.fill_uninitialized_memory = before[1]


def dtype_of(name: str | None, device: torch.device) -> torch.dtype:
    """The number format that a recipe names, or where it names none the one that `device` multiplies fastest in."""
    found: torch.dtype = getattr(torch, name) if name else product_dtype(device)
    return found


@contextmanager
def precision(device: torch.device, dtype: torch.dtype, length: int) -> Iterator[None]:
    """Run matrix products in `dtype` (float32 weights stay as they are), sequences being `length` tokens long."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32), attention_kernel(device, length):
        yield


def attention_kernel(device: torch.device, length: int) -> AbstractContextManager[None]:
    """What attends over `length` tokens. Layers that are run again in the backward pass have to ask for it again."""
    plain = device.type == "cpu" and length <= PLAIN_ATTENTION_TOKENS
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
