"""The processes of one training under torchrun: small values between them, whose error is told, how they end.

Process 0 leads: it holds the run's lock, its record and the console. The others wait for the stages that it takes.
Large tensors never pass through here; the collectives of training have groups of their own (`parallel.py`).
"""

from __future__ import annotations

import datetime
import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from zhen.errors import COULD_NOT, Follows, ZhenError

Made = TypeVar("Made")

LONG = datetime.timedelta(days=30)
"""How long a process waits for the next stage: process 0 may be hashing inputs."""

GRACE = datetime.timedelta(seconds=3)
"""How long one whose partner went away waits for the reason."""

BEGINNINGS = 3
"""How often torchrun may have a training begin at the same step."""

_ERROR = "error"


class Ranks:
    """This process among its equals; one process alone by default. Every method but `first` is called by all."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._tasks = 0
        self._aside: dist.ProcessGroup | None = None

    def open(self, timeout: float) -> None:
        """Make the groups; a partner that stays away for `timeout` seconds is an error from now on."""
        if self.size > 1 and self._aside is None:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            spell = datetime.timedelta(seconds=timeout)
            # torchrun's store may outlive an attempt, and hold the addresses of those who are gone
            store = PrefixStore(_key("groups"), _store())
            dist.init_process_group(backend, timeout=spell, store=store, rank=self.rank, world_size=self.size)
            self._aside = dist.new_group(backend="gloo", timeout=spell)

    def total(self, values: list[float]) -> list[float]:
        """The sums over all processes, float64."""
        if self.size == 1:
            return values
        given = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(given)
        found: list[float] = given.tolist()
        return found

    def any(self, flag: bool) -> bool:
        """Whether one of the processes says so."""
        return self.total([float(flag)])[0] > 0

    def shared(self, value: Callable[[], Any]) -> Any:
        """What `value()` gives on process 0 (JSON), for all."""
        if self.size == 1:
            return value()
        return json.loads(_passed(json.dumps(value()).encode() if self.rank == 0 else b"", None))

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value (JSON), by rank, for all. It has a group of its own, so that a thread may call it."""
        if self.size == 1:
            return [value]
        own = json.dumps(value).encode()
        return [json.loads(_passed(own if at == self.rank else b"", self._aside, at)) for at in range(self.size)]

    def begun(self, place: str) -> None:
        """A training begins at `place`. Raises ZhenError on process 0 where torchrun had it begin there too often."""
        if self.size > 1 and self.rank == 0:
            times = _store().add(f"zhen/begun/{place}", 1)
            if times > BEGINNINGS:
                raise ZhenError(
                    f"was begun {times} times without coming to another training checkpoint",
                    place=place,
                    hint="what failed is told above, and will fail again; torchrun --max-restarts does not help",
                )

    def task(self, value: Mapping[str, Any] | None = None) -> Any:
        """The next stage to take: given by process 0, awaited by the others; empty at the end.

        Raises Follows where that is because process 0 failed.
        """
        store, key = _store(), _key(f"task/{self._tasks}")
        self._tasks += 1
        if self.rank == 0:
            store.set(key, json.dumps(value or {}))
            return value
        store.wait([key], LONG)
        given = json.loads(store.get(key))
        if not given and store.check([_key(_ERROR)]):
            raise Follows(_status(store.get(_key(_ERROR))))
        return given

    def ended_by(self, lead: Callable[[], Made], follow: Callable[[], Made]) -> Made:
        """Call `lead` on process 0, `follow` on the others. An error ends all; who has it first tells it."""
        try:
            if self.rank:
                return follow()
            made = lead()
            self.task()
            return made
        except BaseException as error:
            told = self.first(error)
            if self.rank == 0:
                self.task()
            if told is error:
                raise
            raise told from error

    def first(self, error: BaseException) -> BaseException:
        """The error to end with: `error` itself where this process is the first to fail, else one without words."""
        if isinstance(error, Follows | KeyboardInterrupt):
            return error
        lost = _is_loss(error)
        store, key = _store(), _key(_ERROR)
        if lost:
            try:
                store.wait([key], GRACE)
            except dist.DistError:
                error = ZhenError(
                    f"process {self.rank} of {self.size} waited for another one that is gone, or stands still",
                    place=_short(lost),
                    hint="the same command goes on from the last training checkpoint; torchrun says which one ended",
                )
        status = getattr(error, "status", COULD_NOT)
        mine = f"{self.rank} {status}"
        found = store.compare_set(key, "", mine)
        return error if found == mine.encode() else Follows(_status(found))


ALONE = Ranks()


def join() -> Ranks:
    """This process among those that torchrun started."""
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@functools.cache
def _store() -> TCPStore:
    """Where small values are left for each other; torchrun keeps it, so that it outlives every process."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and os.environ["RANK"] == "0"
    return TCPStore(host, port, is_master=own, multi_tenant=True)


def _key(what: str) -> str:
    """Its name in the store, in this attempt of torchrun's."""
    return f"zhen/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{what}"


def _status(first: bytes) -> int:
    """The exit status of the process that failed first, which it left beside its number."""
    return int(first.split()[1])


def _passed(data: bytes, group: dist.ProcessGroup | None, source: int = 0) -> bytes:
    """The bytes of process `source`, for all."""
    length = torch.tensor([len(data)])
    dist.broadcast(length, source, group=group)
    content = torch.empty(int(length), dtype=torch.uint8)
    if data:
        content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(content, source, group=group)
    return bytes(content.numpy().data)


def _is_loss(error: BaseException) -> BaseException | None:
    """The error of a collective that stands behind `error`: a partner closed its connection, or stayed away."""
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).lower()
        marks = ("gloo", "connection closed", "connection reset", "timed out", "nccl", "broken pipe")
        if isinstance(seen, dist.DistError | RuntimeError) and any(mark in text for mark in marks):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _short(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 160 else line[:159] + "…"
