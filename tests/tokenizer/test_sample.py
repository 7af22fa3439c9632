"""The sample: equal bytes by source, a pure function of documents and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.errors import ZhenError
from zhen.tokenizer.sample import Drawn, draw_sample, equal_shares

Rows = list[tuple[str, str, str]]
ROWS: Rows = [
    *((f"large {number} " + "x" * 90, "large", "en") for number in range(300)),
    *((f"middle 第{number}篇" + "湖" * 30, "middle", "zh") for number in range(200)),
    *((f"small {number}", "small", "en") for number in range(5)),
]


def draw(files: list[Path], size: int = 10_000, seed: int = 1) -> list[Drawn]:
    return draw_sample(files, size, seed, lambda documents: None)


def test_sources_share_equally_and_a_small_one_gives_all(tmp_path: Path, write_documents: Callable[..., None]) -> None:
    write_documents(tmp_path / "a.parquet", ROWS)
    sizes: Counter[str] = Counter()
    for item in draw([tmp_path / "a.parquet"]):
        sizes[item.source] += len(item.text.encode("utf-8"))
    assert sizes["small"] == sum(len(f"small {number}") for number in range(5))
    assert sizes["large"] == pytest.approx(sizes["middle"], abs=4)
    assert 10_000 - 8 <= sum(sizes.values()) <= 10_000


def test_the_sample_depends_on_documents_and_seed_not_on_files(
    tmp_path: Path, write_documents: Callable[..., None]
) -> None:
    write_documents(tmp_path / "whole.parquet", ROWS)
    whole = draw([tmp_path / "whole.parquet"])
    assert draw([tmp_path / "whole.parquet"]) == whole
    assert draw([tmp_path / "whole.parquet"], seed=2) != whole
    assert whole == sorted(whole, key=lambda item: item.source)


def test_a_large_enough_sample_is_everything(tmp_path: Path, write_documents: Callable[..., None]) -> None:
    write_documents(tmp_path / "a.parquet", ROWS[:150])
    write_documents(tmp_path / "b.parquet", ROWS[150:])
    drawn = draw([tmp_path / "a.parquet", tmp_path / "b.parquet"], size=1 << 30)
    assert sorted(drawn) == sorted(Drawn(source, lang, text) for text, source, lang in ROWS)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10_000), max_size=8), st.integers(0, 50_000))
def test_shares_are_equal_unless_a_source_is_smaller(sizes: dict[str, int], total: int) -> None:
    shares = equal_shares(sizes, total)
    assert all(shares[name] <= sizes[name] for name in sizes)
    assert sum(shares.values()) <= total
    assert sum(shares.values()) >= min(total, sum(sizes.values())) - len(sizes)
    cut = [shares[name] for name in sizes if shares[name] < sizes[name]]
    assert all(max(shares.values()) - share <= len(sizes) for share in cut)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ZhenError, match=r"a\.parquet: cannot be read as Parquet"):
        draw([tmp_path / "a.parquet"])
