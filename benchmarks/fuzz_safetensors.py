"""Changed safetensors files against our reader and the reference: `python benchmarks/fuzz_safetensors.py`.

Each file must be refused by us with a named rule, or be accepted by both with the same tensors, bytes and metadata.
What we accept and the reference refuses must be nothing; what we refuse and it accepts is counted by rule, and only the
rules that docs/checkpoint-files.md lists as stricter may occur. The files are read in processes of their own: one that
crashes, takes more than 2 s or more than 300 MB is a fault. Exit status 1 on any fault.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize, safe_open

import safetensors_mutants as mutants
from zhen.checkpoint.safetensors import read_header
from zhen.console import out, table
from zhen.errors import ZhenError

SECONDS = 2
MEGABYTES = 300
ADDRESS_SPACE = 4 << 30
"""Bytes; libraries map more than they use, so that this only stops what runs away."""
STRICTER = frozenset(
    {"json.duplicate", "json.long"}
    | {f"safetensors.{name}" for name in ("name", "entry", "fields", "dtype", "overflow", "count")}
)
"""Rules by which we may refuse what the reference reads."""


def files(seed: int, count: int, suite: Path | None) -> Any:
    """The test suite's files first, then mutants, up to `count`."""
    cases = mutants.json_cases(suite) if suite else []
    whole = [(case, form) for case in cases for form in range(3)][:count]
    for case, form in whole:
        yield mutants.of_a_suite(case, form)
    for number in range(count - len(whole)):
        yield mutants.mutant(seed, number)


def verdict(file: Path, data: bytes) -> tuple[str, str | None, bool]:
    """(what came of it, our rule, whether the reference accepts). Faults begin with "FAULT"."""
    try:
        theirs = {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in deserialize(data)}
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError:
        theirs = None
    try:
        header = read_header(file)
    except ZhenError as error:
        if not error.rule:
            return f"FAULT: no rule: {error}", None, theirs is not None
        if theirs is not None and error.rule not in STRICTER:
            return f"FAULT: stricter by a rule that isn't: {error}", error.rule, True
        return "refused", error.rule, theirs is not None
    if theirs is None:
        return "FAULT: accepted what the reference refuses", None, False
    ours = {name: (t.dtype, t.shape, data[t.begin : t.end]) for name, t in header.tensors.items()}
    if ours != theirs or header.metadata != metadata:
        return "FAULT: read otherwise", None, True
    return "accepted, with a note" if header.notes else "accepted", None, True


def work(seed: int, count: int, suite: Path | None, first: int) -> None:
    """Judge the files from `first` on, one line of JSON each; what takes too long ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        for number, mutant in enumerate(files(seed, count, suite)):
            if number < first:
                continue
            file.write_bytes(mutant.data)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            began = time.perf_counter()
            try:
                outcome = verdict(file, mutant.data)
            except BaseException as error:  # what isn't a ZhenError is the fault that is looked for
                outcome = f"FAULT: {type(error).__name__}: {error}", None, False
            seconds = time.perf_counter() - began
            signal.setitimer(signal.ITIMER_REAL, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            line = (number, mutant.kind, mutant.in_header, *outcome, seconds, peak)
            print(json.dumps(line), flush=True)


def judged(arguments: argparse.Namespace) -> list[tuple[Any, ...]]:
    """The lines of all files; a process that dies is a fault of the file it had, and another goes on behind it."""
    lines: list[tuple[Any, ...]] = []
    while len(lines) < arguments.files:
        command = [sys.executable, __file__, *sys.argv[1:], "--work", str(len(lines))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines += [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        if len(lines) < arguments.files:
            fault = f"FAULT: ended by status {done.returncode}, a signal or more than {SECONDS} s"
            lines.append((len(lines), "unknown", True, fault, None, False, 0.0, 0))
    return lines


def main() -> int:
    """Make, judge and count the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--suite", type=Path, default=Path("../shared/data/dirty/json-test-suite.jsonl.zst"))
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    suite = arguments.suite if arguments.suite.exists() else None
    if arguments.work is not None:
        work(arguments.seed, arguments.files, suite, arguments.work)
        return 0
    lines = judged(arguments)
    outcomes = Counter(line[3] for line in lines)
    rules = Counter(line[4] for line in lines if line[3] == "refused")
    stricter = Counter(line[4] for line in lines if line[3] == "refused" and line[5])
    faults = [line for line in lines if line[3].startswith("FAULT")]
    accepted = sum(count for outcome, count in outcomes.items() if outcome.startswith("accepted"))
    slow, peak = max(line[6] for line in lines), max(line[7] for line in lines)
    if peak > MEGABYTES:
        faults.append((0, "memory", True, f"FAULT: {peak} MB", None, False, 0.0, peak))
    rows = [(rule, f"{count:,}", f"{stricter[rule]:,}") for rule, count in sorted(rules.items())]
    out.print(table(("rule", "refused", "of these read by the reference"), rows))
    print(f"{len(lines):,} files, {sum(line[2] for line in lines):,} of them changed in the header")
    print(
        f"refused by a named rule: {outcomes['refused']:,}; by it though the reference reads them: {stricter.total():,}"
    )
    print(f"accepted by both with equal bytes: {accepted:,}, {outcomes['accepted, with a note']:,} of them with a note")
    wrongly = sum("refuses" in line[3] for line in faults)
    print(f"accepted though the reference refuses them: {wrongly}; faults: {len(faults)}")
    print(f"slowest {slow:.2f} s, peak {peak} MB of the process, both readers and Python in it")
    for line in faults[:10]:
        print(line[0], line[1], line[3][:300])
    return bool(faults) or len(lines) != arguments.files


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
