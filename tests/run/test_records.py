"""Keys and records: what they depend on, what they can hold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.errors import ZhenError
from zhen.formats.record import Figure, Host, Record, key_of, read_record, write_record

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def turned(value: object) -> object:
    """The same value with every dictionary in the reverse order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@given(TREES)
def test_a_key_does_not_depend_on_the_order_of_tables(value: object) -> None:
    assert key_of({"value": value}) == key_of({"value": turned(value)})


def test_a_key_of_a_name_that_is_no_unicode_is_an_error() -> None:
    with pytest.raises(ZhenError, match="not valid Unicode"):
        key_of({"path": "a\udcff.txt"})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_leaves_a_record_that_can_be_read(tmp_path: Path, value: float) -> None:
    record = Record(
        stage="s",
        version=1,
        key="k",
        sections={},
        after={},
        inputs=[],
        outputs=[],
        command=["zhen"],
        versions={},
        host=Host("cpu", 1, 1, 1),
        started="2023-11-14T00:00:00+00:00",
        seconds=1.0,
        resumed=0,
        figures={"loss": Figure(value, "nats"), "name": Figure("真", "")},
    )
    write_record(tmp_path, record)
    found = read_record(tmp_path)
    assert found is not None
    assert found.figures == {"loss": Figure(None, "nats"), "name": Figure("真", "")}
