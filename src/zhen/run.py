"""A recipe's run: which stages it has, their keys, what is stale, and taking them one after the other."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zhen.console import Line, Unseen
from zhen.errors import Interrupted, ZhenError, did_you_mean
from zhen.formats.files import TEMPORARY, FolderLock, point, remove_leftovers, temporary_name, write_text
from zhen.formats.outputs import ATTEMPTS, check_hashes, check_sizes, count_attempt, gather_outputs
from zhen.formats.record import (
    RECORD,
    Input,
    Record,
    key_of,
    library_versions,
    read_record,
    result_sections,
    this_host,
    utc_now,
    write_record,
)
from zhen.formats.stage import Context, Figures, Stage
from zhen.formats.stops import Stop
from zhen.recipe import Recipe, section, to_toml
from zhen.stages import STAGES
from zhen.train.bell import Bell
from zhen.train.tracker import tracker_module

OF_TEXT = ("data.scan", "data.decide", "data.write", "shards", "evaluate")
"""The stages that work on documents, or measure with them."""

UNKNOWN = "?"


@dataclass(frozen=True)
class Planned:
    """A stage of a run with its key (or `?` where a source is missing), folder and state."""

    stage: Stage
    key: str
    folder: Path
    sections: dict[str, Any]
    after: dict[str, str]
    inputs: list[Input]
    missing: ZhenError | None
    record: Record | None

    @property
    def state(self) -> str:
        """`done`, `stopped` (will go on), `to do`, or `source missing`."""
        if self.key == UNKNOWN:
            return "source missing" if self.missing else "unknown"
        if self.record is not None:
            return "done"
        return "stopped" if (self.folder / ATTEMPTS).exists() else "to do"


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that this recipe has, in order; without [pretrain] and [extend] none of text."""
    optional = {name: getattr(recipe, name) for name in ("sampleweb", "pretrain", "extend", "tune", "quantize")}
    stages = [stage for stage in STAGES if optional.get(stage.name, stage) is not None]
    learns = recipe.pretrain or recipe.extend
    return stages if learns else [stage for stage in stages if stage.name not in OF_TEXT]


def plan(recipe: Recipe, folder: Path) -> list[Planned]:
    """Each stage with its key and state, known before anything runs. Reads sources to hash them; writes nothing."""
    planned: dict[str, Planned] = {}
    for stage in stages_of(recipe):
        after = {name: planned[_stage_name(name)] for name in stage.after if _stage_name(name) in planned}
        sections = {name: section(recipe, name) for name in stage.sections}
        inputs: list[Input] = []
        missing: ZhenError | None = None
        if stage.inputs:
            try:
                inputs = _resolve(stage.inputs)(sections)
            except ZhenError as error:
                missing = error
        keys = {_stage_name(name): item.key for name, item in after.items()}
        key = UNKNOWN
        if missing is None and UNKNOWN not in keys.values():
            key = key_of(
                {
                    "stage": stage.name,
                    "version": stage.version,
                    "sections": result_sections(sections),
                    "after": keys,
                    "inputs": inputs,
                }
            )
        at = folder / "stages" / f"{stage.name}-{key[:8]}"
        record = read_record(at) if key != UNKNOWN else None
        if record is not None and record.key != key:
            raise ZhenError(f"holds the stage with key {record.key[:16]}", expected=key[:16], file=at)
        planned[stage.name] = Planned(stage, key, at, sections, keys, inputs, missing, record)
    return list(planned.values())


def _stage_name(after: str) -> str:
    return after.split("/", 1)[0]


def _resolve(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def select(planned: Sequence[Planned], names: Sequence[str]) -> list[Planned]:
    """The stages named (a stage's name stands for all its parts) and those before them; all without names."""
    if not names:
        return list(planned)
    known = {item.stage.name for item in planned} | {item.stage.name.split(".")[0] for item in planned}
    for name in names:
        if name not in known:
            raise ZhenError(
                f'no stage "{name}" in this recipe',
                expected=", ".join(dict.fromkeys(item.stage.name.split(".")[0] for item in planned)),
                hint=did_you_mean(name, known),
            )
    wanted: set[str] = set()
    for item in reversed(planned):
        if item.stage.name in names or item.stage.name.split(".")[0] in names or item.stage.name in wanted:
            wanted.add(item.stage.name)
            wanted.update(item.after)
    return [item for item in planned if item.stage.name in wanted]


class Run:
    """A run folder while it is worked on: holds the lock, takes the stages, keeps the log and the links."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        command: list[str],
        workers: int,
        ray: str | None,
        bell: str | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self._command = command
        self._workers = workers
        self._ray = ray
        self._bell = bell
        self._tracker = recipe.run.tracker or os.environ.get("ZHEN_TRACKER") or None
        self._stop = Stop()
        self._ranks: Any = None

    def take(self, names: Sequence[str] = ()) -> dict[str, Record]:
        """Run what is not done yet, in order; returns the records of the stages selected.

        Raises ZhenError for a missing source, a tampered output, a folder in use, a tracker or a bell that isn't there;
        Interrupted after Ctrl-C.
        """
        if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
            return self._take(names)
        self._ranks = _resolve("zhen.train.ranks:join")()
        taken: dict[str, Record] = self._ranks.ended_by(lambda: self._take(names), self._follow)
        return taken

    def _follow(self) -> dict[str, Record]:
        """Help process 0 with the stages that it takes, until it is done."""
        with self._stop.listening(self._ranks is not None), tempfile.TemporaryDirectory(prefix="zhen-") as scratch:
            while task := self._ranks.task():
                stage = next(stage for stage in STAGES if stage.name == task["stage"])
                context = Context(
                    folder=Path(tempfile.mkdtemp(dir=scratch)),
                    sections={name: section(self.recipe, name) for name in stage.sections},
                    after={name: Path(path) for name, path in task["after"].items()},
                    line=Unseen(),
                    stop_requested=self._stop_agreed,
                    workers=self._workers,
                    ranks=self._ranks,
                    leader=Path(task["folder"]),
                )
                _resolve(stage.run)(context)
        return {}

    def _take(self, names: Sequence[str]) -> dict[str, Record]:
        if self._tracker is not None:
            tracker_module(self._tracker)
        if self._bell is not None:
            Bell(self._bell)
        refuse_other_folders(self.folder)
        init = section(self.recipe, "model.init")
        if init is not None and Path(init).resolve().is_relative_to(self.folder.resolve()):
            raise ZhenError(
                f'model.init = "{init}" is in this run\'s own folder, which this run changes',
                hint="choose another folder for this run with --out",
            )
        with FolderLock(_shared(self.folder)), self._stop.listening(self._ranks is not None):
            planned = plan(self.recipe, self.folder)
            selected = select(planned, names)
            for item in selected:
                if item.record is not None:
                    check_sizes(item.folder, item.record)
            if self._ranks is not None:
                _refuse_for_many(selected)
            write_text(self.folder / "recipe.toml", to_toml(self.recipe))
            self._unlink_other_recipes(planned)
            records: dict[str, Record] = {}
            folders: dict[str, Path] = {}
            for item in selected:
                record = item.record
                if record is None:
                    if self._stop.asked:
                        raise Interrupted("stopped", hint="the same command goes on from here")
                    record = self._run_stage(item, folders)
                else:
                    self._log("kept", item)
                records[item.stage.name] = record
                folders[item.stage.name] = item.folder
                self._link(item, folders)
            return records

    def prune(self) -> list[Path]:
        """Remove the stage folders that the recipe does not use; returns them.

        Raises ZhenError for a folder in use, and where a source is missing: what the recipe uses isn't known then.
        """
        if (self.folder / "stages").is_symlink():
            raise ZhenError("shares its stages with other runs", expected="a run of its own", file=self.folder)
        with FolderLock(_shared(self.folder)):
            planned = plan(self.recipe, self.folder)
            for item in planned:
                if item.missing is not None:
                    raise item.missing
            used = {item.folder for item in planned}
            unused = [path for path in sorted((self.folder / "stages").iterdir()) if path not in used]
            for path in unused:
                # renamed first: killed here, nothing is left that looks finished and lacks files
                doomed = path if path.name.startswith(TEMPORARY) else path.rename(temporary_name(path))
                shutil.rmtree(doomed)
        return unused

    def _run_stage(self, item: Planned, folders: Mapping[str, Path]) -> Record:
        if item.missing is not None:
            raise item.missing
        item.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(item.folder)
        attempts = count_attempt(item.folder)
        if item.stage.name == "release":
            check_hashes(folders)
        line = Line(item.stage.name)
        context = self._context(item, folders, line)
        if attempts > 1:
            context.event("resumed", attempt=attempts)
        self._log("start", item, attempt=attempts)
        started, clock = utc_now(), time.monotonic()
        line.update(0, None, "started")
        if self._ranks is not None:
            after = {name: str(path) for name, path in context.after.items()}
            self._ranks.task({"stage": item.stage.name, "folder": str(item.folder), "after": after})
        try:
            figures: Figures = _resolve(item.stage.run)(context)
        except BaseException as error:
            line.abandon()
            with suppress(OSError):  # a full disk is told by the stage's own error
                self._log("stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed", item)
            raise
        seconds = time.monotonic() - clock
        record = Record(
            stage=item.stage.name,
            version=item.stage.version,
            key=item.key,
            sections=msgspec.to_builtins(item.sections),
            after=item.after,
            inputs=[context.inputs.get(given.path, given) for given in item.inputs],
            outputs=gather_outputs(context),
            command=self._command,
            versions=library_versions(),
            host=this_host(),
            started=started,
            seconds=round(seconds, 3),
            resumed=attempts - 1,
            figures=figures,
            events=context.events,
        )
        write_record(item.folder, record)
        (item.folder / ATTEMPTS).unlink(missing_ok=True)
        line.close(context.summary)
        self._log("done", item, seconds=record.seconds)
        return record

    def _context(self, item: Planned, folders: Mapping[str, Path], line: Line) -> Context:
        after = {}
        for name in item.stage.after:
            stage, _, inside = name.partition("/")
            if stage in folders:
                after[name] = folders[stage] / inside if inside else folders[stage]
        return Context(
            folder=item.folder,
            sections=item.sections,
            after=after,
            line=line,
            stop_requested=self._stop_agreed,
            workers=self._workers,
            ranks=self._ranks,
            ray=self._ray,
            tracker=self._tracker,
            bell=self._bell,
        )

    def _stop_agreed(self) -> bool:
        """Whether to stop: one of the processes was asked to, where there are several."""
        return self._stop.asked if self._ranks is None else bool(self._ranks.any(self._stop.asked))

    def _link(self, item: Planned, folders: Mapping[str, Path]) -> None:
        """Point the run's link of this stage at the folder in use; a later part also shows what earlier parts made."""
        name, _, part = item.stage.name.partition(".")
        if part:
            for other, folder in folders.items():
                if other.startswith(f"{name}.") and folder != item.folder:
                    for entry in sorted(folder.iterdir()):
                        made = entry.name != RECORD and not entry.name.startswith(".") and not entry.is_symlink()
                        if made and not (item.folder / entry.name).exists():
                            point(item.folder / entry.name, Path("..") / folder.name / entry.name)
        point(self.folder / name, Path("stages") / item.folder.name)

    def _unlink_other_recipes(self, planned: Sequence[Planned]) -> None:
        """Remove the links that earlier recipes left, so that all links together are the present one's."""
        present = {item.stage.name.split(".")[0]: item for item in planned}
        for link in [path for path in self.folder.iterdir() if path.is_symlink()]:
            target, item = Path(os.readlink(link)), present.get(link.name)
            known = item is None or item.key != UNKNOWN
            if target.parent == Path("stages") and known and (item is None or target.name != item.folder.name):
                link.unlink()

    def _log(self, what: str, item: Planned, **more: Any) -> None:
        row = {"time": utc_now(), "event": what, "stage": item.stage.name, "key": item.key[:8], **more}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _refuse_for_many(selected: Sequence[Planned]) -> None:
    """Raise ZhenError where a stage is to be taken that has no work for several processes."""
    for item in selected:
        if item.record is None and not item.stage.ranks:
            raise ZhenError(
                f"the stage {item.stage.name} has no work for more than one process",
                hint=f"run it without torchrun first: zhen run RECIPE {item.stage.name.split('.')[0]}",
            )


def _shared(folder: Path) -> Path:
    """The folder whose lock guards a run: where several runs share their stages by a link, the one they are in."""
    return (folder / "stages").resolve().parent


def refuse_other_folders(folder: Path) -> None:
    """Raise ZhenError where `folder` is, or lies below, a file, or holds files and is no run's: a run writes
    `recipe.toml`, `data`, … there."""
    at = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not at.is_dir():
        raise ZhenError("is no folder", file=at, place="--out", hint="choose another folder with --out")
    marks = (folder / ".lock", folder / "stages")
    if folder.is_dir() and any(folder.iterdir()) and not any(mark.exists() for mark in marks):
        raise ZhenError(
            "holds files, but no run",
            expected="a folder of an earlier run, an empty one, or none",
            file=folder,
            hint="choose another folder with --out",
        )


def records_of(folder: Path) -> dict[str, tuple[Path, Record]]:
    """Folder and record of every stage that a run folder's links lead to, parts included, in the order of work.

    Raises ZhenError where a link, or a record's `after`, leads to a folder without a record.
    """
    found: dict[str, tuple[Path, Record]] = {}
    links = [Path(os.readlink(path)) for path in folder.iterdir() if path.is_symlink()]
    waiting = [folder / link for link in links if link.parent == Path("stages")]
    while waiting:
        at = waiting.pop()
        record = read_record(at)
        if record is None:
            raise ZhenError("no record of a finished stage", file=at, hint="run the recipe again to make it anew")
        if record.stage not in found:
            found[record.stage] = (at, record)
            waiting.extend(folder / "stages" / f"{name}-{key[:8]}" for name, key in record.after.items())
    return {stage.name: found[stage.name] for stage in STAGES if stage.name in found}
