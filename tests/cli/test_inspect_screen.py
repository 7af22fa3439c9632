"""What `zhen inspect` shows: one screen, a tree of tensors, one JSON object."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from zhen.checkpoint.inspect import Stored, describe
from zhen.cli.app import run
from zhen.cli.inspected import screen, tree
from zhen.model.config import PRESETS, to_config_json


def shown(made: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(made)
    return console.export_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(to_config_json(PRESETS["yi-34b-200k"], "bfloat16")))
    return tmp_path


def test_one_screen_says_it_all(folder: Path) -> None:
    text = shown(screen("yi", describe(folder)[0]))
    assert len(text.splitlines()) <= 24
    assert "LLaMA's architecture" in text
    for label, value in {
        "layers": "60, width 7,168, feed-forward 20,480",
        "heads": "56 of 128, 8 for keys and values",
        "context": "200,000 tokens, rotary base 10,000,000",
        "vocabulary": "64,000, head and embedding apart",
        "parameters": r"34.4 B \(34,388,917,248\), embedding 458.8 M, a layer 557.9 M",
        "  weights of 16 bits": "69.8 GB +76.8 GB +117.9 GB",
        "  cache of 16 bits": ", 245.8 kB a token",
    }.items():
        assert re.search(rf"^{label} *{value}", text, re.MULTILINE), label


def test_what_departs_stands_under_its_heading(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "baichuan", "hidden_size": 5120, "attention_bias": True, "auto_map": "x.Y"})
    )
    text = shown(screen("b", describe(folder)[0]))
    assert "baichuan, differs from LLaMA in attention, position" in text
    assert re.search(r"^attention +attention_bias True; LLaMA has no biases", text, re.MULTILINE)
    assert re.search(r"^position +model_type 'baichuan' of 13B adds ALiBi", text, re.MULTILINE)
    assert "never run" in text


def test_equal_layers_are_one_branch() -> None:
    def tensor(*shape: int) -> Stored:
        return Stored(dtype="BF16", shape=list(shape), file="a")

    stored = {f"model.layers.{n}.mlp.{part}.weight": tensor(8, 4) for n in (0, 1, 10, 2, 3) for part in ("up", "down")}
    stored["model.layers.2.mlp.up.weight"] = tensor(9, 4)
    stored |= {f"model.layers.{n}.norm.weight": tensor(4) for n in (0, 1, 2, 3, 10)}
    lines = shown(tree("x", stored | {"lm_head.weight": tensor(7, 4)})).splitlines()
    labels = [re.sub(r"^[│├└─ ]+", "", line).rstrip() for line in lines]
    assert labels[0] == "x  16 tensors"
    assert [label for label in labels if re.match(r"\d", label)] == ["0..1", "2", "3", "10"]
    assert labels.count("up.weight  BF16 [8, 4]") == 3
    assert "lm_head.weight  BF16 [7, 4]" in labels


def test_a_name_that_is_also_a_part_of_names_is_shown() -> None:
    tensor = Stored(dtype=None, shape=None, file="a")
    text = shown(tree("x", {"a": tensor, "a.b": tensor, "c\x1b[2J": tensor}))
    assert "b" in text
    assert "\x1b" not in text


def test_json_is_one_object_with_the_tensors_where_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = {"weight_map": {"model.norm.weight": "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert run(["inspect", str(folder), "--json"]) == 0
    assert "stored" not in json.loads(capsys.readouterr().out)
    assert run(["inspect", str(folder), "--json", "--tensors"]) == 0
    stored = json.loads(capsys.readouterr().out)["stored"]
    assert stored == {"model.norm.weight": {"dtype": "BF16", "shape": None, "file": "a.safetensors"}}
