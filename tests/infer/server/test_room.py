"""Whether it fits, told before anything is loaded; and what would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from zhen.checkpoint.load import load_model
from zhen.errors import ZhenError
from zhen.infer.server import room
from zhen.model.cache import Cache


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
