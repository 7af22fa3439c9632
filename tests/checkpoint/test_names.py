"""Naming tables: one-to-one, invertible, nothing dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.names import SCHEMES, detect, known, rename, unmapped
from zhen.checkpoint.schemes import LLAMA
from zhen.errors import ZhenError
from zhen.model.config import PRESETS
from zhen.model.size import shapes

YI_6B = list(shapes(PRESETS["yi-6b"]))


def under(scheme: str, layers: int = 2) -> list[str]:
    """Every name of a scheme that has a place in LLaMA, for a model of so many layers."""
    return [name.replace("N", str(n)) for n in range(layers) for name in SCHEMES[scheme].held()]


def test_llamas_table_is_its_decoder() -> None:
    assert {name.replace("N", str(n)) for n in range(32) for name in LLAMA} == set(YI_6B)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_table_is_one_to_one(scheme: str) -> None:
    places, others = SCHEMES[scheme].places, SCHEMES[scheme].others
    held = SCHEMES[scheme].held()
    assert list(places) == [name for name in LLAMA if name in places]
    assert sorted(part for parts in held.values() for part in parts) == sorted(places)
    assert {len(parts) > 1 for parts in held.values() if places[parts[0]].rule} <= {True}
    assert all(place.rule for place in places.values() if len(held[place.name]) > 1)
    assert not others & held.keys()
    assert all((".N." in ours) == (".N." in place.name) for ours, place in places.items())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_is_known_by_all_its_names(scheme: str) -> None:
    names = [name.replace("N", "0").replace(".E.", ".3.") for name in known(scheme)]
    assert detect(names) == scheme
    assert detect([*names, "model.layers.0.self_attn.rotary_emb.inv_freq"]) == scheme
    assert detect([*names, "model.layers.0.self_attn.strange.weight"]) == "unknown"
    assert len(unmapped(names, scheme)) == len(SCHEMES[scheme].others)


@given(st.sampled_from(["llama", "yi", "meta", "gguf"]), st.permutations([0, 1, 10, 299]))
def test_there_and_back_is_the_same_name(scheme: str, layers: list[int]) -> None:
    other = {"llama": "yi", "yi": "llama", "meta": "gguf", "gguf": "meta"}[scheme]
    names = [name.replace("N", str(n)) for n in layers for name in SCHEMES[scheme].held()]
    there = rename(names, scheme, other)
    assert len(set(there.values())) == len(set(names))
    assert rename(there.values(), other, scheme) == {new: old for old, new in there.items()}


def test_yi_differs_in_two_norms_only() -> None:
    changed = {old: new for old, new in rename(YI_6B, "llama", "yi").items() if old != new}
    assert changed["model.layers.31.input_layernorm.weight"] == "model.layers.31.ln1.weight"
    assert changed["model.layers.0.post_attention_layernorm.weight"] == "model.layers.0.ln2.weight"
    assert len(changed) == 64


@pytest.mark.parametrize("scheme", sorted(SCHEMES.keys() - {"llama", "yi", "qwen2", "internlm", "mixtral"}))
def test_what_is_more_than_names_is_sent_to_convert(scheme: str) -> None:
    with pytest.raises(ZhenError, match="more than names") as raised:
        rename(under(scheme), scheme, "llama")
    assert raised.value.hint == "zhen convert CHECKPOINT --to llama --out PATH"


def test_constants_keep_their_names() -> None:
    names = ["model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert list(rename(names, "llama", "yi").values()) == ["model.layers.0.ln1.weight", names[1]]
    assert unmapped(names, "llama") == []


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["model.layers.0.ln1.weight", "model.layers.1.input_layernorm.weight"],
        [*YI_6B, "model.layers.0.mlp.up_proj.bias"],
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
    with pytest.raises(ZhenError, match="mata") as raised:
        rename([], "mata", "llama")
    assert "meta" in str(raised.value.hint)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_of_names_lists_every_name(scheme: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "names.md").read_text()
    section = page.partition(f"\n### {scheme}\n")[2].partition("\n### ")[0]
    assert f"Rotary: {SCHEMES[scheme].rotary}." in section
    for llama, place in SCHEMES[scheme].places.items():
        line = next((line for line in section.splitlines() if f"| `{llama}`" in line or f"`{llama}`," in line), "")
        rule = f" ({place.rule})" if place.rule else ""
        assert f"`{place.name}`{rule} |" in section if place != (llama, None) else not line
    assert all(f"`{other}`" in section for other in SCHEMES[scheme].others)
