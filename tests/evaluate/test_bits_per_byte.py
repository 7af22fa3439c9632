"""Means over documents and their standard errors, against resampling; `xz -9` against the program."""

from __future__ import annotations

import math
import shutil
import subprocess

import msgspec
import numpy as np
import pytest

from zhen.evaluate.bits_per_byte import Item, change, margin, mean_bits_per_byte, xz_bits_per_byte
from zhen.evaluate.held_out import Group
from zhen.evaluate.short_text import short_text_figures, short_text_rows


def made_items(seed: int, n: int = 400) -> list[Item]:
    random = np.random.default_rng(seed)
    sizes = random.integers(200, 2000, size=n)
    nlls = sizes * random.normal(0.9, 0.1, size=n)
    pairs = zip(sizes.tolist(), nlls.tolist(), strict=True)
    return [Item("web", "en", index, size // 4, size, nll) for index, (size, nll) in enumerate(pairs)]


def test_uniform_guessing_of_bytes_is_eight_bits() -> None:
    items = [Item("web", "en", i, size, size, size * math.log(256)) for i, size in enumerate([3, 50, 700])]
    mean = mean_bits_per_byte(items)
    assert (mean.score, mean.n) == (pytest.approx(8, rel=1e-12), 3)
    assert mean.stderr == pytest.approx(0, abs=1e-9)
    assert mean_bits_per_byte(items[:1]).stderr is None


def test_standard_errors_are_those_of_resampled_documents() -> None:
    items = made_items(1)
    pairs = zip(items, made_items(2), strict=True)
    reference = [msgspec.structs.replace(item, nll=0.3 * item.nll + other.nll) for item, other in pairs]
    draws = np.random.default_rng(3).integers(0, len(items), size=(2000, len(items)))
    nlls = np.array([item.nll for item in items])
    sizes = np.array([item.bytes for item in items])
    others = np.array([item.nll for item in reference])
    bits = nlls[draws].sum(1) / sizes[draws].sum(1) / math.log(2)
    margins = 100 * (1 - nlls[draws].sum(1) / others[draws].sum(1))
    # the spread of 2000 resamplings is itself known to 1.6 %
    assert mean_bits_per_byte(items).stderr == pytest.approx(bits.std(), rel=0.08)
    assert margin(items, reference).stderr == pytest.approx(margins.std(), rel=0.08)


def test_half_the_bits_are_a_margin_of_fifty_per_cent() -> None:
    items = made_items(1, n=9)
    reference = [msgspec.structs.replace(item, nll=2 * item.nll) for item in items]
    found = margin(items, reference)
    assert (found.score, found.stderr) == (pytest.approx(50), pytest.approx(0, abs=1e-9))


def test_a_change_is_measured_in_pairs() -> None:
    before, noise = made_items(1), made_items(2)
    after = [msgspec.structs.replace(a, nll=1.01 * a.nll + 0.01 * b.nll) for a, b in zip(before, noise, strict=True)]
    draws = np.random.default_rng(3).integers(0, len(before), size=(2000, len(before)))
    more = np.array([b.nll - a.nll for a, b in zip(before, after, strict=True)])
    sizes = np.array([item.bytes for item in before])
    changes = more[draws].sum(1) / sizes[draws].sum(1) / math.log(2)
    found = change(before, after)
    assert found.score == pytest.approx(mean_bits_per_byte(after).score - mean_bits_per_byte(before).score, rel=1e-9)
    assert found.stderr == pytest.approx(changes.std(), rel=0.08)
    assert found.stderr < mean_bits_per_byte(before).stderr / 10


def test_short_texts_are_those_that_the_shorter_context_holds() -> None:
    # a text of 64 tokens stands behind one more, and does not fit into 64
    before = [Item("web", lang, i, tokens, 100, 10.0) for lang in ("en", "zh") for i, tokens in enumerate((5, 63, 64))]
    after = [msgspec.structs.replace(item, nll=11.0 if item.tokens < 64 else 99.0) for item in before]
    rows = short_text_rows({"pretrain": before, "extend": after}, 64)
    assert [(row["lang"], row["n"], row["tokens"]) for row in rows] == [("en", 2, 64), ("zh", 2, 64)]
    assert rows[0]["change"] == pytest.approx(0.01 / math.log(2), abs=1e-6)
    assert short_text_figures(rows)["short_text_change.zh"].value == rows[1]["change"]
    assert not short_text_rows({"pretrain": before, "extend": after}, 5)


class Letters:
    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_xz_is_the_programs_own() -> None:
    xz = shutil.which("xz")
    if xz is None:
        pytest.skip("xz is not on PATH")
    texts = ["the town of Mira " * 9, "米拉镇有红色的旗子。" * 7]
    groups = [Group(f"s{i}", "en", [list(map(ord, text))], [len(text.encode())]) for i, text in enumerate(texts)]
    text = "".join(texts).encode()
    packed = subprocess.run([xz, "-9", "-c", "-T1"], input=text, capture_output=True, check=True).stdout
    wanted = 8 * len(packed) / len(text)
    # the program may choose another checksum, of a few bytes
    assert xz_bits_per_byte(groups, Letters()) == pytest.approx(wanted, abs=8 * 16 / len(text))  # type: ignore[arg-type]
