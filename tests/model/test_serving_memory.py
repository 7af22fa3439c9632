"""A cache in 8 bits, and what serving takes: formulas against what is really allocated."""

from __future__ import annotations

import weakref
from typing import Any

import msgspec
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zhen.model import size
from zhen.model.cache import Cache
from zhen.model.config import PRESETS, ModelConfig
from zhen.model.transformer import Transformer, initialise


def shape(hidden: int, ffn: int, heads: int, kv_heads: int, head_dim: int = 64) -> ModelConfig:
    return msgspec.structs.replace(
        PRESETS["gpu-160m"],
        vocab_size=500,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
    )


def model(config: ModelConfig, dtype: torch.dtype) -> Transformer:
    made = Transformer(config)
    initialise(made, 3)
    return made.to(dtype)


SHAPES = [(512, 1408, 8, 2), (256, 300, 8, 8), (384, 1024, 6, 2)]


class Alive(TorchDispatchMode):
    """Bytes of the tensors made under it that are alive at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if (key := storage._cdata) not in self._live and key not in given:
                    self._live[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, key)
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("form", SHAPES)
def test_workspace_and_cache_are_what_is_allocated(form: tuple[int, int, int, int], bits: Any) -> None:
    config, tokens, seen = shape(*form), 512, 1536
    network = model(config, torch.bfloat16)
    cache = Cache(config, 1, seen, torch.bfloat16, bits=bits)
    assert cache.bytes == pytest.approx(seen * size.cache_bytes_per_token(config, bits), rel=0.05)
    cache.advance(seen - tokens)
    alive = Alive()
    with torch.inference_mode(), alive:
        network.lm_head(network.hidden(torch.zeros(1, tokens, dtype=torch.long), cache)[:, -1])
    assert alive.most == pytest.approx(size.workspace_bytes(config, seen, bits, tokens), rel=0.05)


def test_yi_34b_in_4_bits_fits_into_24_gb() -> None:
    layout = {"bits": 4, "group": 128, "head_bits": 8, "embedding_bits": 8}
    card, gib = 24e9, 2**30
    short = size.serving_memory(PRESETS["yi-34b"], 4096, **layout)
    long = size.serving_memory(PRESETS["yi-34b-200k"], 32_768, **layout, cache_bits=8)
    # by hand: 33.47e9 weights of 4 bits and 0.918e9 of 8, each with 16/128 bits of scale
    assert short["weights"] / gib == pytest.approx((33.470 * 4.125 + 0.9175 * 8.125) / 8 * 1e9 / gib, rel=1e-3)
    assert short["cache"] / gib == pytest.approx(0.94, abs=0.01)
    assert long["cache"] / gib == pytest.approx(3.87, abs=0.01)
    for parts in (short, long):
        assert parts["workspace"] < gib
        assert parts["weights"] + parts["cache"] + gib < card


def test_a_cache_of_8_bits_moves_attention_little() -> None:
    config = shape(256, 512, 4, 2)
    network, tokens = model(config, torch.float32), torch.randint(0, 500, (2, 60))
    with torch.inference_mode():
        due = network(tokens, Cache(config, 2, 60))
        got = network(tokens, Cache(config, 2, 60, bits=8))
    assert float((got - due).norm() / due.norm()) < 0.01
    assert not torch.equal(got, due)


def test_8_bits_keep_each_number_within_half_a_step_of_its_group() -> None:
    config = shape(256, 512, 4, 2, head_dim=96)  # groups of 48
    cache = Cache(config, 1, 8, bits=8)
    keys, values = (torch.randn(1, 2, 8, 96) * 5 for _ in range(2))
    kept = cache.append(0, keys, values)
    for before, after in zip((keys, values), kept, strict=True):
        steps = before.abs().unflatten(3, (2, 48)).amax(4) / 127
        assert ((before - after).abs().unflatten(3, (2, 48)).amax(4) <= 0.52 * steps).all()


def test_in_pieces_or_at_once_a_cache_of_8_bits_keeps_the_same() -> None:
    config = shape(256, 512, 4, 2)
    whole, pieces, other = (Cache(config, 1, 12, bits=8) for _ in range(3))
    keys, values = torch.randn(1, 2, 12, 64), torch.randn(1, 2, 12, 64)
    due = whole.append(0, keys, values)
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        got = pieces.append(0, keys[:, :, begin:end], values[:, :, begin:end])
        pieces.advance(end - begin)
    assert all(torch.equal(a, b) for a, b in zip(due, got, strict=True))
    other.put(0, pieces.copy(0, 12))
    assert all(torch.equal(a, b) for a, b in zip(other.copy(0, 12), whole.copy(0, 12), strict=True))
