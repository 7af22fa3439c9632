"""Whether it fits, told before anything is loaded; and what would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from zhen.checkpoint.load import load_model
from zhen.cli.serve import read_bytes
from zhen.errors import ZhenError
from zhen.infer.server import room
from zhen.model.cache import Cache
from zhen.model.config import PRESETS, to_config_json


def plan(folder: Path, **options: Any) -> room.Room:
    return room.plan(folder, **{"batch": 4, "max_context": None, "dtype": None, "device": None} | options)


def test_weights_and_cache_are_what_torch_then_holds(base_model: Path) -> None:
    found = plan(base_model)
    model = load_model(base_model)
    assert found.weights == sum(weight.nbytes for weight in model.parameters())
    cache = Cache(model.config, 1, found.context, model.lm_head.weight.dtype, "cpu")
    parts = [part for value in vars(cache).values() for part in (value if isinstance(value, list) else [value])]
    assert found.cache_token * found.context == sum(part.nbytes for part in parts if hasattr(part, "nbytes"))


def test_what_does_not_fit_is_refused_with_what_would(base_model: Path, monkeypatch: Any) -> None:
    fits = plan(base_model)
    least = fits.weights + fits.workspace + fits.cache_token * fits.context
    monkeypatch.setattr(room, "available", lambda device: least)
    assert plan(base_model).cache_tokens == fits.context
    monkeypatch.setattr(room, "available", lambda device: least - 1)
    with pytest.raises(ZhenError, match="are needed") as refused:
        plan(base_model)
    context = int(re.findall(r"--max-context (\d+)", str(refused.value.hint))[0])
    assert plan(base_model, max_context=context).cache_tokens == context
    with pytest.raises(ZhenError):
        plan(base_model, max_context=context + 1)


def test_where_not_all_fit_at_once_they_share_what_there_is(base_model: Path, monkeypatch: Any) -> None:
    fits = plan(base_model)
    room_for_two = fits.weights + fits.workspace + 2 * fits.cache_token * fits.context
    monkeypatch.setattr(room, "available", lambda device: room_for_two)
    found = plan(base_model)
    assert fits.context <= found.cache_tokens
    assert found.cache_tokens + found.prefix_tokens <= 2 * fits.context
    assert "what needs more waits" in found.lines()[1]


def test_weights_that_do_not_fit_are_offered_in_fewer_bits(base_model: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "available", lambda device: 1000)
    with pytest.raises(ZhenError) as refused:
        plan(base_model)
    assert re.fullmatch(r"what fits: its weights in 8 bits \(.*B\) or 4 \(.*B\)", str(refused.value.hint))


def test_the_context_is_the_models_or_less(base_model: Path) -> None:
    longest = json.loads((base_model / "config.json").read_text())["max_position_embeddings"]
    assert [plan(base_model, max_context=wish).context for wish in (None, 32, 10**9)] == [longest, 32, longest]


YI_34B_IN_4_BITS = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "ignore": [],
    "config_groups": {
        "group_0": {
            "targets": ["re:.*lm_head$", "re:.*embed_tokens$"],
            "weights": {"num_bits": 8, "group_size": 128},
        },
        "group_1": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}},
    },
}
CARD = int(22.35 * 2**30)
"""Bytes of a card that is sold as one of 24 GB."""


@pytest.mark.parametrize(("context", "cache_bits", "cache"), [(4096, 16, 0.94), (32_768, 8, 3.87)])
def test_yi_34b_in_4_bits_fits_on_a_card_of_24_gb(tmp_path: Path, context: int, cache_bits: Any, cache: float) -> None:
    shape = to_config_json(msgspec.structs.replace(PRESETS["yi-34b"], max_position_embeddings=context), "bfloat16")
    (tmp_path / "config.json").write_text(json.dumps(shape | {"quantization_config": YI_34B_IN_4_BITS}))
    found = plan(tmp_path, batch=1, cache_bits=cache_bits, memory=CARD)
    # by hand: 33.47e9 weights of 4 bits and 0.918e9 of 8, each with 16/128 bits of scale
    assert found.weights == pytest.approx((33.470 * 4.125 + 0.9175 * 8.125) / 8 * 1e9, rel=1e-3)
    assert context * found.cache_token / 2**30 == pytest.approx(cache, abs=0.01)
    assert found.weights + found.workspace + context * found.cache_token < CARD
    with pytest.raises(ZhenError, match="are needed"):
        plan(tmp_path, batch=1, cache_bits=cache_bits, memory=int(16e9))
    if cache_bits == 8:
        with pytest.raises(ZhenError) as refused:
            plan(tmp_path, batch=1, memory=CARD)
        assert "--cache-bits 8" in str(refused.value.hint)


@pytest.mark.parametrize(
    "said",
    [
        {"config_groups": None},
        {"config_groups": {"group_0": {"targets": ["Linear"]}}},
        {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": None}}}},
    ],
)
def test_a_config_that_does_not_say_its_groups_is_refused(tmp_path: Path, said: dict[str, Any]) -> None:
    config = to_config_json(PRESETS["yi-34b"], "bfloat16") | {"quantization_config": YI_34B_IN_4_BITS | said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZhenError, match="quantization_config"):
        plan(tmp_path, memory=CARD)


def test_a_config_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ZhenError, match="expected a table"):
        plan(tmp_path)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta", "CPU"])
def test_a_device_that_is_not_there_is_refused(base_model: Path, device: str) -> None:
    with pytest.raises(ZhenError, match="expected cpu"):
        plan(base_model, device=device)


def test_a_cache_of_8_bits_is_what_torch_then_holds(base_model: Path) -> None:
    found = plan(base_model, cache_bits=8)
    config = load_model(base_model).config
    assert found.cache_token * found.context == Cache(config, 1, found.context, torch.float32, bits=8).bytes
    assert found.cache_token < plan(base_model).cache_token / 2


@pytest.mark.parametrize(
    ("text", "bytes"), [("24GB", 24e9), ("22.35 GiB", 22.35 * 2**30), ("1000", 1000), ("5 B", 5), ("1.5kB", 1500)]
)
def test_sizes_are_read(text: str, bytes: float) -> None:
    assert read_bytes(text) == int(bytes)
    with pytest.raises(ZhenError):
        read_bytes(f"{text}x")
