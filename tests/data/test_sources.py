"""What a source is: folders, globs, files, addresses, variables; what is missing is said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.data.settings import Source
from zhen.data.sources import SourceFile, file_format, source_files, source_inputs
from zhen.data.units import plan_table, plan_units
from zhen.errors import ZhenError

Serve = Callable[[Path], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / ".git").mkdir()
    for name in ("z.txt", "a.jsonl.gz", "b/c.MD", ".hidden.txt", ".git/x.txt", "picture.png", "odd"):
        (tmp_path / "in" / name).write_bytes(b"data")
    return tmp_path / "in"


def paths(path: str) -> list[str]:
    return [file.path for file in source_files(Source(name="s", path=path), {})[0]]


def test_a_folder_is_gone_through_in_order(folder: Path) -> None:
    files, others = source_files(Source(name="s", path=str(folder)), {})
    assert [file.path for file in files] == ["a.jsonl.gz", "b/c.MD", "z.txt"]
    assert others == {".png": 1, "no suffix": 1}


def test_globs_files_and_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHEN_TEST_FOLDER", str(folder))
    assert paths(f"{folder}/*.txt") == ["z.txt"]
    assert paths(f"{folder}/**/*.MD") == ["b/c.MD"]
    assert paths("${ZHEN_TEST_FOLDER}/z.txt") == ["z.txt"]
    monkeypatch.chdir(folder)
    assert paths("b/*") == ["c.MD"]
    assert paths("z.txt") == ["z.txt"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/folder", "nothing here"),
        ("${ZHEN_NOT_SET_AT_ALL}/x", "ZHEN_NOT_SET_AT_ALL is not set"),
        ("{folder}/*.png", "no file that can be read"),
        ("sampleweb", "built-in web"),
        ("strange://x/y.txt", "strange:// cannot be read"),
    ],
)
def test_what_is_missing_is_said(folder: Path, path: str, message: str) -> None:
    with pytest.raises(ZhenError, match=message):
        paths(path.replace("{folder}", str(folder)))


def test_an_address_is_one_file(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    (file,), _ = source_files(Source(name="s", path=f"{server}/b/c.MD"), {})
    assert (file.path, file.bytes, file.remote) == ("c.MD", 4, True)
    with pytest.raises(ZhenError, match="cannot be reached"):
        paths(f"{server}/missing.txt")


def test_local_inputs_are_hashed_and_remote_ones_are_not(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    local, remote = Source(name="l", path=str(folder / "z.txt")), Source(name="r", path=f"{server}/z.txt")
    here, there = source_inputs([local, remote, Source(name="w", path="sampleweb")])
    assert (here.path, here.bytes, here.sha256) == ("l/z.txt", 4, hashlib.sha256(b"data").hexdigest())
    assert (there.path, there.sha256) == ("r/z.txt", None)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["a.jsonl", "b.jsonl.gz", "c.txt"]), st.integers(0, 10**9)), max_size=8),
        min_size=1,
        max_size=3,
    )
)
def test_units_hold_every_byte_once_and_are_of_one_source(listing: list[list[tuple[str, int]]]) -> None:
    sources = [
        [SourceFile(f"{index:02d}-{name}", f"/x/{index:02d}-{name}", size) for index, (name, size) in enumerate(files)]
        for files in listing
    ]
    units = plan_units(sources)
    assert [unit.index for unit in units] == list(range(len(units)))
    seen: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for unit in units:
        assert len({part.source for part in unit.parts}) == 1
        for part in unit.parts:
            window = (part.window.begin, part.window.end) if part.window else (0, part.bytes)
            seen.setdefault((part.source, part.path), []).append(window)
    for source, files in enumerate(sources):
        for file in files:
            windows = seen.pop((source, file.path))
            assert windows[0][0] == 0
            assert windows[-1][1] == file.bytes
            assert all(one[1] == two[0] for one, two in pairwise(windows))
            assert len(windows) == 1 or file_format(file.path) == ("jsonl", None)
    assert not seen


def test_the_plan_names_nothing_of_this_machine(folder: Path) -> None:
    files, others = source_files(Source(name="s", path=str(folder)), {})
    assert str(folder) not in str(plan_table(plan_units([files]), ["s"], [others]))
