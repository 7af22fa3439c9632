"""The screen of `zhen inspect`: a checkpoint described for people, and its tensors as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zhen.checkpoint.inspect import Stored, Summary
from zhen.checkpoint.names import UNKNOWN, numbered
from zhen.console import amount, size, table, visible

_UNSAID = "not stated"
_LISTED = 6
"""So many entries of a list are shown; the rest is counted."""


def screen(path: str, summary: Summary) -> RenderableType:
    """One screen: what it is, what departs from LLaMA, how large it is and what it takes to serve."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for label, value in _differences(summary):
        rows.add_row(Text(visible(label), style="bold yellow"), Text(visible(value)))
    for label, value in (*_numbers(summary), *_beside(summary)):
        rows.add_row(label, Text(visible(value)))
    parts: list[RenderableType] = [_headline(path, summary), _verdict(summary), "", rows]
    if summary.serving_bytes:
        parts += ["", _serving(summary)]
    if summary.notes:
        parts.append("")
        parts += [Text(visible(f"note: {note}"), style="yellow") for note in summary.notes]
    return Group(*parts)


def _headline(path: str, summary: Summary) -> Text:
    told = [summary.format]
    if summary.files:
        told.append(f"{summary.files} file{'s' if summary.files > 1 else ''}")
    if summary.bytes:
        told.append(size(summary.bytes))
    return Text.assemble((visible(path), "bold"), "  ", (" · ".join(told), "dim"))


def _verdict(summary: Summary) -> Text:
    naming = summary.naming
    strange = "names of no scheme that is known (`zhen rename` infers them)"
    theirs = {"llama": "LLaMA's names", UNKNOWN: strange}.get(naming, f"names of {naming}")
    under = f"; {theirs}" if summary.tensors else ""
    if summary.family == "llama":
        return Text(f"LLaMA's architecture{under}", style="green")
    topics = ", ".join(dict.fromkeys(difference.partition(":")[0] for difference in summary.differences))
    apart = f", differs from LLaMA in {topics}" if topics else ""
    return Text(visible(f"{summary.family}{apart}{under}"), style="yellow")


def _differences(summary: Summary) -> Iterator[tuple[str, str]]:
    for topic, found in groupby(summary.differences, key=lambda text: text.partition(": ")[0]):
        yield topic, "\n".join(text.partition(": ")[2] for text in found)


def _numbers(summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.layers:
        width = f", width {_count(summary.hidden_size)}, feed-forward {_count(summary.intermediate_size)}"
        yield "layers", f"{summary.layers}{width}"
    if summary.heads:
        shared = f", {summary.kv_heads} for keys and values" if summary.kv_heads != summary.heads else ""
        yield "heads", f"{summary.heads} of {_count(summary.head_size)}{shared}"
    if summary.max_positions or summary.rope_theta:
        base = f", rotary base {summary.rope_theta:,.0f}" if summary.rope_theta else ""
        yield "context", f"{_count(summary.max_positions)} tokens{base}{_scaling(summary.rope_scaling)}"
    if summary.vocab_size:
        tied = {True: ", head and embedding are one", False: ", head and embedding apart", None: ""}
        yield "vocabulary", f"{summary.vocab_size:,}{tied[summary.tied_embeddings]}"
    yield "parameters", _parameters(summary)
    if summary.tensors:
        several = len(summary.dtypes) > 1
        kinds = ", ".join(f"{kind} ({count:,})" if several else kind for kind, count in summary.dtypes.items())
        yield "tensors", f"{summary.tensors:,}{f' in {kinds}' if kinds else ''}"
    if summary.unmapped:
        yield "no place", _templates(summary.unmapped)


def _parameters(summary: Summary) -> str:
    if summary.parameters is None:
        return _UNSAID
    parts = [amount(summary.parameters)]
    if summary.parameters >= 1_000_000:
        parts[0] += f" ({summary.parameters:,})"
    if summary.embedding_parameters:
        parts.append(f"embedding {amount(summary.embedding_parameters)}")
    if summary.layer_parameters:
        parts.append(f"a layer {amount(summary.layer_parameters)}")
    return ", ".join(parts)


def _scaling(scaling: Mapping[str, Any] | None) -> str:
    if not scaling:
        return ""
    factor = f" by {scaling['factor']}" if "factor" in scaling else ""
    return f", scaled {scaling.get('rope_type')}{factor}"


def _beside(summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.tokenizer:
        made = summary.tokenizer
        special = [
            f"{role} {' '.join(str(part) for part in (token.id, token.text) if part is not None)}"
            for role, token in made.special.items()
        ]
        count = f", {made.size:,} tokens" if made.size else ""
        yield "tokenizer", f"{made.kind}{count}{': ' + ', '.join(special) if special else ''}"
    else:
        yield "tokenizer", "none here"
    yield "licence", summary.license or "not stated here"
    if summary.remote_code:
        yield "code", "\n".join([*_some(summary.remote_code), "(comes with it, never run)"])


def _serving(summary: Summary) -> RenderableType:
    """Memory to serve, by bits of a weight and tokens in the cache."""
    serving = summary.serving_bytes or {}
    lengths = list(serving)
    columns = ["memory to serve", *(f"{int(length):,} tokens" for length in lengths)]
    rows = [
        [f"  weights of {bits} bits", *(size(serving[length][bits]) for length in lengths)]
        for bits in serving[lengths[0]]
    ]
    made = table(columns, rows)
    cache = f"cache of 16 bits, {size(summary.kv_bytes_per_token or 0)} a token"
    longest = summary.max_positions
    if longest and any(int(length) > longest for length in lengths):
        cache += f"; the config states a context of {longest:,}"
    return Group(made, Text(f"  {cache}", style="dim"))


def _templates(names: list[str]) -> str:
    """Names with their layers counted: `model.layers.N.self_attn.q_proj.bias (32)`."""
    counts: dict[str, int] = {}
    for name in names:
        template = numbered(name)[0] or name
        counts[template] = counts.get(template, 0) + 1
    return "\n".join(_some([f"{name} ({count})" if count > 1 else name for name, count in counts.items()]))


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _LISTED else [*lines[: _LISTED - 1], f"… and {len(lines) - _LISTED + 1} more"]


def _count(value: int | None) -> str:
    return f"{value:,}" if value is not None else "?"


_Node = dict[str, Any]
"""Part of a name -> what is below it, or the tensor."""


def tree(path: str, stored: Mapping[str, Stored]) -> RenderableType:
    """The tensors by the parts of their names; numbered neighbours that hold the same are one entry, `0..59`."""
    root: _Node = {}
    for name, tensor in stored.items():
        *folders, leaf = name.split(".")
        node = root
        for part in folders:
            below = node.setdefault(part, {})
            node = below if isinstance(below, dict) else node.setdefault(f"{part}.", {})
        node[leaf] = tensor
    made = Tree(Text(f"{visible(path)}  {len(stored):,} tensors", style="bold"), guide_style="dim")
    _grow(made, root)
    return made


def _grow(branch: Tree, node: _Node) -> None:
    for label, below in _joined(node):
        while isinstance(below, dict) and len(below) == 1:
            ((part, below),) = below.items()
            label = f"{label}.{part}"
        if isinstance(below, dict):
            _grow(branch.add(Text(visible(label))), below)
        else:
            shape = f" {below.shape}" if below.shape is not None else ""
            branch.add(Text.assemble(visible(label), (f"  {below.dtype or ''}{shape}", "cyan")))


def _joined(node: _Node) -> Iterator[tuple[str, Any]]:
    """The entries of `node`, runs of numbers that hold the same joined."""
    numbers = sorted((int(key), key) for key in node if key.isdecimal())
    yield from ((key, below) for key, below in node.items() if not key.isdecimal())
    start = 0
    for at in range(1, len(numbers) + 1):
        first, last = numbers[start], numbers[at - 1]
        if at < len(numbers) and numbers[at][0] == last[0] + 1 and _same(node[first[1]], node[numbers[at][1]]):
            continue
        yield (first[1] if first == last else f"{first[1]}..{last[1]}"), node[first[1]]
        start = at


def _same(one: Any, other: Any) -> bool:
    """Whether two parts of the tree hold tensors of equal names, dtypes and shapes."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Stored) and isinstance(other, Stored):
        return (one.dtype, one.shape) == (other.dtype, other.shape)
    return False
