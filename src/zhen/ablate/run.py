"""An ablation from its recipe to its result: take the points, compare, fit, confirm, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from zhen.ablate.grid import Grid, result
from zhen.ablate.mixture import MixtureFit, fit_mixture
from zhen.ablate.page import write_pages
from zhen.ablate.points import Point, Source
from zhen.ablate.results import Comparison, PointResult, compare, languages
from zhen.ablate.scaling import ScalingFit, fit_scaling, require_runs
from zhen.formats.files import write_json

RESULT = "ablation.json"
CONFIRM = "confirm"
"""The point trained on the mixture that the search chose."""


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """What `ablation.json` holds."""

    name: str
    command: list[str]
    seeds: list[int]
    points: list[PointResult]
    comparisons: list[Comparison]
    mixture: MixtureFit | None = None
    scaling: ScalingFit | None = None


def checked_points(source: Source) -> list[Point]:
    """All points. Raises, beside what `Source.points` does, ZhenError where they are too few for the law asked for."""
    points = source.points()
    if source.settings.scaling:
        *others, _ = sorted((result(each, []) for each in points), key=lambda each: each.flops)
        runs = [each for each in others for _ in source.settings.seeds]
        require_runs([each.parameters for each in runs], [each.tokens for each in runs])
    return points


def run_ablation(source: Source, folder: Path, command: Sequence[str], workers: int) -> Ablation:
    """Take all points and write `ablation.json`, `ablation.html` and `ablation.md` into `folder`.

    What is done is not done again. Raises what a run raises; Interrupted after Ctrl-C; ZhenError where the runs that
    came to a result are too few for the law asked for, once all else is written.
    """
    settings, grid = source.settings, Grid(folder, list(command), workers)
    points = grid.take(checked_points(source))
    ablation = Ablation(
        name=source.recipe.run.name, command=list(command), seeds=list(settings.seeds), points=points, comparisons=[]
    )
    if settings.mixture is not None or settings.scaling:
        _write(ablation, folder)  # a fit may fail
    mixture: MixtureFit | None = None
    comparisons: list[Comparison] = []
    if settings.mixture is not None:
        mixture = fit_mixture(points, settings.mixture.least)
        confirming = source.mixed(CONFIRM, mixture.shares)
        confirmed = grid.take([confirming])
        found = list(confirmed[0].values("all").values())
        mixture = msgspec.structs.replace(mixture, shares=dict(confirming.shares), found=found)
        points = [*points, *confirmed]
    elif not settings.scaling:  # sizes are there to be fitted, not to win
        comparisons = [each for language in languages(points) for each in compare(points, language)]
    scaling = fit_scaling(points) if settings.scaling else None
    ablation = msgspec.structs.replace(
        ablation, points=points, comparisons=comparisons, mixture=mixture, scaling=scaling
    )
    _write(ablation, folder)
    return ablation


def _write(ablation: Ablation, folder: Path) -> None:
    write_json(folder / RESULT, msgspec.to_builtins(ablation))
    write_pages(ablation, folder)
