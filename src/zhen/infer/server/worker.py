"""The engine's thread: jobs in by a bounded queue, events out to the event loop they came from."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from zhen.console import say
from zhen.errors import ZhenError
from zhen.infer.engine import Engine
from zhen.infer.requests import Event, Request
from zhen.infer.server.refusals import Refusal, of_zhen

_WEIGHT = 0.1
"""How much the last job counts in the mean time a job takes."""


class Job:
    """Requests that are answered together. Lives on the event loop; only its worker touches it elsewhere."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = list(requests)
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[tuple[int, Event | Refusal]] = asyncio.Queue()
        """(place in `requests`, what came); after a Refusal nothing comes for that place."""
        self.open = len(self.requests)
        """Requests that have not ended."""
        self.begun = time.monotonic()
        self.ids: dict[int, int] = {}
        """Place -> the engine's id; the worker's thread alone uses it."""


class Worker:
    """Runs an engine in a thread of its own. `places`: most requests admitted at a time, waiting ones included."""

    def __init__(self, engine: Engine, places: int) -> None:
        self.engine, self.places = engine, places
        self.held = 0
        """Requests admitted that have not ended; the event loop's."""
        self.draining = False
        self._seconds = 1.0
        self._wake = threading.Condition()
        self._orders: list[tuple[Job, int | None]] = []
        """A job to submit, with None; or one with a place to give up."""
        self._closed = False
        self._jobs: dict[int, tuple[Job, int]] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request]) -> Job:
        """Admit requests, all or none. Raises Refusal: 429 where there is no place, 503 while draining."""
        if self.draining:
            raise Refusal(503, "the server is shutting down", code="draining", retry_after=5)
        if len(requests) > self.places:
            raise Refusal(400, f"{len(requests)} answers in one request: at most {self.places}", code="too_many")
        if self.held + len(requests) > self.places:
            wait = max(1, min(60, round(self._seconds * self.held / max(1, self.engine.batch))))
            raise Refusal(429, f"{self.held} requests are waiting or running", code="queue_full", retry_after=wait)
        job = Job(requests)
        self.held += len(requests)
        self._order((job, None))
        return job

    def cancel(self, job: Job, place: int | None = None) -> None:
        """Give up what of a job has not ended, or one request of it."""
        if job.open:
            self._order(*((job, each) for each in range(len(job.requests)) if place in (None, each)))

    def close(self) -> None:
        """End the thread; what is open is not answered any more."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _order(self, *orders: tuple[Job, int | None]) -> None:
        with self._wake:
            self._orders += orders
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._orders or self._jobs or self._closed)
                if self._closed:
                    return
                orders, self._orders = self._orders, []
            out: list[tuple[Job, int, Event | Refusal]] = []
            for job, place in orders:
                if place is None:
                    out += self._submit(job)
                elif place in job.ids:
                    self.engine.cancel(job.ids[place])
            out += self._step()
            _deliver(self, out)

    def _submit(self, job: Job) -> list[tuple[Job, int, Event | Refusal]]:
        refused: list[tuple[Job, int, Event | Refusal]] = []
        for place, request in enumerate(job.requests):
            try:
                number = self.engine.submit(request)
            except Exception as error:
                refused.append((job, place, _refusal(error)))
                continue
            job.ids[place] = number
            self._jobs[number] = job, place
        return refused

    def _step(self) -> list[tuple[Job, int, Event | Refusal]]:
        if not self._jobs:
            return []
        try:
            events = self.engine.step()
        # whatever it is, every request must get an answer and the next ones theirs
        except Exception as error:
            failed, self._jobs = self._jobs, {}
            for number in failed:
                self.engine.cancel(number)
            refusal = Refusal(500, _refusal(error).message, code="engine_error")
            return [(job, place, refusal) for job, place in failed.values()]
        out: list[tuple[Job, int, Event | Refusal]] = []
        for event in events:
            found = self._jobs.get(event.id)
            if found is None:
                continue
            if event.finish is not None:
                del self._jobs[event.id]
                del found[0].ids[found[1]]
            out.append((*found, event))
        return out

    def ended(self, job: Job) -> None:
        """One of a job's requests has ended (on the event loop)."""
        job.open -= 1
        self.held -= 1
        self._seconds += _WEIGHT * (time.monotonic() - job.begun - self._seconds)


def _deliver(worker: Worker, out: list[tuple[Job, int, Event | Refusal]]) -> None:
    """Hand events to the event loops that wait for them, one call a loop."""
    for loop in dict.fromkeys(job.loop for job, _, _ in out):
        mine = [each for each in out if each[0].loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_put, worker, mine)


def _put(worker: Worker, out: list[tuple[Job, int, Event | Refusal]]) -> None:
    for job, place, event in out:
        if isinstance(event, Refusal) or event.finish is not None:
            worker.ended(job)
        job.events.put_nowait((place, event))


def _refusal(error: Exception) -> Refusal:
    """What a request is told of an error. Only its kind and place are logged: a message may quote a prompt."""
    if isinstance(error, ZhenError):
        return of_zhen(error)
    say(f"engine: {place_of(error)}")
    return Refusal(500, "the engine failed", code="engine_error")


def place_of(error: BaseException) -> str:
    """The kind of an error and the line that raised it, without its message."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + where
