"""Views change order and nothing else: against numpy on arrays at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.views import chosen, joined, renamed, rows, views, written
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError

DATA = np.arange(24, dtype=np.uint16).reshape(6, 4)


def stored(folder: Path) -> dict[str, np.ndarray]:
    write_sharded(folder, [("a", "BF16", (6, 4), DATA.tobytes()), ("b", "F32", (2,), bytes(8))], 10**6)
    return views(open_checkpoint(folder))


def test_views_read_bits(tmp_path: Path) -> None:
    found = stored(tmp_path)
    assert np.array_equal(found["a"].read(), DATA)
    assert found["b"].read().dtype.itemsize == 4


def test_rows_order_and_joining_are_numpys(tmp_path: Path) -> None:
    view = stored(tmp_path)["a"]
    order = np.array([5, 0, 3])
    assert np.array_equal(rows(view, "r", 2, 3).read(), DATA[2:5])
    assert np.array_equal(chosen(view, "c", order).read(), DATA[order])
    side = joined([view, rows(view, "r", 0, 6)], "j", axis=1)
    assert side.shape == (6, 8)
    assert np.array_equal(side.read(), np.concatenate([DATA, DATA], axis=1))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    view = renamed(chosen(stored(tmp_path)["a"], "c", np.array([1, 0])), "new")
    (tmp_path / "new").mkdir()
    write_sharded(tmp_path / "new", [written(view)], 10**6)
    assert np.array_equal(views(open_checkpoint(tmp_path / "new"))["new"].read(), DATA[[1, 0]])


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    found = stored(tmp_path)
    with pytest.raises(ZhenError, match="to fit 'a'"):
        joined([found["a"], found["b"]], "j")
