"""A small bilingual text and a tokenizer learnt from it, shared by the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

SMALL = TokenizerSettings(vocab_size=450, character_coverage=1.0)


def planted(documents: int = 120) -> list[str]:
    """Sentences in both languages with code, numbers and indentation, no two documents alike."""
    return [
        f"The lake festival of Elmbrook was first held in {1800 + number} by {number * 7} people.\n"
        f"    for day in range({number}):\n        print(day)\n"
        f"溪桥镇的湖灯节始于{1800 + number}年，有{number * 7}人参加，镇上的人都很高兴。"
        for number in range(documents)
    ]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return planted()


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer of 450 pieces learnt from `planted()`."""
    folder = tmp_path_factory.mktemp("learnt")
    for name, content in export_files(learn_model(planted(), SMALL)).items():
        (folder / name).write_bytes(content)
    return folder
