"""What the closing table says of a tuned model."""

from __future__ import annotations

import json
from pathlib import Path

from zhen.formats.record import Figure, Record, this_host
from zhen.release.summary import Run, chat_sentence


def record(stage: str, **figures: Figure) -> Record:
    return Record(
        stage=stage, version=1, key="0" * 64, sections={}, after={}, inputs=[], outputs=[], command=[], versions={},
        host=this_host(), started="", seconds=1.0, resumed=0,
        figures={name.replace("_", "."): figure for name, figure in figures.items()}, events=[],
    )  # fmt: skip


def run_of(folder: Path, shares: dict[str, list[float]]) -> Run:
    rows = [
        {"model": model, "kind": kind, "metric": "right", "lang": lang, "score": share, "n": 50}
        for model, found in shares.items()
        for lang, share in zip(("en", "zh"), found, strict=True)
        for kind in ("B", "A")
    ]
    (folder / "results.json").write_text(json.dumps({"dialogue": rows}))
    records = {"pretrain": record("pretrain"), "tune": record("tune")}
    records["evaluate"] = record("evaluate", dialogue_stops=Figure(0.995))
    return Run(records, {"evaluate": folder})


def test_the_shares_before_and_after_are_said_in_both_languages(tmp_path: Path) -> None:
    said = chat_sentence(run_of(tmp_path, {"pretrain": [0.02, 0.0], "tune": [0.8, 0.9]}))
    assert "85 % of what no dialogue asks (before tuning: 1 %)" in said
    assert "85 %（微调前 1 %）" in said.zh


def test_nothing_is_said_where_the_released_model_was_not_asked(tmp_path: Path) -> None:
    assert not chat_sentence(run_of(tmp_path, {"pretrain": [0.02, 0.0]}))
