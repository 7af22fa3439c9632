"""Every state in which a crash can leave a rename in place recovers to the old or the new checkpoint."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashes import FOLDER, MOST, Inode, Op, Simulated, crash_states, done, recovered, visible

from zhen.checkpoint import journal
from zhen.checkpoint.disk import Disk
from zhen.checkpoint.journal import Journal
from zhen.checkpoint.rename import Wanted, _journal, rename_checkpoint
from zhen.checkpoint.renaming import BLOCK, plan_rename
from zhen.errors import ZhenError


@pytest.fixture(scope="module")
def planned(
    tmp_path_factory: pytest.TempPathFactory, write_yi: Callable[..., Path]
) -> tuple[dict[str, Inode], Journal]:
    """A folder of several shards, one of which has room for its new header, and the journal of its rename."""
    folder = write_yi(tmp_path_factory.mktemp("crash") / "yi", layers=8, shard_bytes=14000)
    shards = sorted(folder.glob("*.safetensors"))
    data = shards[0].read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    roomy = (end - 8 + 600).to_bytes(8, "little") + data[8:end] + b" " * 600
    shards[0].write_bytes(roomy + data[end:])
    steps = _journal(plan_rename(folder, "llama"), {})
    assert sorted({weights.insert for weights in steps.weights}) == [0, BLOCK]
    return {file.name: Inode(bytearray(file.read_bytes())) for file in folder.iterdir()}, steps


def test_every_crash_of_a_rename_recovers_to_old_or_new(planned: tuple[dict[str, Inode], Journal]) -> None:
    files, steps = planned
    whole = done(files, steps)
    old, new = visible(files), visible(whole.files)
    assert old != new
    draw = random.Random(1)
    states = outcome_old = 0
    for end in range(len(whole.ops) + 1):
        for state in crash_states(files, whole.ops[:end], draw):
            found = visible(recovered(state).files)
            assert found in (old, new), (end, whole.ops[end - 1][:2])
            states, outcome_old = states + 1, outcome_old + (found == old)
    assert states > 1000
    assert 0 < outcome_old < states


def test_every_crash_of_a_recovery_recovers_too(planned: tuple[dict[str, Inode], Journal]) -> None:
    files, steps = planned
    whole = done(files, steps)
    both = visible(files), visible(whole.files)
    draw = random.Random(2)
    for end in range(len(whole.ops) + 1):
        first = list(itertools.islice(crash_states(files, whole.ops[:end], draw), MOST))
        for state in draw.sample(first, min(2, len(first))):
            again = recovered({name: inode.copy() for name, inode in state.items()})
            for cut in range(len(again.ops)):
                for second in itertools.islice(crash_states(state, again.ops[:cut], draw), 6):
                    assert visible(recovered(second).files) in both


def test_a_rename_that_is_refused_something_takes_all_back_whatever_crashes(
    planned: tuple[dict[str, Inode], Journal],
) -> None:
    files, steps = planned
    both = visible(files), visible(done(files, steps).files)
    draw = random.Random(3)
    changes = [at for at, op in enumerate(done(files, steps).ops) if op[0] in ("write", "create", "insert")]
    for refused in changes:
        taken_back = done(files, steps, fails_at=refused)
        assert visible(taken_back.files) == both[0]
        for end in range(refused, len(taken_back.ops) + 1):
            for state in itertools.islice(crash_states(files, taken_back.ops[:end], draw), 10):
                assert visible(recovered(state).files) in both


class Recording(Disk):
    """The real disk, with a note of every change."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("write", "create", "insert", "collapse", "truncate", "sync", "replace", "remove"):
            return found

        def noted(*arguments: Any) -> None:
            plain = [item.name if isinstance(item, Path) and item.is_file() else item for item in arguments]
            self.ops.append((name, *plain))
            found(*arguments)

        return noted


@pytest.mark.usefixtures("inserts")
def test_the_system_does_what_the_simulation_does(tmp_path: Path, write_yi: Callable[..., Path]) -> None:
    folder = write_yi(tmp_path / "yi", layers=4)
    files = {file.name: Inode(bytearray(file.read_bytes())) for file in folder.iterdir()}
    real = Recording()
    rename_checkpoint(folder, Wanted(target="llama", in_place=True, verify=False), disk=real)
    kinds = [op[0] for op in real.ops]
    assert kinds.count("insert") >= 2
    simulated = Simulated(files)
    again = write_yi(tmp_path / "again" / "yi", layers=4)
    steps = _journal(plan_rename(again, "llama"), {})
    journal.begin(FOLDER, steps, simulated)
    journal.forward(FOLDER, steps, simulated)
    journal.end(FOLDER, simulated)
    assert [op[0] for op in simulated.ops] == kinds
    assert visible(simulated.files) == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_file_that_no_rename_leaves_is_refused(planned: tuple[dict[str, Inode], Journal]) -> None:
    files, steps = planned
    changed = {name: inode.copy() for name, inode in files.items()}
    changed[steps.weights[1].file].data[3] ^= 1
    with pytest.raises(ZhenError, match="neither the old nor the new"):
        journal.finish(FOLDER, steps, Simulated(changed))
