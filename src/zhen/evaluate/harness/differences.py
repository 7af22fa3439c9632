"""What differs between two results, by name: the causes for which published scores of one model disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from zhen.evaluate.harness.bench import PROMPT_FIELDS, TARGET_FIELDS
from zhen.evaluate.harness.result import HowAsked, Loaded, Measured
from zhen.evaluate.items import Item
from zhen.evaluate.settings import LONG_CONTEXT

SETTINGS = "settings: "


class Difference(NamedTuple):
    """One thing that is not the same."""

    cause: str
    """Of a task: data, items, prompt, shots, choice of shots, order of shots, normalisation; of a model and machine:
    models, weights, tokenizer, BOS, template, context, arithmetic, versions."""
    task: str
    """Empty where it concerns all tasks."""
    text: str
    model: str = ""
    """Its name in the first result; empty where it concerns all models."""


class Effect(NamedTuple):
    """What became of a task's items."""

    model: str
    """Its name in the first result."""
    task: str
    items: int
    """That both results have."""
    changed: int
    """Whose log-probabilities, outputs or scores are not the same."""
    scores: int
    """Whose score is not the same."""
    largest: float
    """Largest difference of a log-probability, nats."""


def differences(a: Loaded, b: Loaded) -> list[Difference]:
    """What differs between two results, causes first in the order of a look at them; of each model that has one of
    the other result beside it."""
    pairs = _pairs(a, b)
    found = [list(_of_pair(a, b, first, second)) for first, second in pairs]
    rows = list(dict.fromkeys(each for some in found for each in some))
    told: list[Difference] = []
    for row in rows:
        having = [first for (first, _), some in zip(pairs, found, strict=True) if row in some]
        told += [row] if len(having) == len(pairs) else [row._replace(model=name) for name in having]
    for one, other, which in ((a, b, "first"), (b, a, "second")):
        told += [
            Difference("items", task, f"only in the {which}")
            for task in one.result.tasks
            if task not in other.result.tasks
        ]
        alone = [name for name in one.result.models if name not in {pair[which == "second"] for pair in pairs}]
        told += [Difference("models", "", f"only in the {which}", name) for name in alone]
    return told


def _pairs(a: Loaded, b: Loaded) -> list[tuple[str, str]]:
    """Models side by side: those of one name, the others in their order."""
    same = [name for name in a.result.models if name in b.result.models]
    rest = [[name for name in each.result.models if name not in same] for each in (a, b)]
    order = list(a.result.models)
    return sorted([*zip(same, same, strict=True), *zip(*rest, strict=False)], key=lambda pair: order.index(pair[0]))


def _of_pair(a: Loaded, b: Loaded, first: str, second: str) -> Iterator[Difference]:
    found = list(_of_models(a.result.models[first], b.result.models[second], a, b))
    causes = {each.cause for each in found}
    for task, how in a.result.tasks.items():
        if task in b.result.tasks:
            mine, its = _by_name(a, first, task), _by_name(b, second, task)
            found += _of_task(task, how, b.result.tasks[task], mine, its)
    for each in found:
        # a template explains other text; a tokenizer does where texts are as long as so many tokens
        explained = "template" in causes or ("tokenizer" in causes and each.task in LONG_CONTEXT)
        if each.cause != "prompt" or each.text.startswith(SETTINGS) or not explained:
            yield each


def effects(a: Loaded, b: Loaded) -> list[Effect]:
    """What became of the items of each task that both results have, model by model in their order."""
    rows = []
    for first, second in _pairs(a, b):
        for task, how in a.result.tasks.items():
            mine, its = _by_name(a, first, task), _by_name(b, second, task)
            pairs = [(mine[name], its[name]) for name in mine if name in its]
            if pairs:
                changed = sum(outcome(x) != outcome(y) for x, y in pairs)
                scored = sum(x.scores.get(how.score) != y.scores.get(how.score) for x, y in pairs)
                gaps = [abs(p - q) for x, y in pairs for p, q in zip(x.logprobs, y.logprobs, strict=False)]
                rows.append(Effect(first, task, len(pairs), changed, scored, max(gaps, default=0.0)))
    return rows


def outcome(item: Item) -> tuple[object, ...]:
    """All that a model made of an item."""
    return item.logprobs, item.greedy, item.output, item.extracted, item.scores


def _by_name(result: Loaded, model: str, task: str) -> dict[str, Item]:
    return {item.name: item for item in result.items[model] if item.task == task}


def _of_models(a: Measured, b: Measured, x: Loaded, y: Loaded) -> Iterator[Difference]:
    rows: Sequence[tuple[str, str, object, object]] = (
        ("weights", "files", a.files, b.files),
        ("tokenizer", "sha256", a.tokenizer, b.tokenizer),
        ("BOS", "policy", x.result.options.bos, y.result.options.bos),
        ("template", "chat template", a.template, b.template),
        ("context", "length", a.context_length, b.context_length),
        ("arithmetic", "dtype", a.dtype, b.dtype),
        ("arithmetic", "device", a.device, b.device),
        ("arithmetic", "batch", x.result.options.batch, y.result.options.batch),
        ("arithmetic", "CPU", x.result.host.cpu, y.result.host.cpu),
        ("arithmetic", "threads", x.result.host.threads, y.result.host.threads),
    )
    for cause, what, mine, its in rows:
        if mine != its:
            yield Difference(cause, "", f"{what}: {_shown(mine, its)}")
    for name in sorted({*x.result.versions, *y.result.versions}):
        versions = [each.result.versions.get(name) for each in (x, y)]
        if versions[0] != versions[1]:
            yield Difference("versions", "", f"{name}: {versions[0]} | {versions[1]}")


def _shown(mine: object, its: object) -> str:
    if isinstance(mine, dict) and isinstance(its, dict):
        return ", ".join(sorted(name for name in {*mine, *its} if mine.get(name) != its.get(name)))
    return f"{_short(mine)} | {_short(its)}"


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def _of_task(
    task: str, a: HowAsked, b: HowAsked, mine: Mapping[str, Item], its: Mapping[str, Item]
) -> Iterator[Difference]:
    pairs = [(mine[name], its[name]) for name in mine if name in its]
    files = sorted(name for name in {*a.data, *b.data} if a.data.get(name) != b.data.get(name))
    if files:
        yield Difference("data", task, f"files: {', '.join(files[:5])}{' …' if len(files) > 5 else ''}")
    for cause, what, differs in _by_item(pairs):
        count = sum(differs(x, y) for x, y in pairs)
        if count:
            yield Difference(cause, task, f"{what} of {count:,} of {len(pairs):,} items")
    if len(mine) != len(its) or len(pairs) < len(mine):
        yield Difference("items", task, f"{len(mine):,} | {len(its):,} items, {len(pairs):,} in both")
    changed = [name for name in PROMPT_FIELDS if a.settings.get(name) != b.settings.get(name)]
    others = {*a.settings, *b.settings} - {*PROMPT_FIELDS, *TARGET_FIELDS}
    changed += sorted(name for name in others if a.settings.get(name) != b.settings.get(name))
    if changed:
        yield Difference("prompt", task, f"{SETTINGS}{', '.join(changed)}")
    elif a.shots == b.shots and (count := sum(_asks_otherwise(x, y) for x, y in pairs)):
        yield Difference("prompt", task, f"text of {count:,} of {len(pairs):,} items")
    if a.shots != b.shots:
        yield Difference("shots", task, f"{a.shots} | {b.shots}")
    changed = [name for name in TARGET_FIELDS if a.settings.get(name) != b.settings.get(name)]
    if changed or a.score != b.score:
        text = f"score: {a.score} | {b.score}" if a.score != b.score else f"{SETTINGS}{', '.join(changed)}"
        yield Difference("normalisation", task, text)


def _by_item(pairs: Sequence[tuple[Item, Item]]) -> Sequence[tuple[str, str, Callable[[Item, Item], bool]]]:
    def other_shots(x: Item, y: Item) -> bool:
        return len(x.shots) == len(y.shots) and sorted(x.shots) != sorted(y.shots)

    def other_order(x: Item, y: Item) -> bool:
        return x.shots != y.shots and sorted(x.shots) == sorted(y.shots)

    return (
        ("data", "contents", lambda x, y: x.doc_hash != y.doc_hash),
        ("choice of shots", "examples", other_shots),
        ("order of shots", "order", other_order),
    )


def _asks_otherwise(x: Item, y: Item) -> bool:
    """The same question, the same examples, another text."""
    return (x.doc_hash, x.shots) == (y.doc_hash, y.shots) and x.prompts != y.prompts
