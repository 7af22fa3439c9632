"""A small run whose stages have records, and the release that the stage makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from zhen.audit.manifest import MANIFEST, UNLISTED, render_manifest
from zhen.checkpoint.load import save_model
from zhen.formats.files import sha256_file, write_bytes
from zhen.formats.record import Figure, Host, Output, Record, write_record
from zhen.formats.stage import Context
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer
from zhen.release.settings import ReleaseSettings
from zhen.release.stage import release
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

LENGTH = 64
VOCABULARY = 340
FIGURES = {
    "data.scan": {"pages": Figure(120, "pages")},
    "tokenizer": {"vocab_size": Figure(VOCABULARY, "pieces")},
    "shards": {"tokens": Figure(54_321, "tokens"), "documents": Figure(110, "documents")},
    "pretrain": {"parameters": Figure(31_234, "parameters"), "tokens": Figure(40_960, "tokens")},
    "evaluate": {
        "bits_per_byte.pretrain.en": Figure(1.2345678901, "bits/byte", n=12, stderr=0.01),
        "bits_per_byte.pretrain.zh": Figure(1.1, "bits/byte", n=12, stderr=0.01),
        "bits_per_byte.kneser-ney.en": Figure(1.5, "bits/byte", n=12, stderr=0.01),
        "bits_per_byte.xz -9.zh": Figure(2.5, "bits/byte", n=12),
        "margin_over_kneser_ney.en": Figure(17.7, "%", n=12, stderr=0.2),
        "kneser_ney_tokens": Figure(51_413, "tokens"),
    },
}


class Quiet:
    """A live line that nobody watches."""

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class Made:
    """The stages' folders, and what calls the release stage on a folder."""

    stages: dict[str, Path]
    release: Callable[[Path], Context]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("run")
    texts = [f"The town of Mira has {number} bridges. 米拉镇有{number}座桥。" for number in range(300)]
    tokenizer = root / "tokenizer"
    tokenizer.mkdir()
    for name, content in export_files(learn_model(texts, TokenizerSettings(vocab_size=VOCABULARY))).items():
        write_bytes(tokenizer / name, content)
    config = ModelConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
    )
    torch.manual_seed(1)
    save_model(Transformer(config), root / "pretrain" / "checkpoint", "bfloat16", tokenizer, LENGTH)
    stages = {name: root / name for name in FIGURES}
    for name, folder in stages.items():
        folder.mkdir(exist_ok=True)
        write_record(folder, _record(name, folder))
    return Made(stages, lambda folder: _release(stages, folder))


@pytest.fixture
def released(made: Made, tmp_path: Path) -> Path:
    """A fresh release, to be damaged."""
    folder = tmp_path / "release"
    made.release(folder)
    return folder


@pytest.fixture(scope="session")
def fuzzed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release without manifest, of which single files are changed and put back."""
    folder = tmp_path_factory.mktemp("fuzzed") / "release"
    made.release(folder)
    (folder / MANIFEST).unlink()
    return folder


def _release(stages: dict[str, Path], folder: Path) -> Context:
    folder.mkdir(exist_ok=True)
    sections: dict[str, Any] = {"release": ReleaseSettings(), "run.name": "micro"}
    context = Context(folder, sections, stages, Quiet(), lambda: False, workers=1)
    context.figures = release(context)  # type: ignore[attr-defined]
    return context


def _record(stage: str, folder: Path) -> Record:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sections: dict[str, Any] = {"run.seed": 1}
    if stage == "data.scan":
        path = "https://user:secret@example.org/pages.warc.gz?token=abc"
        sections["data.sources"] = [{"name": "web", "path": path, "license": "CC0-1.0"}]
    if stage == "pretrain":
        sections["pretrain"] = {"sequence_length": LENGTH}
        sections["model"] = {"num_hidden_layers": 2, "hidden_size": 32}
    return Record(
        stage=stage,
        version=1,
        key="0" * 64,
        sections=sections,
        after={},
        inputs=[],
        outputs=[_output(path, folder) for path in files],
        command=["zhen", "run", "/home/somebody/recipes/micro.toml"],
        versions={},
        host=Host("cpu", 2, 1, 1 << 30),
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        resumed=0,
        figures=FIGURES[stage],
    )


def _output(path: Path, folder: Path) -> Output:
    return Output(path.relative_to(folder).as_posix(), *sha256_file(path), "result")


@pytest.fixture(scope="session")
def reseal() -> Callable[[Path], None]:
    """What writes the manifest anew, as someone would who wants a changed file to go unnoticed."""

    def write(folder: Path) -> None:
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        digests = {name: sha256_file(folder / name) for name in names if name not in UNLISTED}
        (folder / MANIFEST).write_text(render_manifest(digests), encoding="utf-8")

    return write
