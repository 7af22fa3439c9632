"""What is printed: text as it is, one line that fits, nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

import zhen.console as console
from zhen.console import Line, duration, size, table, visible

HOSTILE = "[/bold] :fire: [link=x] \x1b]0;title\x07 \udcff \u202e \\"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Standard error as a terminal of 40 columns; what stands there."""
    monkeypatch.setattr(console, "err", Console(stderr=True, force_terminal=True, width=40, emoji=False))
    return lambda: capsys.readouterr().err


def test_a_table_shows_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print(table((HOSTILE, "b"), [(HOSTILE, "x"), ("[red]1[/red]", "汉\u3000字")]))
    shown = capsys.readouterr().out
    assert "[/bold] :fire: [link=x] \\x1b]0;title\\x07 \\udcff \\u202e \\" in shown
    assert "[red]1[/red]" in shown
    assert "汉\u3000字" in shown


def test_a_stages_last_word_and_notes_are_text_too(screen: Callable[[], str]) -> None:
    line = Line("data")
    line.update(1, 2, "pages", HOSTILE)
    line.note(HOSTILE)
    line.close(HOSTILE)
    shown = screen()
    assert "\x1b]0" not in shown
    assert shown.count("[link=x]") == 2


def test_the_live_line_fits_the_terminal_in_cells_of_wide_characters(screen: Callable[[], str]) -> None:
    Line("data").update(1, 2, "页", "汉字" * 40 + "\n")
    shown = screen().removeprefix("\r\x1b[2K")
    assert cell_len(shown) <= 39
    assert "\n" not in shown


def test_line_ends_and_both_scripts_stay_visible() -> None:
    assert visible("a\nб 汉\u3000\xa0é\t") == "a\nб 汉\u3000\xa0é\\t"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (duration(8.04), "8.0 s"),
        (duration(59.6), "1 min 00 s"),
        (duration(12_000), "3 h 20 min"),
        (size(512), "512 B"),
        (size(8_100), "8.1 kB"),
    ],
)
def test_times_and_sizes_read_well(shown: str, expected: str) -> None:
    assert shown == expected
