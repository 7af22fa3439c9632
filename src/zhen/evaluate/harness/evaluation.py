"""`zhen evaluate`: models put to benchmarks, each finished task kept, results and items written, a record left."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from zhen.errors import ManyErrors, ZhenError
from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.harness.in_training import questions_found
from zhen.evaluate.harness.items import Item, beside_training, digest, summary
from zhen.evaluate.harness.model import EngineLM
from zhen.evaluate.harness.own import task_of
from zhen.evaluate.harness.paired import paired_rows
from zhen.evaluate.harness.result import ITEMS, RESULTS, HowAsked, Measured, Options, Result, write_items
from zhen.evaluate.harness.task import MissingFiles, parts_of
from zhen.evaluate.in_training import training_texts
from zhen.formats.files import FolderLock, sha256_file, write_bytes, write_json
from zhen.formats.record import (
    VERB_RECORD,
    Figure,
    Input,
    Output,
    Record,
    key_of,
    library_versions,
    this_host,
    utc_now,
    write_record,
)
from zhen.infer.engine import load_engine
from zhen.infer.template import CONFIG, JINJA, load_template
from zhen.tokenizer.load import Tokenizer, load_tokenizer

Progress = Callable[[int, int, str], None]
"""Requests done, of how many, which task."""

HASHED_BYTES = 10_000_000_000
"""Files of a checkpoint are hashed up to this many bytes in all; beyond, size and time stand for them."""

PARTS = "parts"


def evaluate_checkpoints(
    checkpoints: Sequence[Path],
    options: Options,
    out: Path | None = None,
    command: Sequence[str] = (),
    skip_missing: bool = False,
    shards: Path | None = None,
    progress: Progress = lambda done, total, facts: None,
) -> Path:
    """Put `checkpoints` to the tasks of `options`; returns the folder of the result.

    `out`: that folder; None: `runs/evaluate/<key>`, the key being that of inputs and options. A task that was finished
    before a stop is not done again. Raises ZhenError for tasks or files that are not there, before any model is loaded;
    `skip_missing` leaves tasks without files out. `shards`: the training text of the first checkpoint's run, in which
    questions are looked for.
    """
    benches, skipped = _benches(options, skip_missing)
    asked = {name: _asked(bench, Path(options.data)) for name, bench in benches.items()}
    models = {name: (path, _files(path)) for name, path in _names(checkpoints).items()}
    key = key_of(
        {
            "options": {name: value for name, value in msgspec.to_builtins(options).items() if name != "data"},
            "tasks": asked,
            "models": {name: files for name, (_, files) in models.items()},
            "versions": {**library_versions(), **_versions()},
        }
    )
    folder = out or Path("runs") / "evaluate" / key[:12]
    started, clock = utc_now(), time.monotonic()
    with FolderLock(folder):
        work = folder / PARTS / key[:12]
        measured, items = {}, {}
        for name, (path, files) in models.items():
            measured[name], items[name] = _measure(name, path, files, benches, options, work, progress)
        if shards is not None:
            _look_in_training(shards, load_tokenizer(checkpoints[0]), benches, asked, measured, items, progress)
        result = Result(
            options=options,
            tasks=asked,
            models=measured,
            skipped=skipped,
            paired=list(paired_rows(items, {name: how.score for name, how in asked.items()})),
            versions=library_versions() | _versions(),
            host=this_host(),
            command=list(command),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        )
        _write(folder, key, result, items)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    return folder


def _benches(options: Options, skip_missing: bool) -> tuple[dict[str, Bench], list[str]]:
    """The tasks by name, and those left out. Raises one error for all tasks whose files are not there."""
    data, benches = Path(options.data), {}
    missing: list[tuple[str, ZhenError]] = []
    for task in [task_of(name) for name in options.tasks]:
        try:
            parts = parts_of(task, data)
        except MissingFiles as error:
            missing.append((task.name, error))
            continue
        benches[task.name] = Bench(task, parts, shots=options.shots, shot_seed=options.shot_seed, limit=options.limit)
    if missing and not (skip_missing and benches):
        raise missing[0][1] if len(missing) == 1 else ManyErrors([error for _, error in missing])
    return benches, [name for name, _ in missing]


def _asked(bench: Bench, data: Path) -> HowAsked:
    files = {path for part in bench.parts.values() for path in part.files}
    hashes = {str(path.relative_to(data)): sha256_file(path).sha256 for path in sorted(files)}
    return msgspec.convert(bench.how() | {"data": hashes}, HowAsked)


def _names(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Checkpoints by short names: the folder's, and as much of its path as tells them apart."""
    paths = [path.absolute() for path in checkpoints]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ZhenError("the same checkpoint twice", expected="different ones")
    for depth in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, checkpoints, strict=True))
    return dict(zip(map(str, paths), checkpoints, strict=True))


def _files(folder: Path) -> dict[str, str]:
    """What the weights and their config are: SHA-256, or size and time of what is beyond HASHED_BYTES."""
    if not folder.is_dir():
        raise ZhenError("no such folder", expected="a checkpoint's folder", file=folder)
    paths = sorted(p for p in folder.iterdir() if p.name == "config.json" or ".safetensors" in p.name)
    found, left = {}, HASHED_BYTES
    for path in paths:
        status = path.stat()
        left -= status.st_size
        known = f"{status.st_size} bytes, mtime {status.st_mtime_ns}"
        found[path.name] = sha256_file(path).sha256 if left >= 0 else known
    return found


def _measure(
    name: str,
    path: Path,
    files: dict[str, str],
    benches: dict[str, Bench],
    options: Options,
    work: Path,
    progress: Progress,
) -> tuple[Measured, list[Item]]:
    """A model and all its items; what lies finished in `work` is read back."""
    engine = load_engine(path, dtype=options.dtype, batch=options.batch)
    template = load_template(path) if options.template else None
    if options.template and template is None:
        raise ZhenError("has no chat template", expected=f"{JINJA}, or one in {CONFIG}", file=path)
    items: list[Item] = []
    results: dict[str, dict[str, Any]] = {}
    for task, bench in benches.items():
        part = work / digest(name) / f"{digest(task)}.json"
        if part.exists():
            seconds, found = msgspec.json.decode(part.read_bytes(), type=tuple[float, list[Item]])
        else:
            clock = time.monotonic()
            told = partial(_told, progress, f"{name} · {task}")
            found = bench.put_to(EngineLM(engine, options.bos, told, template), template is not None)
            seconds = time.monotonic() - clock
            part.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(part, msgspec.json.encode((seconds, found)))
        items += found
        results[task] = summary(found, bench.how()["score"]) | {"seconds": round(seconds, 3)}
    measured = Measured(
        checkpoint=str(path.absolute()),
        files=files,
        tokenizer=engine.tokenizer.sha256,
        template=_template_hash(path) if template else None,
        dtype=str(engine.model.lm_head.weight.dtype).removeprefix("torch."),
        device=engine.model.lm_head.weight.device.type,
        context_length=engine.context_length,
        results=results,
    )
    return measured, items


def _look_in_training(
    shards: Path,
    tokenizer: Tokenizer,
    benches: dict[str, Bench],
    asked: dict[str, HowAsked],
    measured: dict[str, Measured],
    items: dict[str, list[Item]],
    progress: Progress,
) -> None:
    """Add to each task's results how many of its questions the training text has, and the score of the others."""
    if not shards.is_dir():
        raise ZhenError("no such folder of shards", file=shards)
    read = [0]

    def told(tokens: int) -> None:
        read[0] += tokens
        progress(read[0], 0, "tokens of training text searched for questions")

    found = questions_found(benches, training_texts(shards, tokenizer, told))
    for name, model in measured.items():
        for task, row in model.results.items():
            own = [item for item in items[name] if item.task == task]
            row |= beside_training(own, asked[task].score, found[task])


def _told(progress: Progress, facts: str, done: int, total: int) -> None:
    progress(done, total, facts)


def _template_hash(folder: Path) -> str:
    return sha256_file(folder / JINJA if (folder / JINJA).is_file() else folder / CONFIG).sha256


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("lm_eval", "datasets")}


def _write(folder: Path, key: str, result: Result, items: dict[str, list[Item]]) -> None:
    """Items, results, record, in this order: a record means that all is there."""
    outputs = [
        (ITEMS, "result", write_items(folder / ITEMS, dict(items))),
        (RESULTS, "log", write_json(folder / RESULTS, msgspec.to_builtins(result))),
    ]
    figures = {
        f"{task}.{metric}.{name}": Figure(row["score"], "mean", row["n"], row["stderr"])
        for name, measured in result.models.items()
        for task, scores in measured.results.items()
        for metric, row in scores["metrics"].items()
    }
    inputs = [
        Input(f"{name}/{file}", (Path(measured.checkpoint) / file).stat().st_size, _sha256(known), _revision(known))
        for name, measured in result.models.items()
        for file, known in measured.files.items()
    ]
    inputs += [
        Input(file, (Path(result.options.data) / file).stat().st_size, sha256)
        for how in result.tasks.values()
        for file, sha256 in how.data.items()
    ]
    record = Record(
        stage="evaluate",
        version=1,
        key=key,
        sections={"evaluate": msgspec.to_builtins(result.options)},
        after={},
        inputs=inputs,
        outputs=[Output(path, known.bytes, known.sha256, kind) for path, kind, known in outputs],  # type: ignore[arg-type]
        command=result.command,
        versions=result.versions,
        host=result.host,
        started=result.started,
        seconds=result.seconds,
        resumed=0,
        figures=figures,
    )
    write_record(folder, record, VERB_RECORD)


def _sha256(known: str) -> str | None:
    return known if len(known) == 64 else None


def _revision(known: str) -> str | None:
    return None if len(known) == 64 else known
