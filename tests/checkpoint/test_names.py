"""Naming tables: one-to-one, invertible, nothing dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.names import SCHEMES, detect, from_llama, rename, to_llama
from zhen.errors import ZhenError
from zhen.model.config import PRESETS
from zhen.model.size import shapes

YI_6B = list(shapes(PRESETS["yi-6b"]))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_table_is_one_to_one_and_speaks_of_the_same_tensors(scheme: str) -> None:
    table = SCHEMES[scheme]
    assert len(set(table.values())) == len(table)
    assert set(table) == set(SCHEMES["llama"])
    assert all(("N" in ours) == ("N" in theirs) for ours, theirs in table.items())


@given(st.sampled_from(sorted(SCHEMES)), st.sampled_from(sorted(SCHEMES["llama"])), st.integers(0, 2000))
def test_there_and_back_is_the_same_name(scheme: str, shape: str, layer: int) -> None:
    name = shape.replace("N", str(layer))
    assert to_llama(from_llama(name, scheme), scheme) == name


def test_yi_differs_in_two_norms_only() -> None:
    changed = {old: new for old, new in rename(YI_6B, "llama", "yi").items() if old != new}
    assert changed["model.layers.31.input_layernorm.weight"] == "model.layers.31.ln1.weight"
    assert changed["model.layers.0.post_attention_layernorm.weight"] == "model.layers.0.ln2.weight"
    assert len(changed) == 64


def test_the_scheme_is_found_from_the_names() -> None:
    yi = list(rename(YI_6B, "llama", "yi").values())
    assert detect(YI_6B) == "llama"
    assert detect(yi) == "yi"
    assert detect([*yi, "model.layers.0.self_attn.rotary_emb.inv_freq"]) == "yi"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["model.layers.0.ln1.weight", "model.layers.1.input_layernorm.weight"],
        [*YI_6B, "model.layers.0.self_attn.q_proj.bias"],
        ["model.layers.00.ln1.weight"],
        ["model.layers.٣.ln1.weight"],
        ["model.layers.-1.ln1.weight"],
        ["model.layers.N.ln1.weight"],
    ],
)
def test_names_of_no_scheme_are_unknown(names: list[str]) -> None:
    assert detect(names) == "unknown"


def test_unmapped_tensors_are_listed() -> None:
    with pytest.raises(ZhenError, match=r"7 tensors without a name in \"yi\": x0, x1, x2, x3, x4, …"):
        rename(["lm_head.weight"] + [f"x{i}" for i in range(7)], "yi", "llama")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ZhenError, match="gpt"):
        rename([], "gpt", "llama")
