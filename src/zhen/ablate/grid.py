"""Taking the points of an ablation: one folder, common stages, a run for each point and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from zhen.ablate.points import Point
from zhen.ablate.results import Outcome, PointResult, with_mean
from zhen.console import say
from zhen.errors import ZhenError
from zhen.formats.files import point as link
from zhen.formats.files import write_json
from zhen.formats.record import Record
from zhen.model.config import ModelConfig
from zhen.model.size import flops_per_token, kv_bytes_per_token, parameters
from zhen.recipe import Recipe, model_config
from zhen.run import Run, plan, refuse_other_folders, select
from zhen.train.health import Diverged

LAST = "pretrain"
"""The stage at which a point ends: its record has the held-out losses, and post-norm has no checkpoint behind it."""

DIVERGED = "diverged.json"


class _Diverged(msgspec.Struct, frozen=True):
    """That a point's training came to an end without a result; kept, so that it isn't tried again."""

    key: str
    """Of the stage."""
    where: str


class Grid:
    """The folder of an ablation: `stages/` common to all, and `points/<point>-seed<n>/`, each a run."""

    def __init__(self, folder: Path, command: list[str], workers: int) -> None:
        """Raises ZhenError where `folder` is something else."""
        refuse_other_folders(folder)
        self.folder = folder
        self._command = command
        self._workers = workers

    def plan(self, points: Sequence[Point]) -> Iterator[tuple[Point, int, str, ZhenError | None]]:
        """The state of every run's last stage: as a run has it, or `diverged`; and what is missing for it. Writes
        nothing."""
        for each in points:
            for seed, recipe in each.recipes.items():
                items = {item.stage.name: item for item in plan(recipe, self.folder)}
                missing = next((item.missing for item in items.values() if item.missing), None)
                state = "diverged" if self._diverged(each, seed, items[LAST].key) else items[LAST].state
                yield each, seed, state, missing

    def take(self, points: Sequence[Point]) -> list[PointResult]:
        """Run what is not done yet, seed by seed, so that all points have been seen once before any is repeated."""
        seeds = list(dict.fromkeys(seed for each in points for seed in each.recipes))
        runs = [(each, seed) for seed in seeds for each in points if seed in each.recipes]
        outcomes: dict[str, list[Outcome]] = {each.name: [] for each in points}
        for number, (each, seed) in enumerate(runs, 1):
            say(f"run {number} of {len(runs)}: {each.name}, seed {seed}")
            outcomes[each.name].append(self._take(each, seed))
        return [result(each, outcomes[each.name]) for each in points]

    def _folder(self, each: Point, seed: int) -> Path:
        return self.folder / "points" / f"{each.name}-seed{seed}"

    def _diverged(self, each: Point, seed: int, key: str) -> _Diverged | None:
        """What is known of a run whose stage `key` came to no result."""
        try:
            found = msgspec.json.decode((self._folder(each, seed) / DIVERGED).read_bytes(), type=_Diverged)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if found.key == key else None

    def _take(self, each: Point, seed: int) -> Outcome:
        recipe = each.recipes[seed]
        folder = self._folder(each, seed)
        folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "stages").mkdir(exist_ok=True)
        link(folder / "stages", Path("../../stages"))
        item = select(plan(recipe, folder), [LAST])[-1]
        if (before := self._diverged(each, seed, item.key)) is not None:
            return Outcome(seed=seed, bits_per_byte={}, diverged=before.where)
        run = Run(recipe, folder, command=self._command, workers=self._workers, ray=None)
        try:
            record = run.take([LAST])[LAST]
        except Diverged as error:
            found = _Diverged(item.key, f"{error.place}: {error.found}")
            write_json(folder / DIVERGED, msgspec.to_builtins(found))
            say(f"{each.name}, seed {seed}: {found.where}; told as a result")
            return Outcome(seed=seed, bits_per_byte={}, diverged=found.where)
        return Outcome(
            seed=seed,
            bits_per_byte=with_mean(_held_out(record)),
            tokens_per_second=_figure(record, "tokens_per_second"),
        )


def _held_out(record: Record) -> dict[str, float]:
    prefix = "bits_per_byte."
    found = {name.removeprefix(prefix): f.value for name, f in record.figures.items() if name.startswith(prefix)}
    if not found:
        raise ZhenError("no held-out loss in the record of a run", expected="held-out text", place=record.stage)
    return {name: float(value) for name, value in found.items() if value is not None}


def _figure(record: Record, name: str) -> float | None:
    figure = record.figures.get(name)
    return float(figure.value) if figure is not None and figure.value is not None else None


def result(each: Point, outcomes: list[Outcome]) -> PointResult:
    """What is known of a point beside its runs' outcomes, and these."""
    recipe = next(iter(each.recipes.values()))
    config, pretrain = resolved(recipe), recipe.pretrain
    assert pretrain is not None  # a point has one: the recipe was checked
    tokens = pretrain.steps * pretrain.tokens_per_step
    return PointResult(
        name=each.name,
        set=dict(each.set),
        shares=dict(each.shares),
        parameters=parameters(config),
        tokens=tokens,
        flops=float(flops_per_token(config, pretrain.sequence_length)) * tokens,
        kv_bytes_per_token=kv_bytes_per_token(config),
        outcomes=outcomes,
    )


def resolved(recipe: Recipe) -> ModelConfig:
    """The model's configuration with the rows that the tokenizer asks for."""
    config = model_config(recipe)
    if not config.vocab_size and recipe.tokenizer is not None:
        return msgspec.structs.replace(config, vocab_size=recipe.tokenizer.vocab_size)
    return config
