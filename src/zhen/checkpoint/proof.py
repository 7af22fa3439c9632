"""SHA-256 of every tensor, on all cores, in constant memory: the proof that a rename changed no weight."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from zhen.checkpoint.safetensors import TensorInfo
from zhen.errors import ZhenError

_PIECE = 1 << 18
"""Bytes read at a time: what stays in a core's cache until it is hashed."""

_AHEAD = 8 << 20
"""Bytes that the system is asked to fetch ahead; by itself it fetches 128 kB, too little for a fast disk."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def hash_tensors(
    tensors: Iterable[TensorInfo], report: Callable[[int], None] = lambda done: None, threads: int | None = None
) -> dict[str, str]:
    """Name -> SHA-256 (hex) of a tensor's bytes, the largest tensor first.

    `report` is given the bytes done so far, from any thread, one at a time. Raises ZhenError where a file
    ends early.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.begin - tensor.end)
    done = 0
    turn = threading.Lock()

    def count(size: int) -> None:
        nonlocal done
        with turn:
            done += size
            report(done)

    with ThreadPoolExecutor(threads or cores()) as pool:
        running = [pool.submit(_hash, tensor, count) for tensor in ordered]
        try:
            return {tensor.name: future.result() for tensor, future in zip(ordered, running, strict=True)}
        finally:
            pool.shutdown(cancel_futures=True)


def _hash(tensor: TensorInfo, count: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    piece = memoryview(bytearray(min(_PIECE, tensor.end - tensor.begin)))
    at = fetched = counted = tensor.begin
    handle = os.open(tensor.file, os.O_RDONLY)
    try:
        while at < tensor.end:
            if fetched < min(at + _AHEAD, tensor.end):
                os.posix_fadvise(handle, fetched, _AHEAD, os.POSIX_FADV_WILLNEED)
                fetched += _AHEAD
                count(at - counted)
                counted = at
            got = os.preadv(handle, [piece[: tensor.end - at]], at)
            if not got:
                raise ZhenError(f"ends at {at}", expected=f"{tensor.end}", file=tensor.file)
            digest.update(piece[:got])
            at += got
        count(at - counted)
    finally:
        os.close(handle)
    return digest.hexdigest()
