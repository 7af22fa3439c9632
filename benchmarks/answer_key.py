"""What `data` did with the sample web beside the web's answer key: `python benchmarks/answer_key.py RUN`."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from zhen.errors import ZhenError

BINS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
EXAMPLES = 3

Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the table: `good` of `of` counted as they should be, and the least share that will do."""

    what: str
    good: int
    of: int
    least: float | None = None
    wrong: list[str] = field(default_factory=list)
    """Addresses that went wrong."""

    @property
    def share(self) -> float:
        """0 to 1; 1 where there is nothing to count."""
        return self.good / self.of if self.of else 1.0

    @property
    def passed(self) -> bool:
        """Whether the bar, if any, is reached."""
        return self.least is None or self.share >= self.least


@dataclass(frozen=True)
class Outcome:
    """What became of every page, by address."""

    key: dict[str, Row]
    extracted: dict[str, str]
    """Text as extracted, of every page that became a document."""
    kept: dict[str, str]
    """Text as kept."""
    removed_by: dict[str, str]
    lost: Counter[str]
    """File name -> losses in it that are not for an encoding."""
    reported: set[str]
    """Pages in which an item of a benchmark was found in other words."""
    prompts: dict[str, str]
    """Prompt of every question item, by id."""

    def of(self, wanted: Callable[[Row], bool]) -> list[Row]:
        """The key's rows that are wanted."""
        return [row for row in self.key.values() if wanted(row)]

    def family(self, row: Row) -> str:
        """Address of the page that the row's page is a copy of, or its own."""
        return str(row.get("exact_of") or row.get("near_of") or row["url"])


def read_outcome(run: Path) -> Outcome:
    """Gather a run's data and the key of its sample web. Raises ZhenError for a folder that has not both."""
    data = run / "data"
    for needed in (run / "sampleweb" / "key" / "pages.jsonl", data / "kept", data / "verdicts"):
        if not needed.exists():
            raise ZhenError("is not there", expected="a run of a recipe with [sampleweb], up to data", file=needed)
    key = {row["url"]: row for row in _lines(run / "sampleweb" / "key" / "pages.jsonl")}
    extracted: dict[str, str] = {}
    removed_by: dict[str, str] = {}
    reported: set[str] = set()
    contamination = data / "contamination.json"
    limit = json.loads(contamination.read_bytes())["report"] if contamination.exists() else None
    for path in sorted((data / "documents").glob("*.parquet")):
        documents = pq.read_table(path, columns=["url", "text"]).to_pylist()
        verdicts = pq.read_table(data / "verdicts" / path.name, columns=["keep", "rule"]).to_pylist()
        if limit is not None:
            shares = pq.read_table(data / "signals" / path.name, columns=["reworded"])["reworded"].to_pylist()
            reported |= {row["url"] for row, share in zip(documents, shares, strict=True) if share >= limit}
        for document, verdict in zip(documents, verdicts, strict=True):
            extracted[document["url"]] = document["text"]
            if not verdict["keep"]:
                removed_by[document["url"]] = verdict["rule"]
    kept = {
        row["url"]: row["text"]
        for part in ("kept", "held-out")
        for path in sorted((data / part).glob("*.parquet"))
        for row in pq.read_table(path, columns=["url", "text"]).to_pylist()
    }
    lost = Counter(row["file"] for row in _lines(data / "lost.jsonl") if "encoding" not in row["reason"])
    items = (item for path in (run / "sampleweb" / "tasks").glob("*/*.jsonl") for item in _lines(path))
    prompts = {item["id"]: item["prompt"] for item in items}
    return Outcome(key, extracted, kept, removed_by, lost, reported, prompts)


def _lines(path: Path) -> Iterable[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def compare(outcome: Outcome) -> list[Line]:
    """Every line of the table."""
    reworded = outcome.of(_why("reworded-leak"))
    found = [_exact(outcome), _leaks(outcome)]
    found.append(_line("leaks in other words reported", reworded, lambda row: row["url"] in outcome.reported, 0.98))
    good = outcome.of(lambda row: row["fate"] in ("keep", "redact"))
    found.append(_line("good pages not reported as such", good, lambda row: row["url"] not in outcome.reported, 0.98))
    found += _near(outcome)
    found += _contacts(outcome)
    found.append(_gone(outcome, "spam and gambling dropped", _why("spam"), 0.95))
    found.append(_gone(outcome, "gibberish and mojibake dropped", _why("gibberish", "mojibake"), 0.95))
    found.append(_gone(outcome, "other languages dropped", _why("language"), None))
    found.append(_gone(outcome, "nothing but boilerplate: dropped", _why("boilerplate"), None))
    found.append(_notices(outcome))
    found += _good(outcome)
    found.append(_damage(outcome))
    return found


def _why(*starts: str) -> Callable[[Row], bool]:
    return lambda row: row["why"].startswith(starts)


def _line(what: str, rows: list[Row], good: Callable[[Row], bool], least: float | None) -> Line:
    wrong = [row["url"] for row in rows if not good(row)]
    return Line(what, len(rows) - len(wrong), len(rows), least, wrong)


def _gone(outcome: Outcome, what: str, wanted: Callable[[Row], bool], least: float | None) -> Line:
    return _line(what, outcome.of(wanted), lambda row: row["url"] not in outcome.kept, least)


def _exact(outcome: Outcome) -> Line:
    """Of a page and its exact copies one at most is kept."""
    rows = outcome.of(_why("exact-copy"))
    kept = Counter(outcome.family(row) for row in rows if row["url"] in outcome.kept)
    wrong = []
    for source, count in kept.items():
        if count + (source in outcome.kept) > 1:
            wrong += [row["url"] for row in rows if row["exact_of"] == source and row["url"] in outcome.kept]
    return Line("exact copies gone", len(rows) - len(wrong), len(rows), 1.0, wrong)


def _leaks(outcome: Outcome) -> Line:
    """No kept page has a leaked question."""

    def clean(row: Row) -> bool:
        text = outcome.kept.get(row["url"], "")
        return not any(outcome.prompts[each].split("\n")[0] in text for each in row["leaks"])

    return _line("verbatim leaks gone", outcome.of(_why("leak")), clean, 1.0)


def _near(outcome: Outcome) -> list[Line]:
    """Recall of near copies by similarity, and precision of what the rule removed."""
    rows = outcome.of(_why("near-copy"))

    def parted(row: Row) -> bool:
        return not (row["url"] in outcome.kept and row["near_of"] in outcome.kept)

    found = []
    for low, high in itertools.pairwise(BINS):
        inside = [row for row in rows if low <= row["jaccard"] < high]
        found.append(_line(f"near copies gone, Jaccard {low:.2f} to {high:.2f}", inside, parted, None))
    close = [row for row in rows if row["jaccard"] >= 0.8]
    found.append(_line("near copies gone, Jaccard 0.8 and more", close, parted, 0.98))
    copied = {outcome.family(row) for row in outcome.key.values() if row["why"] in ("near-copy", "exact-copy")}
    removed = [outcome.key[url] for url, rule in outcome.removed_by.items() if rule == "near-duplicate"]
    found.append(_line("removed as near copies: are copies", removed, lambda row: outcome.family(row) in copied, 0.99))
    return found


def _contacts(outcome: Outcome) -> list[Line]:
    """Contacts masked, look-alikes left, and other pages untouched."""
    good, of, wrong = Counter[bool](), Counter[bool](), []
    for row in outcome.of(lambda row: "contacts" in row and row["url"] in outcome.kept):
        for contact in row["contacts"]:
            stands = contact["value"] in outcome.kept[row["url"]]
            of[contact["real"]] += 1
            good[contact["real"]] += stands != contact["real"]
            if stands and contact["real"]:
                wrong.append(f"{row['url']} {contact['kind']} {contact['value']}")
    clean = outcome.of(lambda row: "contacts" not in row and row["fate"] == "keep" and row["url"] in outcome.kept)

    def untouched(row: Row) -> bool:
        before = set(outcome.extracted[row["url"]].split("\n"))
        return all(line in before for line in outcome.kept[row["url"]].split("\n"))

    return [
        Line("contacts masked", good[True], of[True], 0.99, wrong),
        Line("look-alikes left as they were", good[False], of[False]),
        _line("pages without contacts untouched", clean, untouched, 0.995),
    ]


def _notices(outcome: Outcome) -> Line:
    """A paragraph that very many pages have is left out of all but the first of each language."""
    rows = outcome.of(lambda row: "notice" in row and row["url"] in outcome.kept)
    left = [row["url"] for row in rows if row["notice"] in outcome.kept[row["url"]]]
    allowed = len({row["lang"] for row in rows})
    return Line("notices that very many pages have: left out", len(rows) - max(0, len(left) - allowed), len(rows))


def _good(outcome: Outcome) -> list[Line]:
    """Good pages, or a copy of each, are kept, with all their text."""
    there = {outcome.family(outcome.key[url]) for url in outcome.kept}
    good = outcome.of(lambda row: row["fate"] in ("keep", "redact"))
    kept = [row for row in good if row["fate"] == "keep" and row["url"] in outcome.kept]
    coded = [row for row in good if row["why"] in ("gbk", "big5")]

    def whole(row: Row) -> bool:
        text = _squeezed(outcome.kept.get(row["url"], ""))
        return all(_squeezed(line) in text for line in row["text"].split("\n"))

    return [
        _line("good pages kept (or a copy of them)", good, lambda row: row["url"] in there, 0.98),
        _line("kept good pages with all their text", kept, whole, None),
        _line("GBK and Big5, labels right or wrong: text right", coded, whole, None),
    ]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _damage(outcome: Outcome) -> Line:
    """No damaged record became a page, and each file has at least so many losses as were planted in it."""
    rows = outcome.of(lambda row: row["fate"] == "lost")
    planted = Counter(f"{row['site']}.warc.gz" for row in rows)

    def counted(row: Row) -> bool:
        file = f"{row['site']}.warc.gz"
        return row["url"] not in outcome.extracted and outcome.lost[file] >= planted[file]

    return _line("damaged records lost and counted", rows, counted, 1.0)


def show(lines: list[Line]) -> None:
    """Print the table, and examples of what went wrong."""
    for line in lines:
        bar = "" if line.least is None else f"at least {100 * line.least:g} %"
        mark = "" if line.least is None else ("ok" if line.passed else "FAILED")
        share = f"{100 * line.share:6.2f} %"
        print(f"{line.what:50} {line.good:6,} of {line.of:6,}  {share}  {bar:17} {mark}".rstrip())
        for url in line.wrong[:EXAMPLES] if not line.passed else []:
            print(f"    {url}")


def main() -> int:
    """Compare the run that is named; 1 where a bar isn't reached, 2 where there is nothing to compare."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        lines = compare(read_outcome(Path(sys.argv[1])))
    except ZhenError as error:
        print(error, file=sys.stderr)
        return 2
    show(lines)
    return 0 if all(line.passed for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
