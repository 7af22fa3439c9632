"""What a rename will do: every tensor's new name, every file's new header, worked out before anything is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zhen.checkpoint import names
from zhen.checkpoint.companions import MADE_FOR, TOKENIZER_CONFIG, Companions, companions
from zhen.checkpoint.packed import READ, quantisation
from zhen.checkpoint.reader import INDEX, folder_of_index, open_checkpoint, weights
from zhen.checkpoint.safetensors import HEADER_LIMIT, Header, read_header
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.templates import templates
from zhen.checkpoint.unknown import Inference, Losses, infer, short
from zhen.errors import ZhenError, did_you_mean

BLOCK = 4096
"""Bytes by which a header grows, so that the tensors keep their place in a block, as a file system can share them; the
smallest multiple of the file system's own block in place."""


Witness = Callable[[Checkpoint], Losses]
"""Makes of an open checkpoint what tells its maps apart by the loss on a text."""


class Rewrite(NamedTuple):
    """A file of tensors and what comes before its first tensor's bytes: length and header, now and then."""

    header: Header
    old: bytes
    new: bytes


class Plan(NamedTuple):
    """A rename, worked out."""

    folder: Path
    alone: bool
    """Whether it is of one file, without what lies beside it."""
    source: str
    target: str
    renamed: dict[str, str]
    rewrites: list[Rewrite]
    companions: Companions
    evidence: list[str]
    """What an unknown naming was told by."""

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(rewrite.header.size - rewrite.header.data_start for rewrite in self.rewrites)

    @property
    def changed(self) -> list[Rewrite]:
        """The files whose header changes."""
        return [rewrite for rewrite in self.rewrites if rewrite.old != rewrite.new]


def plan_rename(
    path: Path, target: str, maps: Sequence[tuple[str, str]] = (), block: int = BLOCK, witness: Witness | None = None
) -> Plan:
    """Work out how the checkpoint at `path` gets `target`'s names. `maps` are (old, new), N for the layer's number;
    `witness` gives what may tell an unknown naming beside names and shapes.

    Raises ZhenError for weights that aren't safetensors, names that can't be told, and where nothing would change.
    """
    if target not in MADE_FOR:
        hint = f"zhen convert CHECKPOINT --to {target}" if target in names.SCHEMES else did_you_mean(target, MADE_FOR)
        raise ZhenError(f'--to "{target}"', expected=" or ".join(MADE_FOR), hint=hint)
    path = folder_of_index(path)
    alone = path.is_file() and not _is_whole(path)
    checkpoint = open_checkpoint(path if alone or path.is_dir() else path.parent)
    if checkpoint.kind != "safetensors":
        hint = f"zhen convert {path} --to {target}"
        raise ZhenError(f"{checkpoint.kind} weights", expected="safetensors", file=path, hint=hint)
    if (form := quantisation(checkpoint.config)) is not None:
        unpack = f", or unpack it: zhen convert {path} --to {target} --out FOLDER" if form == READ else ""
        raise ZhenError(
            f"weights quantised as {form}, whose settings go by names too",
            expected="weights as they are trained",
            file=path,
            hint=f"rename the model that it was made of, then `zhen quantize` that{unpack}",
        )
    source, renamed, evidence = name_map(checkpoint, target, maps, witness)
    beside = Companions({}, {}, []) if alone else companions(checkpoint.folder, target, renamed)
    rewrites = [_rewrite(file, renamed, block) for file in checkpoint.files]
    plan = Plan(checkpoint.folder, alone, source, target, renamed, rewrites, beside, evidence)
    if not (plan.changed or beside.changed):
        raise ZhenError(f"has {target}'s names already", file=path, hint="there is nothing to rename")
    return plan


def _is_whole(file: Path) -> bool:
    """Whether a file is all of its folder's checkpoint, so that config and the rest follow."""
    folder = file.parent
    if (folder / INDEX).exists():
        raise ZhenError("is one of several files of a checkpoint", file=file, hint=f"name the folder: {folder}")
    there = {"config.json", TOKENIZER_CONFIG} & {path.name for path in folder.iterdir()}
    return bool(there) and [path.name for path in weights(folder)] == [file.name]


def name_map(
    checkpoint: Checkpoint, target: str, maps: Sequence[tuple[str, str]], witness: Witness | None = None
) -> tuple[str, dict[str, str], list[str]]:
    """(naming scheme now, old name -> new name of every tensor, what an unknown naming was told by).

    Raises ZhenError listing names that can't be told.
    """
    stored = list(checkpoint.tensors)
    by_hand = _by_hand(checkpoint, maps)
    rest = [name for name in stored if name not in by_hand]
    source = names.detect(rest) if rest else names.UNKNOWN
    evidence: list[str] = []
    if source != names.UNKNOWN:
        renamed = by_hand | names.rename(rest, source, target)
    elif all(names.SKIPPED.fullmatch(name) for name in rest):
        renamed = by_hand | {name: name for name in rest}
    else:
        found = _inferred(checkpoint, rest, by_hand, witness)
        llama = found.maps[0]
        renamed = dict(zip(llama, names.rename(llama.values(), "llama", target).values(), strict=True))
        evidence = [f"{each.by}: {each.text}" for each in found.evidence]
    if twice := _twice(renamed):
        raise ZhenError(f"{' and '.join(twice)} would both be {renamed[twice[0]]!r}", file=checkpoint.folder)
    if lost := names.unmapped(renamed.values(), target):
        found_names = f"{len(lost)} names that {target} doesn't have: {_listed(lost)}"
        raise ZhenError(found_names, expected=f"names of {target}", place="--map")
    return source, {name: renamed[name] for name in stored}, evidence


def _inferred(
    checkpoint: Checkpoint, rest: Sequence[str], given: Mapping[str, str], witness: Witness | None
) -> Inference:
    """What an unknown naming means, if that is certain. Raises ZhenError with what is open, or what doesn't fit."""
    losses = witness(checkpoint) if witness else None
    try:
        found = infer(checkpoint, losses, given)
    except ZhenError as error:
        if error.place:  # of --map
            raise
        raise _unknown(rest, checkpoint.folder, error) from error
    if not found.certain:
        raise _open(found, checkpoint.folder, asked=witness is not None)
    return found


def _open(found: Inference, folder: Path, asked: bool) -> ZhenError:
    """What is to be said where several maps remain."""
    said = "; ".join(each.text for each in found.evidence)
    if found.remaining <= len(found.choices):
        maps = [", ".join(f"{old} is {short(new)}" for old, new in each.items()) for each in found.choices]
        left = ". ".join(f"({at}) {each}" for at, each in enumerate(maps, 1))
    else:
        left = "; ".join(found.open)
    old, new = next(iter(found.choices[0].items()))
    hint = f"say it, for example --map {old}={new}" + (
        "" if asked else "; or let the model tell by its loss: --text FILE"
    )
    return ZhenError(f"{found.remaining} maps fit the naming: {left}", expected=f"one ({said})", file=folder, hint=hint)


def _by_hand(checkpoint: Checkpoint, maps: Sequence[tuple[str, str]]) -> dict[str, str]:
    stored = list(checkpoint.tensors)
    parts = {part.name: part for part in templates({name: each.shape for name, each in checkpoint.tensors.items()})[0]}
    found: dict[str, str] = {}
    for old, new in maps:
        if old in parts and new.count(".N.") == 1:
            found |= {name: new.replace(".N.", f".{at}.") for at, name in enumerate(parts[old].members)}
            continue
        if old.count(".N.") != new.count(".N.") or old.count(".N.") > 1:
            raise ZhenError(
                f"{old}={new}", expected="OLD=NEW, with N for the layer's number on both sides", place="--map"
            )
        pattern = re.compile(re.escape(old).replace(r"\.N\.", r"\.(0|[1-9]\d*)\."), re.ASCII)
        matched = {name: match for name in stored if (match := pattern.fullmatch(name))}
        if not matched:
            hint = did_you_mean(old, {names.numbered(name)[0] for name in stored})
            raise ZhenError(f'no tensor "{old}"', expected="a name in the checkpoint", place="--map", hint=hint)
        for name, match in matched.items():
            found[name] = new.replace(".N.", f".{match[1]}.") if match.groups() else new
    return found


def _unknown(rest: Sequence[str], folder: Path, why: ZhenError) -> ZhenError:
    shapes = list(dict.fromkeys(names.numbered(name)[0] or name for name in rest))
    known = frozenset[str]().union(*(names.known(scheme) for scheme in names.SCHEMES))
    foreign = [shape for shape in shapes if shape not in known] or shapes
    found = f"naming of {len(rest)} tensors is unknown ({_listed(foreign)}), and {why.found}"
    hint = f"say what they are: --map {foreign[0]}=NAME, N for the layer's number"
    return ZhenError(found, expected="one of " + ", ".join(names.SCHEMES), file=folder, hint=hint)


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")


def _twice(renamed: Mapping[str, str]) -> list[str]:
    first: dict[str, str] = {}
    for old, new in renamed.items():
        if new in first:
            return [first[new], old]
        first[new] = old
    return []


def _rewrite(file: Path, renamed: Mapping[str, str], block: int) -> Rewrite:
    header = read_header(file)
    with file.open("rb") as opened:
        old = opened.read(header.data_start)
    if all(renamed[name] == name for name in header.tensors):
        return Rewrite(header, old, old)
    return Rewrite(header, old, renamed_header(header, renamed, block))


def renamed_header(header: Header, renamed: Mapping[str, str], block: int) -> bytes:
    """Length and header of the same tensors under other names, padded with spaces to the old length plus whole blocks.

    Raises ZhenError where it would be longer than the format allows.
    """
    table: dict[str, object] = {"__metadata__": header.metadata} if header.metadata else {}
    for name, tensor in header.tensors.items():
        offsets = [tensor.begin - header.data_start, tensor.end - header.data_start]
        table[renamed[name]] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    room = header.data_start - 8
    length = room + block * max(0, -(-(len(text) - room) // block))
    if length > HEADER_LIMIT:
        raise ZhenError(f"a header of {length} bytes", expected=f"at most {HEADER_LIMIT}", file=header.file)
    return length.to_bytes(8, "little") + text.ljust(length, b" ")
