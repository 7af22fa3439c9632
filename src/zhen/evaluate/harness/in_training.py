"""Which questions of benchmarks stand in the text that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.in_training import count_questions


def questions_found(benches: Mapping[str, Bench], texts: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Benchmark -> names of the items whose question, choices left out, stands in `texts` (where, text) as a whole.

    Texts are compared as n-grams of words within a document, as everywhere (`evaluate.in_training`).
    """
    questions = {name: bench.questions() for name, bench in benches.items()}
    found = iter(count_questions(texts, [question for some in questions.values() for question in some]))
    return {
        name: {each.id for each in (next(found) for _ in some) if each.questions} for name, some in questions.items()
    }
