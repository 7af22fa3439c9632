"""A rename's folder in memory, and every state in which a crash can leave it.

The sequence of changes is recorded; of every prefix of it what was not synced is lost in all ways that a file system
may lose it: a write by sectors, an insert or a collapse in any of its steps, names in a folder in any subset.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhen.checkpoint import journal
from zhen.checkpoint.disk import Disk
from zhen.checkpoint.journal import JOURNAL, Journal
from zhen.checkpoint.renaming import BLOCK
from zhen.formats.files import TEMPORARY

FOLDER = Path("/simulated")
SECTOR = journal.SECTOR
MOST = 120
"""States looked at for one prefix; beyond it they are drawn at random."""

Op = tuple[Any, ...]


@dataclass
class Inode:
    """A file's bytes, and which of its blocks have no storage."""

    data: bytearray
    holes: set[int] = field(default_factory=set)
    stuck: tuple[int, int] | None = None
    """Where an insert stopped, and its length: blocks before that place have not moved, and later changes of the layout
    are lost, too. Written data still goes to the block that it was meant for, wherever that now lies."""

    def copy(self) -> Inode:
        return Inode(bytearray(self.data), set(self.holes))


class Simulated(Disk):
    """One folder in memory that records what is done to it; `fails_at` is the number of the change that is refused."""

    def __init__(self, files: dict[str, Inode], fails_at: int | None = None) -> None:
        super().__init__()
        self.files = files
        self.ops: list[Op] = []
        self._fails_at = fails_at

    def _do(self, *op: Any) -> None:
        if len(self.ops) == self._fails_at and op[0] in ("write", "create", "insert"):
            self._fails_at = None
            raise OSError(errno.ENOSPC, "no space")
        self.ops.append(op)
        apply(self.files, op)

    def size(self, file: Path) -> int | None:
        return len(self.files[file.name].data) if file.name in self.files else None

    def read(self, file: Path, length: int) -> bytes:
        return bytes(self.files[file.name].data[:length])

    def first_hole(self, file: Path) -> tuple[int, int]:
        inode = self.files[file.name]
        size = len(inode.data)
        if not inode.holes:
            return size, size
        first = end = min(inode.holes)
        while end in inode.holes:
            end += 1
        return first * BLOCK, min(end * BLOCK, size)

    def write(self, file: Path, offset: int, data: bytes) -> None:
        self._do("write", file.name, offset, data)

    def create(self, file: Path, data: bytes, like: Path) -> None:
        self._do("create", file.name, data)

    def insert(self, file: Path, length: int) -> None:
        self._do("insert", file.name, length)

    def collapse(self, file: Path, offset: int, length: int) -> None:
        assert offset % BLOCK == length % BLOCK == 0
        assert offset + length < len(self.files[file.name].data), "the system refuses this"
        self._do("collapse", file.name, offset, length)

    def truncate(self, file: Path, size: int) -> None:
        self._do("truncate", file.name, size)

    def sync(self, path: Path) -> None:
        self._do("sync", path.name if path != FOLDER else None)

    def replace(self, source: Path, target: Path) -> None:
        self._do("replace", source.name, target.name)

    def remove(self, file: Path) -> None:
        if file.name not in self.files:
            raise FileNotFoundError(file)
        self._do("remove", file.name)


def apply(files: dict[str, Inode], op: Op) -> None:
    """Do all of a change."""
    match op:
        case ("write", name, offset, data):
            write(files[name], offset, data, lambda sector: True)
        case ("create", name, data):
            files[name] = Inode(bytearray(data))
        case ("insert", name, length):
            shift(files[name], 0, length, 0)
        case ("collapse", name, offset, length):
            inode = files[name]
            del inode.data[offset : offset + length]
            gone = length // BLOCK
            inode.holes = {
                h if h < offset // BLOCK else h - gone for h in inode.holes if not 0 <= h - offset // BLOCK < gone
            }
        case ("truncate", name, size):
            del files[name].data[size:]
            files[name].holes = {hole for hole in files[name].holes if hole * BLOCK < size}
        case ("replace", source, target):
            files[target] = files.pop(source)
        case ("remove", name):
            del files[name]


def write(inode: Inode, offset: int, data: bytes, kept: Callable[[int], bool]) -> None:
    """Write those sectors of `data` that are kept."""
    for begin in range(offset - offset % SECTOR, offset + len(data), SECTOR):
        low, high = max(begin, offset), min(begin + SECTOR, offset + len(data))
        to = low
        if inode.stuck:
            gap, length = inode.stuck
            to = low - length if low - length < gap else low
        if kept(begin // SECTOR) and to >= 0:
            inode.data[to : to + high - low] = data[low - offset : high - offset]
    if not inode.stuck:
        inode.holes -= set(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))


def shift(inode: Inode, gap: int, length: int, size: int) -> None:
    """Put a gap of `length` at `gap`, a block's start; the file does not grow beyond `size` where that is given."""
    inode.data.extend(bytes(max(0, gap - len(inode.data))))
    inode.data[gap:gap] = bytes(length)
    del inode.data[size or len(inode.data) :]
    first, blocks = gap // BLOCK, length // BLOCK
    moved = {hole if hole < first else hole + blocks for hole in inode.holes}
    inode.holes = {hole for hole in moved | set(range(first, first + blocks)) if hole * BLOCK < len(inode.data)}


Outcome = Callable[[dict[str, Inode]], None]


def outcomes(op: Op, inode_of: Callable[[str], Inode | None], draw: random.Random) -> list[Outcome]:
    """What may have become of the data of a change that was not synced; all of it comes first."""

    def on(name: str, do: Callable[[Inode], None]) -> Outcome:
        def change(files: dict[str, Inode]) -> None:
            inode = inode_of(name)
            if inode and not (inode.stuck and op[0] in ("insert", "collapse", "truncate")):
                do(inode)

        return change

    match op:
        case ("write", name, offset, data):
            sectors = range(offset // SECTOR, -(-(offset + len(data)) // SECTOR))
            some = {sector for sector in sectors if draw.random() < 0.5}
            ways: list[Callable[[int], bool]] = [lambda sector: True, lambda sector: False]
            ways += [lambda sector, cut=cut: sector < cut for cut in list(sectors)[1:]]  # type: ignore[misc]
            ways += [lambda sector, cut=cut: sector >= cut for cut in list(sectors)[1:]]  # type: ignore[misc]
            ways += [lambda sector: sector in some, lambda sector: sector not in some]
            return [on(name, lambda inode, way=way: write(inode, offset, data, way)) for way in ways]  # type: ignore[misc]
        case ("create", name, data):
            cuts = (len(data), 0, len(data) // 2)
            return [on(name, lambda inode, cut=cut: inode.data.__setitem__(slice(None), data[:cut])) for cut in cuts]  # type: ignore[misc]
        case ("insert", name, length):
            inode = inode_of(name)
            assert inode is not None
            size = len(inode.data)

            def stop(inode: Inode, gap: int) -> None:
                shift(inode, gap, length, size + length)
                inode.stuck = (gap, length) if gap else None

            ways_in = [on(name, lambda inode, gap=gap: stop(inode, gap)) for gap in range(0, size + BLOCK, BLOCK)]  # type: ignore[misc]
            return [*ways_in, on(name, lambda inode: setattr(inode, "stuck", (size + BLOCK, length)))]
        case ("collapse", name, offset, length):
            inode = inode_of(name)
            assert inode is not None
            size = len(inode.data)
            gaps = range(offset, size - length + BLOCK, BLOCK)

            def part(inode: Inode, gap: int) -> None:
                apply({name: inode}, op)
                shift(inode, gap, length, size)

            whole = on(name, lambda inode: apply({name: inode}, op))
            return [whole, *[on(name, lambda inode, gap=gap: part(inode, gap)) for gap in gaps], lambda files: None]  # type: ignore[misc]
        case ("truncate", name, _):
            return [on(name, lambda inode: apply({name: inode}, op)), lambda files: None]
    raise AssertionError(op)


def crash_states(initial: dict[str, Inode], ops: list[Op], draw: random.Random) -> Iterator[dict[str, Inode]]:
    """What may be in the folder after a crash behind `ops`."""
    numbers = numbered(ops)
    syncs = [number if op[0] == "sync" else None for number, op in zip(numbers, ops, strict=True)]
    data_synced = [number in syncs[at:] for at, number in enumerate(numbers)]
    names_synced = [("sync", None) in ops[at:] for at in range(len(ops))]
    choices: list[list[int]] = []
    for at, op in enumerate(ops):
        if op[0] in ("replace", "remove"):
            choices.append([0] if names_synced[at] else [0, 1])
        elif op[0] == "sync":
            choices.append([0])
        else:
            count = 1 if data_synced[at] else len(outcomes(op, _at(initial, ops[:at]), random.Random(at)))
            named = [0] if op[0] != "create" or names_synced[at] else [0, 1]
            choices.append([2 * way + name for way in range(count) for name in named])
    total = 1
    for choice in choices:
        total *= len(choice)
    picks: Any = itertools.product(*choices)
    if total > MOST:
        picks = ([draw.choice(choice) for choice in choices] for _ in range(MOST))
    for pick in picks:
        yield left(initial, ops, pick)


def numbered(ops: list[Op]) -> list[object]:
    """Which file each change is of, whatever its name is just then."""
    names: dict[Any, object] = {}
    found = []
    for at, op in enumerate(ops):
        if op[0] == "create":
            names[op[1]] = at
        found.append(names.get(op[1], op[1]))
        if op[0] == "replace":
            names[op[2]] = names.pop(op[1])
    return found


def _at(initial: dict[str, Inode], ops: list[Op]) -> Callable[[str], Inode | None]:
    files = {name: inode.copy() for name, inode in initial.items()}
    for op in ops:
        apply(files, op)
    return files.get


def left(initial: dict[str, Inode], ops: list[Op], pick: tuple[int, ...]) -> dict[str, Inode]:
    """The folder where each change had the outcome picked: 2 × way of the data + whether the name was lost."""
    durable = {name: inode.copy() for name, inode in initial.items()}
    seen = dict(durable)  # names as the process saw them: the same inodes
    for at, (op, choice) in enumerate(zip(ops, pick, strict=True)):
        way, lost = divmod(choice, 2)
        match op[0]:
            case "replace":
                seen[op[2]] = inode = seen.pop(op[1])
                if not choice:
                    durable[op[2]] = inode
                    durable.pop(op[1], None)
            case "remove":
                del seen[op[1]]
                if not choice:
                    durable.pop(op[1], None)
            case "sync":
                pass
            case _:
                if op[0] == "create":
                    seen[op[1]] = Inode(bytearray())
                    if not lost:
                        durable[op[1]] = seen[op[1]]
                ways = outcomes(op, seen.get, random.Random(at))
                ways[way % len(ways)](seen)
    return {name: inode.copy() for name, inode in durable.items()}


def visible(files: dict[str, Inode]) -> dict[str, bytes]:
    return {name: bytes(inode.data) for name, inode in files.items() if not name.startswith(TEMPORARY)}


def recovered(files: dict[str, Inode]) -> Simulated:
    """The folder after the next opening of it."""
    disk = Simulated(files)
    if JOURNAL in files:
        steps = journal.decode(bytes(files[JOURNAL].data), FOLDER / JOURNAL)
        if steps is None:
            del files[JOURNAL]
        else:
            journal.finish(FOLDER, steps, disk)
    return disk


def done(files: dict[str, Inode], steps: Journal, fails_at: int | None = None) -> Simulated:
    """The folder after a rename; one that is refused something half-way takes all back."""
    disk = Simulated({name: inode.copy() for name, inode in files.items()}, fails_at)
    try:
        journal.begin(FOLDER, steps, disk)
        journal.forward(FOLDER, steps, disk)
    except OSError:
        journal.take_back(FOLDER, steps, disk)
    else:
        journal.end(FOLDER, disk)
    return disk
