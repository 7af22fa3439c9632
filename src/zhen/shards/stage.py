"""The stage `shards`: kept and held-out documents as token ids; finished shards of a stopped attempt are kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from zhen.errors import ZhenError
from zhen.formats.document import count_documents, document_files, read_documents
from zhen.formats.files import write_json
from zhen.formats.record import Figure
from zhen.formats.stage import Context, Figures
from zhen.shards.settings import ShardsSettings
from zhen.shards.write import ShardWriter
from zhen.tokenizer.load import Tokenizer, load_tokenizer

HELD_OUT = "held-out"
SUMMARY = "shards.json"
NAME_BYTES = 120
"""Longest source or language; file systems allow 255 bytes a name."""

NOT_RESTORED = "\u2581"
"""The one character that comes back from the tokenizer as another (a space)."""


class Group(NamedTuple):
    """Documents that go into one folder of shards: a source's, or a source's in one language (held out)."""

    folder: str
    source: str
    lang: str | None
    files: tuple[Path, ...]
    """The Parquet files that hold some."""


@dataclass
class Tally:
    """Counts of one source and language."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class _Work:
    """What is handed through the stage."""

    context: Context
    tokenizer: Tokenizer
    tokens_per_shard: int
    total: int
    done: int = 0
    tokens: int = 0
    not_restored: int = 0
    tallies: dict[str, dict[str, Tally]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Tally)))


def tokenize(context: Context) -> Figures:
    """Write `<source>/shard-*`, `held-out/<source>.<lang>/shard-*` and the summary `shards.json`.

    Each document is its text's ids and one end-of-text id; documents keep the order of the Parquet files. Returns
    documents, tokens and bytes per token by source and language. Raises ZhenError where nothing was kept, or where a
    source or language cannot be a folder's name.
    """
    settings: ShardsSettings = context.sections["shards"]
    data = context.after["data.write"]
    kept, held_out = document_files(data / "kept"), document_files(data / HELD_OUT)
    total = count_documents(kept)
    if not total:
        raise ZhenError("no documents were kept", file=data / "kept", hint="see in `data` which rule dropped them")
    total += count_documents(held_out)
    tokenizer = load_tokenizer(context.after["tokenizer"])
    work = _Work(context, tokenizer, settings.tokens_per_shard, total)
    for group in kept_groups(kept):
        _write_group(work, group, group.source)
    for group in held_out_groups(held_out):
        _write_group(work, group, f"{HELD_OUT}/{group.source}")
    context.output(SUMMARY, "result", write_json(context.folder / SUMMARY, _summary(work)))
    figures = _figures(work)
    context.summary = (
        f"{figures['tokens'].value:,} tokens in {figures['documents'].value:,} documents, "
        f"{figures['bytes_per_token'].value:.2f} bytes a token"
    )
    return figures


def kept_groups(files: Sequence[Path]) -> list[Group]:
    """One group a source, by name."""
    holders: dict[str, list[Path]] = {}
    for path in files:
        for (source,) in sorted(_distinct(path, ["source"])):
            holders.setdefault(source, []).append(path)
    if HELD_OUT in holders:
        raise ZhenError(f'a source is called "{HELD_OUT}"', expected="another name", place="data.sources")
    return [Group(_name(source), source, None, tuple(holders[source])) for source in sorted(holders)]


def held_out_groups(files: Sequence[Path]) -> list[Group]:
    """One group a source and language, by name; held-out documents are measured by language."""
    holders: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        for pair in sorted(_distinct(path, ["source", "lang"])):
            holders.setdefault(pair, []).append(path)
    return [
        Group(f"{HELD_OUT}/{_name(source)}.{_name(lang)}", source, lang, tuple(holders[source, lang]))
        for source, lang in sorted(holders)
    ]


def _distinct(path: Path, columns: list[str]) -> set[tuple[str, ...]]:
    """The distinct values of `columns` in a file."""
    found: set[tuple[str, ...]] = set()
    for batch in read_documents(path, columns, rows=1 << 16):
        values = ([value or "" for value in batch.column(name).to_pylist()] for name in columns)
        found.update(zip(*values, strict=True))
    return found


def _name(value: str) -> str:
    """`value`, if it can be the name of a folder. Raises ZhenError."""
    hostile = any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in value)
    if not value or value[0] in ".-" or hostile or len(value.encode("utf-8")) > NAME_BYTES:
        raise ZhenError(
            f"a document's source or language is {value!r}",
            expected="a name that can be a folder's",
            place="data.sources",
        )
    return value


def _batches(group: Group) -> Iterator[tuple[list[str], list[str]]]:
    """Texts and languages of a group's documents, in order, a few hundred at a time."""
    for path in group.files:
        for batch in read_documents(path, ["text", "source", "lang"]):
            columns = (batch.column(name).to_pylist() for name in ("text", "source", "lang"))
            rows = [
                (text, lang)
                for text, source, lang in zip(*columns, strict=True)
                if source == group.source and group.lang in (None, lang)
            ]
            if rows:
                yield [text for text, _ in rows], [lang for _, lang in rows]


def _write_group(work: _Work, group: Group, heading: str) -> None:
    """Tokenise one group, going on behind the shards that an earlier attempt finished."""
    writer = ShardWriter(
        work.context.folder / group.folder,
        source=group.source,
        lang=group.lang,
        tokenizer=work.tokenizer,
        tokens_per_shard=work.tokens_per_shard,
        threads=work.context.workers,
    )
    for texts, langs in _batches(group):
        for lang, (tokens, size) in zip(langs, writer.add(texts), strict=True):
            tally = work.tallies[heading][lang]
            tally.documents += 1
            tally.tokens += tokens
            tally.bytes += size
            work.tokens += tokens
        work.not_restored += sum(NOT_RESTORED in text for text in texts)
        work.done += len(texts)
        work.context.line.update(work.done, work.total, "documents", f"{work.tokens:,} tokens · {group.folder}")
        work.context.stop_here()
    writer.close()
    for name, digest in writer.files.items():
        work.context.output(f"{group.folder}/{name}", "result", digest)
    if writer.reused:
        work.context.event("shards kept from an earlier attempt", folder=group.folder, shards=writer.reused)


def _summary(work: _Work) -> dict[str, object]:
    """The content of `shards.json`: by source (held-out ones under `held-out/<source>`) and its languages."""
    return {
        "tokenizer": work.tokenizer.sha256,
        "vocab_size": work.tokenizer.vocab_size,
        "sources": {
            heading: {
                **_counts(list(langs.values())),
                "languages": {lang: _counts([langs[lang]]) for lang in sorted(langs)},
            }
            for heading, langs in sorted(work.tallies.items())
        },
    }


def _counts(tallies: list[Tally]) -> dict[str, int]:
    return {
        "tokens": sum(tally.tokens for tally in tallies),
        "documents": sum(tally.documents for tally in tallies),
        "bytes": sum(tally.bytes for tally in tallies),
    }


def _figures(work: _Work) -> Figures:
    """Totals; documents, tokens and bytes per token by source; bytes per token by language over all sources."""
    figures: Figures = {}
    tokens: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for heading, langs in sorted(work.tallies.items()):
        counts = _counts(list(langs.values()))
        figures[f"documents.{heading}"] = Figure(counts["documents"], "documents")
        figures[f"tokens.{heading}"] = Figure(counts["tokens"], "tokens", n=counts["documents"])
        figures[f"bytes_per_token.{heading}"] = _ratio(counts["bytes"], counts["tokens"])
        for lang, tally in langs.items():
            tokens[lang] += tally.tokens
            sizes[lang] += tally.bytes
    for lang in sorted(tokens):
        figures[f"bytes_per_token.lang.{lang}"] = _ratio(sizes[lang], tokens[lang])
    kept = [tally for heading, langs in work.tallies.items() if "/" not in heading for tally in langs.values()]
    return {
        "documents": Figure(_counts(kept)["documents"], "documents"),
        "tokens": Figure(_counts(kept)["tokens"], "tokens"),
        "bytes_per_token": _ratio(_counts(kept)["bytes"], _counts(kept)["tokens"]),
        "documents_not_restored": Figure(work.not_restored, "documents", n=work.total),
        **figures,
    }


def _ratio(size: int, tokens: int) -> Figure:
    return Figure(round(size / tokens, 4) if tokens else None, "bytes/token", n=tokens)
