"""Small benchmark files in the published formats, and a random model with a tokenizer learned from them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.checkpoint.load import save_model
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings

SENTENCE = "the town of Mira has a red flag and sells soup pears bread to people by the river"
ENGLISH = SENTENCE.split()
CHINESE = tuple("米拉镇有红色的旗子卖汤面包和梨给住在河边桥头的人们他说今天很好")


class Words:
    """Sentences that differ, drawn from few words."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def en(self, least: int = 3, most: int = 9) -> str:
        return " ".join(self._random.choice(ENGLISH, self._random.integers(least, most)))

    def zh(self, least: int = 4, most: int = 12) -> str:
        return "".join(self._random.choice(CHINESE, self._random.integers(least, most)))

    def number(self, below: int) -> int:
        return int(self._random.integers(below))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, names: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def write_benchmarks(folder: Path) -> Path:
    """Six tasks of a few items each."""
    words = Words(1)
    for subject in ("astronomy", "virology"):
        names = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
        for split, count in (("test", 6), ("dev", 5)):
            rows = [[words.en() + "?", *(words.en(1, 4) for _ in range(4)), words.number(4)] for _ in range(count)]
            write_csv(folder / "mmlu" / split / f"{subject}_{split}.csv", names, rows)
            rows = [
                [at, words.zh() + "？", *(words.zh(1, 5) for _ in range(4)), "ABCD"[words.number(4)]]
                for at in range(count)
            ]
            write_csv(folder / "cmmlu" / split / f"{subject}.csv", ["", "Question", *"ABCD", "Answer"], rows)
    arc = [
        {
            "id": str(at),
            "question": words.en() + "?",
            "choices": {"text": [words.en(1, 5) for _ in range(4)], "label": list("ABCD")},
            "answerKey": "ABCD"[words.number(4)],
        }
        for at in range(12)
    ]
    write_lines(folder / "arc-challenge" / "test.jsonl", arc[:8])
    write_lines(folder / "arc-challenge" / "train.jsonl", arc[8:])
    write_lines(
        folder / "hellaswag" / "validation.jsonl",
        [
            {
                "activity_label": "Roof",
                "ctx_a": words.en(),
                "ctx_b": words.en(1, 4),
                "endings": [words.en() + " [step]." for _ in range(4)],
                "label": str(words.number(4)),
            }
            for _ in range(12)
        ],
    )
    for split, count in (("test", 2), ("train", 6)):
        rows = [{"question": words.en(), "answer": f"{words.en()} <<1+1=2>>2\n#### {at}"} for at in range(count)]
        write_lines(folder / "gsm8k" / f"{split}.jsonl", rows)
    gaokao = [
        {"question": f"{at}. {words.zh()}\nA. 米\nB. 拉\nC. 镇\nD. 河\n", "answer": ["ABCD"[words.number(4)]]}
        for at in range(5)
    ]
    gaokao.append(
        {"question": f"{words.zh()}\n36. A. 米 B. 拉 C. 镇 D. 河\n37. A. 人 B. 桥 C. 面 D. 汤", "answer": ["A", "C"]}
    )
    (folder / "gaokao-bench").mkdir()
    (folder / "gaokao-bench" / "Biology.json").write_text(json.dumps({"example": gaokao}, ensure_ascii=False))
    return folder


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


def random_model(folder: Path, tokenizer: Path, seed: int = 1, context_length: int = 2048) -> Path:
    """A LLaMA whose weights are wide enough that choices are far apart."""
    ids = load_tokenizer(tokenizer)
    config = ModelConfig(
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=ids.vocab_size,
        max_position_embeddings=context_length,
        initializer_range=0.1,
        bos_token_id=ids.start_of_text,
        eos_token_id=ids.end_of_text,
    )
    model = Transformer(config)
    initialise(model, seed)
    with torch.no_grad():
        # bytes that are no text are shown differently by two decoders: they are never the likeliest
        model.lm_head.weight[3:259] = 0
    folder.mkdir(parents=True)
    save_model(model, folder, "float32", tokenizer, context_length)
    return folder


def learned_tokenizer(folder: Path, texts: list[str], pieces: int) -> Path:
    folder.mkdir(parents=True)
    settings = TokenizerSettings(vocab_size=pieces, character_coverage=0.995)
    for name, content in export_files(learn_model(texts, settings)).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = Words(2)
    texts = [words.en(5, 40) for _ in range(300)] + [words.zh(5, 60) for _ in range(300)]
    return learned_tokenizer(tmp_path_factory.mktemp("benchmark-tokenizer") / "pieces", texts, 512)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    return random_model(tmp_path_factory.mktemp("benchmark-model") / "random", tokenizer_folder)


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaMA of 8,192 pieces learned from real text in both languages."""
    import zstandard

    texts: list[str] = []
    for name in ("en/wikitext2-valid", "zh/wikipedia-cmrc", "zh/d2l", "en/sherlock-holmes"):
        with zstandard.open(shared_data / "text" / f"{name}.jsonl.zst", "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line in file]
    folder = tmp_path_factory.mktemp("real")
    return random_model(folder / "random", learned_tokenizer(folder / "pieces", texts, 8192))


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tokenizer, other weights."""
    words = Words(3)
    texts = [words.en(5, 40) for _ in range(300)] + [words.zh(5, 60) for _ in range(300)]
    folder = tmp_path_factory.mktemp("other")
    return random_model(folder / "other", learned_tokenizer(folder / "pieces", texts, 480), seed=2)


@pytest.fixture(scope="session")
def other_pieces() -> Callable[[Path, Path], Path]:
    """Makes of a model, in a folder, one of the same weights with as many other pieces."""

    def make(model: Path, folder: Path) -> Path:
        words = Words(9)
        texts = [words.en(5, 40)[::-1] for _ in range(300)] + [words.zh(5, 60) for _ in range(300)]
        pieces = learned_tokenizer(folder / "pieces", texts, 512)
        copy = shutil.copytree(model, folder / model.name)
        for path in pieces.iterdir():
            shutil.copyfile(path, copy / path.name)
        return copy

    return make


@pytest.fixture(scope="session")
def with_texts(benchmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark files with a long text beside them."""
    folder = shutil.copytree(benchmarks, tmp_path_factory.mktemp("with-texts") / "data")
    words = Words(5)
    (folder / "long-text" / "en").mkdir(parents=True)
    (folder / "long-text" / "en" / "a.txt").write_text(". ".join(words.en() for _ in range(200)), encoding="utf-8")
    return folder


@pytest.fixture
def ceval(tmp_path: Path) -> tuple[Path, list[str]]:
    """The official archive, unpacked, with a few questions a subject; `test` without its answers, as published."""
    import lm_eval.tasks

    settings = Path(lm_eval.tasks.__file__).parent / "ceval"
    names = sorted(path.stem.removeprefix("ceval-valid_") for path in settings.glob("ceval-valid_*.yaml"))
    words = Words(7)
    explained = "1. 见教材，\n如此"
    for name in names:
        for split, count in (("dev", 5), ("val", 2), ("test", 3)):
            columns = ["id", "question", *"ABCD"] + ["answer", "explanation"] * (split != "test")
            rows: list[list[object]] = [
                [at, words.zh() + "____。", *(words.zh(1, 4) for _ in "ABCD"), "ABCD"[words.number(4)], explained]
                for at in range(count)
            ]
            path = tmp_path / "ceval" / split / f"{name}_{split}.csv"
            write_csv(path, columns, [row[: len(columns)] for row in rows])
    return tmp_path, names
