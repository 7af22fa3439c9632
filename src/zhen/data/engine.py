"""The engine of data: Daft, in this process or on a Ray cluster. The only module that imports it."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

for _name, _value in {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

import daft  # noqa: E402
import pyarrow as pa  # noqa: E402
from daft.execution.udf import UdfHandle  # noqa: E402

from zhen.errors import ZhenError, missing_extra  # noqa: E402
from zhen.formats.files import die_with_parent  # noqa: E402

_used: list[float] = []
"""When Daft was last at work, in seconds of the monotonic clock."""

_TAKE_DOWN_SECONDS = 20.0
_LET_GO_SECONDS = 0.5

_runner: list[str | None] = []
"""The Ray address that Daft was started with in this process, or None; it can be set only once."""


class _Worker:
    """What runs in each worker process: calls the function on one unit's job after another."""

    def __init__(self, function: str, stop_file: str, local: bool) -> None:
        module, _, name = function.partition(":")
        self._function: Callable[[str], str] = getattr(importlib.import_module(module), name)
        self._stop_file = stop_file
        if local:
            die_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops at a safe point

    @daft.method.batch(return_dtype=daft.DataType.string())  # type: ignore[untyped-decorator]
    def __call__(self, jobs: daft.Series) -> list[str]:
        return [self._one(job) for job in jobs.to_pylist()]

    def _one(self, job: str) -> str:
        if os.path.exists(self._stop_file):
            return json.dumps({"stopped": True})
        try:
            return json.dumps({"result": self._function(job)})
        except ZhenError as error:
            return json.dumps({"error": [error.found, error.expected, error.file, error.place, error.hint]})
        except OSError as error:
            found = f"could not be read or written: {error.strerror or error}"
            return json.dumps({"error": [found, None, error.filename, None, "free space, check rights, run again"]})
        except Exception:
            return json.dumps({"bug": traceback.format_exc()})


def map_units(
    function: Callable[[str], str], jobs: Sequence[str], *, workers: int, ray: str | None = None
) -> Generator[str, None, None]:
    """Call `function` on each job in worker processes; yields the answers as they come, in any order.

    `function` is found by its module and name in the workers. Jobs and answers are short strings (JSON: paths,
    keys, counts). A worker dies with this process; when the caller stops early no further job is begun.
    """
    if not jobs:
        return
    _start(ray)
    stop_file = Path(tempfile.gettempdir()) / f"zhen-stop-{os.getpid()}-{os.urandom(8).hex()}"
    worker = daft.cls(_Worker, use_process=True, max_concurrency=min(workers, len(jobs)), max_retries=0)
    call = worker(f"{function.__module__}:{function.__qualname__}", str(stop_file), ray is None)
    # one job a batch: all rows of a batch go to the same process
    frame = daft.from_pydict({"job": list(jobs)}).into_batches(1).select(call(daft.col("job")).alias("answer"))
    rows = frame.iter_rows(results_buffer_size=None)
    try:
        for row in rows:
            answer = json.loads(row["answer"])
            if "error" in answer:
                found, expected, file, place, hint = answer["error"]
                raise ZhenError(found, expected=expected, file=file, place=place, hint=hint)
            if "bug" in answer:
                raise RuntimeError(f"in a worker process:\n{answer['bug']}")
            yield answer["result"]
    except RuntimeError as error:
        if "closed the connection" not in str(error):
            raise
        raise ZhenError(
            "a worker process of the data engine ended by itself",
            hint="most often memory ran out: run again with fewer workers; what is finished is kept",
        ) from error
    finally:
        stop_file.touch()
        rows.close()
        _used[:] = [time.monotonic()]
        stop_file.unlink(missing_ok=True)


@atexit.register
def _let_threads_end() -> None:
    """Daft's threads let go of Python objects a moment after an answer; a program that ends before them crashes."""
    while _used and any(type(each) is UdfHandle for each in gc.get_objects()):
        if time.monotonic() - _used[-1] > _TAKE_DOWN_SECONDS:
            return
        time.sleep(0.01)
    if _used:
        time.sleep(max(0.0, _used[-1] + _LET_GO_SECONDS - time.monotonic()))


def query(
    build: Callable[..., Any],
    tables: Mapping[str, pa.Table | Sequence[Path]],
    sort_by: Sequence[str],
    ray: str | None = None,
) -> pa.Table:
    """Run a query over narrow key columns: `build(**frames)` gets a Daft frame for each table and returns one.

    Tables are Arrow tables or lists of Parquet files. The answer is sorted by `sort_by`, which must name it
    wholly (no two rows equal in it), so that it is the same whatever the number of workers. Keys are integer
    columns: Daft cannot sort on binary ones.
    """
    _start(ray)
    frames = {
        name: daft.from_arrow(table) if isinstance(table, pa.Table) else daft.read_parquet([str(p) for p in table])
        for name, table in tables.items()
    }
    answer = build(**frames).sort(list(sort_by)).to_arrow()
    _used[:] = [time.monotonic()]
    return answer


def cluster_cores(ray: str) -> int:
    """CPU cores of the Ray cluster, at least 1."""
    _start(ray)
    return max(1, int(importlib.import_module("ray").cluster_resources().get("CPU", 1)))


def _start(ray: str | None) -> None:
    if _runner:
        if _runner[0] != ray:
            raise ZhenError(f"the data engine already runs {'on ' + _runner[0] if _runner[0] else 'in this process'}")
        return
    if ray is None:
        daft.set_runner_native()
    else:
        try:
            importlib.import_module("ray")
        except ImportError as error:
            raise missing_extra("ray", "cluster", "--ray") from error
        try:
            daft.set_runner_ray(ray, noop_if_initialized=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ZhenError(f"no Ray cluster at {ray}: {error}", hint="ray start --head prints its address") from error
    _runner.append(ray)
