"""An unknown naming is read rightly or left open: planted namings, permutations counted by hand, trained models."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.by_loss import TextLosses
from zhen.checkpoint.load import tensor_bytes
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.templates import templates
from zhen.checkpoint.unknown import infer
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig
from zhen.model.size import shapes
from zhen.model.transformer import Transformer, initialise

GQA = ModelConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=27,
    max_position_embeddings=64,
)

OPAQUE = {
    "model.embed_tokens": "zip",
    "model.norm": "zap",
    "lm_head": "zop",
    "input_layernorm": "fa",
    "post_attention_layernorm": "fe",
    "q_proj": "fi",
    "k_proj": "fo",
    "v_proj": "fu",
    "o_proj": "ga",
    "gate_proj": "ge",
    "up_proj": "gi",
    "down_proj": "go",
}


def opaque(name: str) -> str:
    """Another name with the layer's number and no word left."""
    pieces = name.removesuffix(".weight").split(".")
    if "layers" in pieces:
        return f"x{pieces[2]}_{OPAQUE[pieces[-1]]}"
    return OPAQUE[".".join(pieces)]


def stored(
    folder: Path, model: Transformer, new: Mapping[str, str], config: dict[str, Any] | None = None
) -> Checkpoint:
    state = model.state_dict()
    tensors = [(new[name], "F32", tuple(state[name].shape), tensor_bytes(state[name])) for name in shapes(model.config)]
    random.Random(1).shuffle(tensors)
    write_sharded(folder, tensors, 10**9)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return open_checkpoint(folder)


def fresh(config: ModelConfig = GQA) -> Transformer:
    model = Transformer(config)
    initialise(model, 7)
    return model


def renamed(model: Transformer) -> dict[str, str]:
    return {name: opaque(name) for name in shapes(model.config)}


@given(st.integers(1, 9), st.permutations(["ab", "cd", "w1", "w2", "w3", "ln1", "ln2"]), st.sampled_from([0, 1]))
def test_parts_are_found_by_the_number_that_counts_layers(layers: int, words: list[str], first: int) -> None:
    named = {f"m.{layer + first}.{word}.weight": (4, 4) for layer in range(layers) for word in words}
    parts, alone = templates({**named, "m.norm": (4,)})
    assert {part.name for part in parts} == {f"m.N.{word}.weight" for word in words}
    assert all(part.members == tuple(f"m.{layer + first}.{part.name[4:]}" for layer in range(layers)) for part in parts)
    assert [each.name for each in alone] == ["m.norm"]


def test_shapes_leave_the_pairs_that_have_one_shape(tmp_path: Path) -> None:
    model = fresh()
    found = infer(stored(tmp_path, model, renamed(model)))
    assert not found.certain
    assert found.remaining == 2**5  # q and o are of one shape, k and v, gate and up, the norms, embedding and head
    assert len(found.open) == 5
    assert len(found.maps) == 4


def test_sizes_in_the_config_rule_maps_out(tmp_path: Path) -> None:
    square = ModelConfig(**{**as_fields(GQA), "num_key_value_heads": 4, "intermediate_size": 32})
    model = fresh(square)
    without = infer(stored(tmp_path, model, renamed(model)))
    assert without.remaining == 2 * 2 * 5040  # seven square matrices, two norms, two tables
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ZhenError, match="no way to read"):
        infer(stored(other, model, renamed(model), {"intermediate_size": 99}))


def as_fields(config: ModelConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__struct_fields__ if name != "head_dim"}


@pytest.mark.parametrize(
    "words",
    [
        ("attn.query", "attn.key", "attn.value", "attn.out", "ffn.gate", "ffn.up", "ffn.down", "attn_norm", "ffn_norm"),
        ("att.wq", "att.wk", "att.wv", "att.wo", "mlp.gate", "mlp.up", "mlp.down", "ln1", "ln2"),
    ],
)
def test_words_in_the_names_decide_and_are_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    roles = [name for name in OPAQUE if name.endswith("_proj")] + ["input_layernorm", "post_attention_layernorm"]
    said = dict(zip(roles, words, strict=True))
    outside = {"model.embed_tokens.weight": "tok.embed", "model.norm.weight": "fin", "lm_head.weight": "head"}
    model = fresh()
    new = {
        name: outside.get(name) or f"blocks.{name.split('.')[2]}.{said[name.split('.')[-2]]}.w" for name in shapes(GQA)
    }
    found = infer(stored(tmp_path, model, new))
    assert found.certain
    assert found.maps == [{theirs: llama for llama, theirs in new.items()}]
    assert {each.by for each in found.evidence} == {"shape", "words"}


def test_further_tensors_are_listed_not_dropped(tmp_path: Path) -> None:
    model = fresh()
    state = {renamed(model)[name]: tensor for name, tensor in model.state_dict().items()}
    state |= {f"x{layer}_hum": torch.zeros(3) for layer in range(2)}
    write_sharded(tmp_path, [(n, "F32", tuple(t.shape), tensor_bytes(t)) for n, t in state.items()], 10**9)
    with pytest.raises(ZhenError, match=r"xN_hum \[3\]"):
        infer(open_checkpoint(tmp_path))


class Letters:
    """A tokenizer of one token a letter."""

    end_of_text = 26

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]


def chain(count: int) -> list[str]:
    """Texts in which each letter says what the next two are: easy to learn, far from equal frequencies."""
    chance = random.Random(3)
    rule = {letter: chance.sample("abcdefghijkl", 2) for letter in "abcdefghijkl"}
    texts = []
    for _ in range(count):
        text = chance.choice("abcdefghijkl")
        while len(text) < 60:
            text += chance.choice(rule[text[-1]])
        texts.append(text)
    return texts


@pytest.fixture(scope="module")
def trained() -> Transformer:
    model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.tensor([Letters().encode(text) for text in chain(512)])
    for step in range(150):
        batch = ids[step * 16 % 512 :][:16]
        loss = torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("config", [None, {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}])
def test_the_loss_finds_the_right_map_of_a_trained_model(
    tmp_path: Path, trained: Transformer, config: dict[str, Any] | None
) -> None:
    checkpoint = stored(tmp_path, trained, renamed(trained), config)
    found = infer(checkpoint, TextLosses(checkpoint, Letters(), chain(256)))
    right = {theirs: llama for llama, theirs in renamed(trained).items()}
    assert right in found.maps
    assert found.remaining <= 4
    assert found.certain is (found.maps == [right])


def test_a_model_that_has_learnt_nothing_is_no_witness(tmp_path: Path) -> None:
    model = fresh()
    checkpoint = stored(tmp_path, model, renamed(model))
    found = infer(checkpoint, TextLosses(checkpoint, Letters(), chain(256)))
    assert found.remaining == 2**5
    assert "that tells nothing" in found.evidence[-1].text


def test_names_that_lie_are_not_believed(tmp_path: Path, trained: Transformer) -> None:
    new = renamed(trained)
    for layer in range(2):
        gate, up = (f"model.layers.{layer}.mlp.{part}_proj.weight" for part in ("gate", "up"))
        new |= {gate: f"x{layer}_up", up: f"x{layer}_gate"}
    checkpoint = stored(tmp_path, trained, new)
    assert any("gate" in each.text for each in infer(checkpoint).evidence)
    found = infer(checkpoint, TextLosses(checkpoint, Letters(), chain(256)))
    assert not found.certain
    assert {theirs: llama for llama, theirs in new.items()} in found.maps


def test_too_little_text_is_said(tmp_path: Path) -> None:
    model = fresh()
    checkpoint = stored(tmp_path, model, renamed(model))
    with pytest.raises(ZhenError, match="--text: 4 tokens; expected at least"):
        TextLosses(checkpoint, Letters(), ["abc"])


def test_what_is_given_leaves_only_maps_that_agree(tmp_path: Path) -> None:
    model = fresh()
    right = renamed(model)
    given = {right[f"model.layers.0.{part}.weight"]: f"model.layers.0.{part}.weight" for part in GIVEN}
    given[right["lm_head.weight"]] = "lm_head.weight"
    found = infer(stored(tmp_path, model, right), given=given)
    assert found.certain
    assert found.maps == [{theirs: llama for llama, theirs in right.items()}]
    with pytest.raises(ZhenError, match="what the shapes allow"):
        infer(open_checkpoint(tmp_path), given={right["model.norm.weight"]: "lm_head.weight"})


GIVEN = ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "input_layernorm")
