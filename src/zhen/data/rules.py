"""The rules, in one table: what is measured, which side of the threshold is kept, whose threshold it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zhen.data import signals
from zhen.data.settings import RulesSettings
from zhen.data.signals import Batch, Column

DUPLICATE = "exact-duplicate"
"""The rule behind the table's: of equal texts the first is kept."""

NEAR = "near-duplicate"
"""The rule behind that one: of texts that are nearly equal the first is kept."""


@dataclass(frozen=True)
class Rule:
    """A rule keeps documents whose signal is at least (`min`) or at most (`max`) a threshold."""

    name: str
    signal: str
    """The column that is compared; also what `signals` writes."""
    unit: str
    direction: Literal["min", "max"]
    settings: Mapping[str, str]
    """Language (`*`: any other) -> the field of RulesSettings that sets its threshold."""
    thresholds: Mapping[str, float]
    """Language (`*`: any other) -> threshold of the preset `bilingual`."""
    signals: Callable[[Batch], dict[str, Column]]
    source: str
    """Where the rule and its thresholds come from."""

    def limits(self, langs: NDArray[np.str_], settings: RulesSettings) -> NDArray[np.float32]:
        """float32[documents]: the threshold for each document by its language; NaN where there is none."""
        limits = np.full(len(langs), np.nan, dtype=np.float32)
        for lang in sorted(self.settings, key=lambda key: key != "*"):
            value = getattr(settings, self.settings[lang])
            if value is None and settings.preset == "bilingual":
                value = self.thresholds[lang]
            if value is not None:
                limits[slice(None) if lang == "*" else langs == lang] = value
        return limits

    def verdict(
        self, columns: Mapping[str, NDArray[np.generic]], settings: RulesSettings
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """bool[documents]: what is kept, and the thresholds it was compared with."""
        limits = self.limits(np.asarray(columns["lang"]), settings)
        values = np.asarray(columns[self.signal], dtype=np.float32)
        kept = values >= limits if self.direction == "min" else values <= limits
        return kept | np.isnan(limits), limits


RULES = (
    Rule(
        name="language",
        signal="language",
        unit="share of words",
        direction="min",
        settings={"*": "min_language"},
        thresholds={"*": 0.5},
        signals=signals.language,
        source="FineWeb asks fastText for 0.65, FineWeb2 for 0.69, ChineseWebText for 0.5; scripts are counted here",
    ),
    Rule(
        name="length",
        signal="characters",
        unit="characters",
        direction="min",
        settings={"zh": "min_characters_zh", "*": "min_characters_en"},
        thresholds={"zh": 50, "*": 150},
        signals=signals.characters,
        source="zh: MAP-NEO, at least 50 characters; en: half of CCNet's 300, so that short entries stay",
    ),
    Rule(
        name="word-characters",
        signal="word_characters",
        unit="share of characters",
        direction="min",
        settings={"*": "min_word_characters"},
        thresholds={"*": 0.6},
        signals=signals.word_characters,
        source="after Gopher (Rae et al. 2021, A.1.1: a letter in 0.8 of the words), by characters; pages of sums stay",
    ),
    Rule(
        name="duplicate-lines",
        signal="duplicate_lines",
        unit="share of characters",
        direction="max",
        settings={"*": "max_duplicate_lines"},
        thresholds={"*": 0.2},
        signals=signals.duplicate_lines,
        source="Gopher (Rae et al. 2021, table A1): characters in duplicate lines at most 0.20",
    ),
    Rule(
        name="symbols",
        signal="symbols",
        unit="per word",
        direction="max",
        settings={"*": "max_symbols"},
        thresholds={"*": 0.1},
        signals=signals.symbols,
        source="Gopher (Rae et al. 2021, A.1.1): # and ellipses at most 0.1 per word; FineWeb2 keeps 0.1 for Chinese",
    ),
)
"""In this order; the first rule that removes a document is the one that is named."""

NAMES = (*(rule.name for rule in RULES), DUPLICATE, NEAR)
"""All rules in the order in which they remove."""
