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

from zhen.console import amount, say
from zhen.errors import ManyErrors, ZhenError
from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.harness.in_training import questions_found
from zhen.evaluate.harness.model import EngineLM
from zhen.evaluate.harness.own import task_of
from zhen.evaluate.harness.paired import paired_rows
from zhen.evaluate.harness.result import ITEMS, RESULTS, HowAsked, Measured, Options, Result, write_items
from zhen.evaluate.harness.task import MissingFiles, parts_of
from zhen.evaluate.in_training import shards_of, training_texts, training_tokens
from zhen.evaluate.items import Item, beside_training, digest, summary, unit_of
from zhen.evaluate.longcontext.grid import Grid
from zhen.evaluate.longcontext.positions import Positions
from zhen.evaluate.longcontext.task import LongTask, lengths_for, long_task
from zhen.evaluate.longcontext.texts import FOLDER, Texts, held_out_texts, texts_in
from zhen.evaluate.settings import LONG_CONTEXT
from zhen.formats.files import Digest, FolderLock, sha256_file, write_bytes, write_json
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
from zhen.infer.engine import Engine, load_engine
from zhen.infer.template import CONFIG, JINJA, ChatTemplate, load_template
from zhen.tokenizer.load import load_tokenizer

Progress = Callable[[int, int, str], None]
"""Requests done, of how many, which task."""

HASHED_BYTES = 10_000_000_000
"""Files of a checkpoint are hashed up to this many bytes in all; beyond, size and time stand for them."""

UNASKED_TOKENS = 100_000_000
"""Training tokens that are searched for questions without being asked to: 45 seconds' work on one thread at the rate in
docs/evaluate.md."""

PARTS = "parts"

Benches = dict[str, Bench | LongTask]
"""Tasks by name, ready to be put to models."""

PLACES = ("data", "shards")
"""Options that say where something lies."""


def evaluate_checkpoints(
    checkpoints: Sequence[Path],
    options: Options,
    out: Path | None = None,
    command: Sequence[str] = (),
    skip_missing: bool = False,
    progress: Progress = lambda done, total, facts: None,
) -> Path:
    """Put `checkpoints` to the tasks of `options`; returns the folder of the result.

    `out`: that folder; None: `runs/evaluate/<key>`, the key being that of inputs and options. A task that was finished
    before a stop is not done again. Raises ZhenError for tasks or files that are not there, before any model is loaded;
    `skip_missing` leaves tasks without files out. Questions are looked for in the training text of each checkpoint's
    run, where `options` name its shards, or these are there and have no more than `UNASKED_TOKENS`.
    """
    benches, skipped = _benches(options, checkpoints, skip_missing)
    files = {name: _digests(bench, Path(options.data)) for name, bench in benches.items()}
    asked = {name: _asked(bench, files[name]) for name, bench in benches.items()}
    models = {name: (path, _files(path)) for name, path in _names(checkpoints).items()}
    key = key_of(
        {
            "options": {name: value for name, value in msgspec.to_builtins(options).items() if name not in PLACES},
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
        for name, (path, weights) in models.items():
            measured[name], items[name] = _measure(name, path, weights, benches, options, work, progress)
        _look_in_training(options, checkpoints, benches, measured, items, progress)
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
        inputs = {file: known for some in files.values() for file, known in some.items()}
        _write(folder, key, result, items, inputs)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    return folder


def _benches(options: Options, checkpoints: Sequence[Path], skip_missing: bool) -> tuple[Benches, list[str]]:
    """The tasks by name, and those left out. Raises one error for all tasks whose files are not there."""
    data = Path(options.data)
    benches: Benches = {}
    missing: list[tuple[str, ZhenError]] = []
    texts = _texts(options, checkpoints) if set(LONG_CONTEXT) & set(options.tasks) else []
    for name in options.tasks:
        try:
            if name in LONG_CONTEXT:
                benches[name] = _long_task(name, texts, options, checkpoints)
                continue
            task = task_of(name)
            parts = parts_of(task, data)
        except MissingFiles as error:
            missing.append((name.partition("@")[0], error))
            continue
        benches[task.name] = Bench(task, parts, shots=options.shots, shot_seed=options.shot_seed, limit=options.limit)
    if missing and not (skip_missing and benches):
        raise missing[0][1] if len(missing) == 1 else ManyErrors([error for _, error in missing])
    return benches, [name for name, _ in missing]


def _long_task(name: str, texts: list[Texts], options: Options, checkpoints: Sequence[Path]) -> LongTask:
    if not texts:
        raise MissingFiles(
            f"no texts for `{name}`",
            expected=f"{FOLDER}/en/ or {FOLDER}/zh/ with .txt or .jsonl files below --data, or a checkpoint of a run",
            hint="docs/benchmarks.md, long context; --shards names the shards of a run",
        )
    return long_task(name, texts, lengths_for(checkpoints, options.lengths), options.limit, options.shot_seed)


def _texts(options: Options, checkpoints: Sequence[Path]) -> list[Texts]:
    """Texts of one's own, else the held-out documents of the run that the first checkpoint comes from."""
    own = texts_in(Path(options.data) / FOLDER) if options.data else []
    shards = Path(options.shards) if options.shards else shards_of(checkpoints[0])
    return own or (held_out_texts(shards, load_tokenizer(checkpoints[0])) if shards else [])


def _digests(bench: Bench | LongTask, data: Path) -> dict[str, Digest]:
    files = bench.inputs(data) if isinstance(bench, Bench) else bench.inputs()
    return {name: sha256_file(path) for name, path in sorted(files.items())}


def _asked(bench: Bench | LongTask, files: dict[str, Digest]) -> HowAsked:
    return msgspec.convert(bench.how() | {"data": {name: known.sha256 for name, known in files.items()}}, HowAsked)


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
    benches: Benches,
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
            found = _put(bench, engine, options, template, partial(_told, progress, f"{name} · {task}"))
            seconds = time.monotonic() - clock
            part.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(part, msgspec.json.encode((seconds, found)))
        items += found
        results[task] = summary(found, bench.how()["score"]) | {"seconds": round(seconds, 3)}
        if not isinstance(bench, Bench):
            results[task] |= bench.more(found)
    measured = Measured(
        checkpoint=str(path.absolute()),
        files=files,
        tokenizer=engine.tokenizer.sha256,
        template=_template_hash(path) if template else None,
        dtype=str(engine.model.dtype).removeprefix("torch."),
        device=engine.model.device.type,
        context_length=engine.context_length,
        results=results,
    )
    return measured, items


def _put(
    bench: Bench | LongTask,
    engine: Engine,
    options: Options,
    template: ChatTemplate | None,
    told: Callable[[int, int], None],
) -> list[Item]:
    """Put a task to a model."""
    if isinstance(bench, Positions):
        return bench.put_to(engine, told)
    if isinstance(bench, Grid):
        front = [engine.tokenizer.start_of_text] if options.bos == "add" and template is None else []
        return bench.put_to(engine, front, template, told)
    return bench.put_to(EngineLM(engine, options.bos, told, template), template is not None)


def _look_in_training(
    options: Options,
    checkpoints: Sequence[Path],
    benches: Benches,
    measured: dict[str, Measured],
    items: dict[str, list[Item]],
    progress: Progress,
) -> None:
    """Add to each task's results how many of its questions the training text of the model has, and the score of the
    others."""
    asked = {name: bench for name, bench in benches.items() if isinstance(bench, Bench)}
    if options.shards and not Path(options.shards).is_dir():
        raise ZhenError("no such folder of shards", file=options.shards)
    read = [0]
    known: dict[Path, dict[str, set[str]]] = {}

    def told(tokens: int) -> None:
        read[0] += tokens
        progress(read[0], 0, "tokens of training text searched for questions")

    for name, model in measured.items() if asked else ():
        path = Path(model.checkpoint)
        shards = Path(options.shards) if options.shards else shards_of(path)
        if shards is None:
            continue
        if not options.shards and (count := training_tokens(shards)) > UNASKED_TOKENS:
            searched = f"questions are not looked for in its {amount(count)} training tokens"
            say(f"{name}: {searched}; --shards {shards} asks for it")
            continue
        if shards not in known:
            tokenizer = load_tokenizer(checkpoints[0] if options.shards else path)
            known[shards] = questions_found(asked, training_texts(shards, tokenizer, told))
        for task, bench in asked.items():
            own = [item for item in items[name] if item.task == task]
            model.results[task] |= beside_training(own, bench.how()["score"], known[shards][task])


def _told(progress: Progress, facts: str, done: int, total: int) -> None:
    progress(done, total, facts)


def _template_hash(folder: Path) -> str:
    return sha256_file(folder / JINJA if (folder / JINJA).is_file() else folder / CONFIG).sha256


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("lm_eval", "datasets")}


def _write(folder: Path, key: str, result: Result, items: dict[str, list[Item]], files: dict[str, Digest]) -> None:
    """Items, results, record, in this order: a record means that all is there."""
    outputs = [
        (ITEMS, "result", write_items(folder / ITEMS, dict(items))),
        (RESULTS, "log", write_json(folder / RESULTS, msgspec.to_builtins(result))),
    ]
    figures = {
        f"{task}.{metric}.{name}": Figure(row["score"], unit_of(metric), row["n"], row["stderr"])
        for name, measured in result.models.items()
        for task, scores in measured.results.items()
        for metric, row in scores["metrics"].items()
    }
    inputs = [
        Input(f"{name}/{file}", (Path(measured.checkpoint) / file).stat().st_size, _sha256(known), _revision(known))
        for name, measured in result.models.items()
        for file, known in measured.files.items()
    ]
    inputs += [Input(file, *known) for file, known in files.items()]
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
