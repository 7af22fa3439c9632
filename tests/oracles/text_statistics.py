"""What the rules measure, in plain Python with sets and counters: slow, and written from the papers' words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[\u4e00-\u9fff]|(?:[a-zA-Z0-9]|(?<=[a-zA-Z])['’](?=[a-zA-Z]))+|(\S)\1*")
_CITATIONS = re.compile(r"(?:\[\d*]|\[edit]|\[citation needed])+$", re.IGNORECASE)
"""At the end of a line, where they hide its end mark; elsewhere they are left."""
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def split(text: str) -> list[str]:
    """The words of a text of Latin letters, digits, Han characters and symbols."""
    return [match.group() for match in _WORD.finditer(text)]


def repeated(pieces: Sequence[str]) -> tuple[int, int]:
    """How many pieces repeat an earlier one, and their characters."""
    seen: set[str] = set()
    again = []
    for piece in pieces:
        if piece in seen:
            again.append(piece)
        seen.add(piece)
    return len(again), sum(map(len, again))


def top(words: Sequence[str], n: int) -> int:
    """Characters of the most frequent n-gram, spaces included, times its count."""
    grams = Counter(" ".join(words[start : start + n]) for start in range(len(words) - n + 1))
    if not grams:
        return 0
    most = max(grams.values())
    return most * len(next(gram for gram, count in grams.items() if count == most))


def duplicated(words: Sequence[str], n: int) -> int:
    """Characters of n-grams that occurred before, found from left to right without overlap."""
    seen: set[str] = set()
    start = total = 0
    while start + n <= len(words):
        gram = "".join(words[start : start + n])
        if gram in seen:
            total += len(gram)
            start += n
        else:
            seen.add(gram)
            start += 1
    return total


def sentences(text: str) -> int:
    """Pieces with a letter or digit between the marks that end sentences."""
    ends = re.split(r"(?<=[.?!…])(?=[\s\"'”’)）」』》】])|(?<=[.?!…])$|(?<=[。！？．])", text)
    return sum(any(character.isalnum() for character in piece) for piece in ends)


def c4(text: str, *, end: bool) -> tuple[int, int]:
    """Sentences of the lines that C4 keeps, and lines that drop the page; `end`: lines need an end mark."""
    count = banned = 0
    for raw in text.split("\n"):
        line, spaced = _CITATIONS.sub("", raw.strip()), raw.split()
        if any(len(word) > 1000 for word in spaced) or len(spaced) < 3:
            continue
        if end and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            continue
        low = line.lower()
        if "lorem ipsum" in low or ("{" in low and "javascript" not in low):
            banned += 1
        elif "javascript" not in low and not any(each in low for each in _POLICY):
            count += sentences(line)
    return count, banned


TITLE_MARKS = "-–—_/·“”‘’\"'（）()《》【】「」&+%#~"


def statistics(text: str) -> dict[str, float]:
    """Each column by its name."""
    words, size = split(text), max(len(text), 1)
    proper = [word for word in words if any(character.isalnum() for character in word)]
    lines, full = text.splitlines(), [line for line in text.split("\n") if line.strip()]
    titles = [line.strip() for line in full if len(line.strip()) >= 12]
    bare = [line for line in titles if all(each.isalnum() or each.isspace() or each in TITLE_MARKS for each in line)]
    pieces, paragraphs = re.split(r"\n+", text), re.split(r"\n{2,}", text)
    counts = Counter(words)
    shares = [count / len(words) for count in counts.values()]
    found = {
        "words": len(proper),
        "word_length": sum(map(len, proper)) / max(len(proper), 1),
        "hashes": text.count("#") / max(len(words), 1),
        "ellipses": (text.count("...") + text.count("…")) / max(len(words), 1),
        "words_with_letters": sum(any(map(str.isalpha, word)) for word in words) / max(len(words), 1),
        "digits": sum(map(str.isdigit, text)) / size,
        "sentences": sentences(text),
        "distinct_words": len(counts) / max(len(words), 1),
        "entropy": -sum(share * math.log(share) for share in shares),
        "duplicate_lines": repeated(pieces)[0] / len(pieces),
        "duplicate_line_characters": repeated(pieces)[1] / size,
        "duplicate_paragraphs": repeated(paragraphs)[0] / len(paragraphs),
        "duplicate_paragraph_characters": repeated(paragraphs)[1] / size,
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines) / max(len(lines), 1),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines) / max(len(lines), 1),
        "ended_lines": sum(line.endswith(tuple(".?!。！？．")) for line in full) / max(len(full), 1),
        "short_lines": sum(len(line) <= 30 for line in full) / max(len(full), 1),
        "line_ends": text.count("\n") / max(len(words), 1),
        "bare_lines": sum(map(len, bare)) / max(sum(len(line.strip()) for line in full), 1) if len(bare) >= 8 else 0.0,
    }
    for n in (2, 3, 4):
        found[f"top_{n}_grams"] = top(words, n) / size
    for n in range(5, 11):
        found[f"duplicated_{n}_grams"] = duplicated(words, n) / size
    found["c4_sentences"], found["c4_banned"] = c4(text, end=True)
    found["c4_sentences_any_end"], found["c4_banned_any_end"] = c4(text, end=False)
    return found
