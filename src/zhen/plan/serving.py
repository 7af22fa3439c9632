"""Serving: which weights, cache and context fit on a device, and the speed that its memory and its peak allow."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zhen.model import size
from zhen.model.config import ModelConfig
from zhen.plan.devices import Device

RESERVED = 1e9
"""Bytes beside weights, cache and workspace: a CUDA context and a server's own buffers."""

GROUP = 128
"""Weights of a group that share a scale, below 16 bits."""


class Serving(msgspec.Struct, frozen=True):
    """One way to serve: bits, context, sequences at once."""

    bits: int
    cache_bits: int
    context: int
    batch: int
    weights_bytes: float
    cache_bytes: float
    total_bytes: float
    devices: int
    """That it takes, weights and cache cut evenly."""
    tokens_per_second: float
    """Of all sequences: at most."""
    prefill_seconds: float
    """Until the first token of a full context: at least."""


def serving(config: ModelConfig, device: Device, contexts: tuple[int, ...]) -> Iterator[Serving]:
    """By bits of weights (embedding and head in 8 where the rest has less) and of the cache, by context, alone and as
    many sequences as the fewest devices hold.

    A decoding step reads all weights and the cache of all sequences: tokens/s ≤ batch · devices · bandwidth / (weights
    + cache); the prompt takes at least 2 operations a weight and token, and attention's (Pope et al. 2022, arXiv
    2211.05102, section 2).
    """
    for bits in (16, 8, 4):
        for context in contexts:
            for cache_bits in (16, 8):
                alone = _served(config, device, bits, cache_bits, context, 1)
                yield alone
                room = (
                    alone.devices * (device.memory - RESERVED)
                    - alone.weights_bytes
                    - size.workspace_bytes(config, context, cache_bits)
                )
                most = int(room // alone.cache_bytes)
                if most > 1:
                    yield _served(config, device, bits, cache_bits, context, most)


def _served(config: ModelConfig, device: Device, bits: int, cache_bits: int, context: int, batch: int) -> Serving:
    outside = 16 if bits == 16 else 8
    parts = size.serving_memory(
        config, context, bits=bits, group=GROUP, head_bits=outside, embedding_bits=outside, cache_bits=cache_bits
    )
    weights, cache = parts["weights"], batch * parts["cache"]
    total = weights + cache + parts["workspace"]
    devices = max(1, -(-int(total) // int(device.memory - RESERVED)))
    rows = size.packed_bytes((config.vocab_size, config.hidden_size), outside, GROUP)
    looked_up = 0 if config.tie_word_embeddings else rows  # an embedding's rows are few of a step's bytes
    moved = weights - looked_up + cache
    layers = config.num_hidden_layers
    queries = config.num_attention_heads * config.head_dim
    operations = context * (2 * layers * size.layer_parameters(config) + 2 * layers * queries * context)
    return Serving(
        bits=bits,
        cache_bits=cache_bits,
        context=context,
        batch=batch,
        weights_bytes=weights,
        cache_bytes=cache,
        total_bytes=total,
        devices=devices,
        tokens_per_second=batch * devices * device.bandwidth / moved,
        prefill_seconds=operations / (devices * device.peak[device.format]),
    )
