"""The rules, in one table: what is measured, which side of the threshold is kept, whose threshold it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zhen.data.settings import RulesSettings

CONTAMINATION = "contamination"
"""The first rule behind the table: what gives a benchmark's item away is left out."""

LICENCE = "licence"
"""The next: where licences are listed, documents under others are left out."""

DUPLICATE = "exact-duplicate"
"""The rule behind the table's: of equal texts the first is kept."""

NEAR = "near-duplicate"
"""The rule behind that one: of texts that are nearly equal the first is kept."""

PARAGRAPH = "paragraph-duplicate"
"""The rule behind that one: too little is left without the paragraphs that very many documents have."""

GOPHER = "Gopher (Rae et al. 2021, A.1.1), as datatrove 0.10 counts"
FINEWEB = "FineWeb (Penedo et al. 2024), as datatrove 0.10 counts; fineweb2-zh: FineWeb2's cmn_Hani"
C4 = "C4 (Raffel et al. 2020), as datatrove 0.10 counts"
MAP = "MAP-NEO (Zhang et al. 2024), as its text means it"
OWN = "calibrated by us, see docs/data.md"

Thresholds = Mapping[str, float]
"""Language (`*`: any other) -> threshold."""


@dataclass(frozen=True)
class Rule:
    """A rule keeps documents whose signal is at least (`min`) or at most (`max`) a threshold."""

    name: str
    signal: str
    """The column that is compared."""
    unit: str
    direction: Literal["min", "max"]
    presets: Mapping[str, float | Thresholds]
    """Preset -> threshold for any language, or thresholds by language. Without an entry the rule does not apply."""
    source: str
    """Where the rule and its thresholds come from."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Language -> the field of RulesSettings that sets its threshold, where it is not `<direction>_<signal>`."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Language (`*`: any other) -> the field of RulesSettings that sets its threshold."""
        return self.settings or {"*": f"{self.direction}_{self.signal}"}

    def thresholds(self, preset: str) -> Thresholds:
        """The preset's thresholds by language; empty where the rule is not in it."""
        found = self.presets.get(preset, {})
        return found if isinstance(found, Mapping) else {"*": found}

    def in_force(self, settings: RulesSettings) -> dict[str, float | None]:
        """Language (`*`: any other, comes first) -> the threshold in force, or None."""
        chosen, fields = self.thresholds(settings.preset), self.fields
        limits: dict[str, float | None] = {}
        for lang in sorted({"*", *chosen, *fields}, key=lambda lang: (lang != "*", lang)):
            value = getattr(settings, fields.get(lang, fields["*"]))
            limits[lang] = chosen.get(lang, chosen.get("*")) if value is None else value
        return limits

    def limits(self, langs: NDArray[np.str_], settings: RulesSettings) -> NDArray[np.float32]:
        """float32[documents]: the threshold for each document by its language; NaN where there is none."""
        limits = np.full(len(langs), np.nan, dtype=np.float32)
        for lang, value in self.in_force(settings).items():
            limits[slice(None) if lang == "*" else langs == lang] = np.nan if value is None else value
        return limits

    def verdict(
        self, columns: Mapping[str, NDArray[np.generic]], settings: RulesSettings
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """bool[documents]: what is kept, and the thresholds it was compared with."""
        limits = self.limits(np.asarray(columns["lang"]), settings)
        values = np.asarray(columns[self.signal], dtype=np.float32)
        kept = values >= limits if self.direction == "min" else values <= limits
        return kept | np.isnan(limits), limits


def _gopher(value: float, zh: float | None = None, **more: float | Thresholds) -> dict[str, float | Thresholds]:
    """Gopher's threshold, which FineWeb takes over, FineWeb2's for Chinese, others by preset (`_` for `-`)."""
    found: dict[str, float | Thresholds] = {"gopher": value, "fineweb-en": value}
    if zh is not None:
        found["fineweb2-zh"] = zh
    return found | {preset.replace("_", "-"): value for preset, value in more.items()}


_SHARE = "share of characters"
_LINES = "share of lines"
_WORDS = "share of words"

RULES = (
    Rule(
        "language",
        "language",
        _WORDS,
        "min",
        {"bilingual": 0.5},
        "in Chinese or English; FineWeb asks fastText for 0.65, ChineseWebText for 0.5; scripts are counted here",
    ),
    Rule("english", "english", _WORDS, "min", {"fineweb-en": 0.65}, FINEWEB),
    Rule("chinese", "chinese", _WORDS, "min", {"fineweb2-zh": 0.692, "map-zh": 0.4}, f"{FINEWEB}; {MAP}"),
    Rule(
        "length",
        "characters",
        "characters",
        "min",
        {"bilingual": {"zh": 30, "*": 150}, "map-zh": {"zh": 50}},
        "map-zh: MAP-NEO; bilingual, zh: four lines of verse stay; en: half of CCNet's 300, so that short entries stay",
        {"zh": "min_characters_zh", "*": "min_characters_en"},
    ),
    Rule("greatest-length", "characters", "characters", "max", {"map-zh": {"zh": 10_000}}, MAP),
    Rule(
        "word-characters",
        "word_characters",
        _SHARE,
        "min",
        {"bilingual": 0.6},
        "after Gopher (a letter in 0.8 of the words), by characters; pages of sums stay",
    ),
    Rule("common-words", "common_words", _WORDS, "min", {"bilingual": {"en": 0.10, "zh": 0.10}}, OWN),
    Rule("spam-words", "spam_words", _WORDS, "max", {"bilingual": {"en": 0.03, "zh": 0.10}}, OWN),
    Rule("lures", "lures", "per word", "max", {"bilingual": 0.0002}, OWN),
    Rule("duplicate-lines", "duplicate_lines", _LINES, "max", _gopher(0.30, 0.287), GOPHER),
    Rule(
        "duplicate-line-characters",
        "duplicate_line_characters",
        _SHARE,
        "max",
        {"gopher": 0.20, "fineweb-en": 0.01, "fineweb2-zh": 0.1, "bilingual": 0.2},
        f"{GOPHER}; {FINEWEB}",
    ),
    Rule("duplicate-paragraphs", "duplicate_paragraphs", "share of paragraphs", "max", _gopher(0.30), GOPHER),
    Rule("duplicate-paragraph-characters", "duplicate_paragraph_characters", _SHARE, "max", _gopher(0.20), GOPHER),
    *(
        Rule(
            f"top-{n}-grams",
            f"top_{n}_grams",
            _SHARE,
            "max",
            _gopher(limit, zh, map_zh={"zh": limit}),
            f"{GOPHER}; fineweb2-zh: FineWeb2; map-zh: {MAP}",
        )
        for n, limit, zh in ((2, 0.20, 0.256), (3, 0.18, 0.201), (4, 0.16, 0.171))
    ),
    *(
        Rule(
            f"duplicated-{n}-grams",
            f"duplicated_{n}_grams",
            _SHARE,
            "max",
            _gopher(limit, zh, map_zh={"zh": 0.60}, **own),
            f"{GOPHER}; fineweb2-zh: FineWeb2; map-zh: {MAP}",
        )
        for n, limit, zh, own in (
            (5, 0.15, 0.198, {}),
            (6, 0.14, 0.182, {}),
            (7, 0.13, 0.167, {}),
            (8, 0.12, 0.154, {}),
            (9, 0.11, 0.140, {}),
            (10, 0.10, 0.127, {"bilingual": 0.5}),
        )
    ),
    Rule("words", "words", "words", "min", _gopher(50, 50), GOPHER),
    Rule("greatest-words", "words", "words", "max", _gopher(100_000, 100_000), GOPHER),
    Rule(
        "least-word-length",
        "word_length",
        "characters",
        "min",
        {"gopher": {"en": 3}, "fineweb-en": {"en": 3}},
        GOPHER,
    ),
    Rule("greatest-word-length", "word_length", "characters", "max", _gopher(10), GOPHER),
    Rule("hashes", "hashes", "per word", "max", _gopher(0.1, 0.1, map_zh={"zh": 0.1}, bilingual=0.1), GOPHER),
    Rule("ellipses", "ellipses", "per word", "max", _gopher(0.1, 0.1, map_zh={"zh": 0.1}, bilingual=0.1), GOPHER),
    Rule("bullet-lines", "bullet_lines", _LINES, "max", _gopher(0.9, 0.9, map_zh={"zh": 0.9}), GOPHER),
    Rule("ellipsis-lines", "ellipsis_lines", _LINES, "max", _gopher(0.3, 0.3, map_zh={"zh": 0.3}), GOPHER),
    Rule("words-with-letters", "words_with_letters", _WORDS, "min", _gopher(0.8, 0.735), GOPHER),
    Rule(
        "stop-words",
        "stop_words",
        "different stop words",
        "min",
        {"gopher": {"en": 2}, "fineweb-en": {"en": 2}, "fineweb2-zh": {"zh": 2}},
        GOPHER,
    ),
    Rule("c4-banned", "c4_banned", "lines", "max", {"c4": 0}, C4),
    Rule("c4-sentences", "c4_sentences", "sentences", "min", {"c4": 5}, C4),
    Rule("c4-banned-any-end", "c4_banned_any_end", "lines", "max", {"fineweb-en": 0}, C4),
    Rule("c4-sentences-any-end", "c4_sentences_any_end", "sentences", "min", {"fineweb-en": 5}, C4),
    Rule("ended-lines", "ended_lines", _LINES, "min", {"fineweb-en": 0.12, "fineweb2-zh": 0.106}, FINEWEB),
    Rule("short-lines", "short_lines", _LINES, "max", {"fineweb-en": 0.67}, FINEWEB),
    Rule(
        "line-ends",
        "line_ends",
        "per word",
        "max",
        {"fineweb-en": 0.3, "fineweb2-zh": 0.178, "bilingual": {"zh": 0.25, "*": 0.3}},
        f"{FINEWEB}; bilingual: {OWN}",
    ),
    Rule("bare-lines", "bare_lines", _SHARE, "max", {"bilingual": {"zh": 0.4}}, OWN),
    Rule("sentences", "sentences", "sentences", "min", {"map-zh": {"zh": 2}}, MAP),
    Rule("digits", "digits", _SHARE, "max", {"map-zh": {"zh": 0.3}}, MAP),
    Rule("brackets", "brackets", _SHARE, "max", {"map-zh": {"zh": 0.1}}, MAP),
    Rule("more-lines", "more_lines", _LINES, "max", {"map-zh": {"zh": 0.3}}, MAP),
    Rule("distinct-words", "distinct_words", "per word", "min", {"map-zh": {"zh": 0.1}}, MAP),
    Rule("entropy", "entropy", "nats", "min", {"map-zh": {"zh": 3}}, MAP),
)
"""In this order; the first rule that removes a document is the one that is named."""

NAMES = (*(rule.name for rule in RULES), CONTAMINATION, LICENCE, DUPLICATE, NEAR, PARAGRAPH)
"""All rules in the order in which they remove."""

PRESETS = ("bilingual", "none", "gopher", "c4", "fineweb-en", "fineweb2-zh", "map-zh")
