"""Interpolated modified Kneser-Ney straight from the formulas, with dictionaries: slow, for small corpora only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache

START = "<s>"
END = "</s>"
Gram = tuple[object, ...]


class DictionaryKneserNey:
    """Probabilities of a token after a history, by recursion over the orders (Chen & Goodman 1998, eq. 24 and 26)."""

    def __init__(self, documents: Sequence[Sequence[int]], *, types: int, order: int) -> None:
        """`documents` without boundary tokens; `types`: events that exist, the end of a document among them."""
        self.types = types
        self.order = order
        occurrences: Counter[Gram] = Counter()
        for document in documents:
            sentence = [START, *document, END]
            for end in range(2, len(sentence) + 1):
                for begin in range(max(0, end - order), end):
                    occurrences[tuple(sentence[begin:end])] += 1
        left: defaultdict[Gram, set[object]] = defaultdict(set)
        for gram in occurrences:
            left[gram[1:]].add(gram[0])
        self.counts = {
            gram: count if len(gram) == order or gram[0] == START else len(left[gram])
            for gram, count in occurrences.items()
        }
        self.followers: defaultdict[Gram, list[int]] = defaultdict(list)
        for gram, count in self.counts.items():
            self.followers[gram[:-1]].append(count)
        self.discounts = {n: self._discounts(n) for n in range(1, order + 1)}
        self.after = cache(self._after)

    def _discounts(self, n: int) -> list[float]:
        kinds = Counter(count for gram, count in self.counts.items() if len(gram) == n)
        if not all(kinds[k] for k in (1, 2, 3)):
            return [0.0, 0.5, 1.0, 1.5]
        y = kinds[1] / (kinds[1] + 2 * kinds[2])
        made = [0.0] + [k - (k + 1) * y * kinds[k + 1] / kinds[k] for k in (1, 2, 3)]
        return made if all(0 < made[k] <= k for k in (1, 2, 3)) else [0.0, 0.5, 1.0, 1.5]

    def _after(self, history: Gram, token: object) -> float:
        lower = self.after(history[1:], token) if history else 1 / self.types
        followers = self.followers.get(history, [])
        if not followers:
            return lower
        discounts = self.discounts[len(history) + 1]
        count = self.counts.get((*history, token), 0)
        mass = sum(discounts[min(c, 3)] for c in followers)
        return (count - discounts[min(count, 3)] + mass * lower) / sum(followers)

    def document(self, document: Sequence[int]) -> list[float]:
        """The probability of each token of a document and of its end."""
        sentence = [START, *document, END]
        return [
            self.after(tuple(sentence[max(0, i - self.order + 1) : i]), sentence[i]) for i in range(1, len(sentence))
        ]
