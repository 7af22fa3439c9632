"""`zhen plan`: memory, time, communication and cost of a recipe's run beforehand; its data and serving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from zhen.cli.app import print_json
from zhen.cli.options import AsJson, Recipe
from zhen.console import out, say, table
from zhen.errors import ANSWER_IS_NO, DONE, ZhenError
from zhen.pages.parts import Bars, Facts, Part, Section, Table, Text, Verdict, Words

if TYPE_CHECKING:
    from zhen.model.config import ModelConfig
    from zhen.plan.devices import Device
    from zhen.plan.devices import Precision as PlanPrecision
    from zhen.plan.layouts import Layout
    from zhen.plan.plan import Plan
    from zhen.recipe import Recipe as Loaded
    from zhen.sections import PlanSettings
    from zhen.train.settings import ShardTraining


Gpus = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1_000_000, help="Devices; 1 by default.", show_default=False)
]
OnDevice = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="H100 (by default), H200, H800, A100, A800, 4090, 3090; here: measure this machine.",
        show_default=False,
    ),
]
Precision = Annotated[
    Literal["bfloat16", "float8"] | None,
    typer.Option(
        help="Of the layers' products; what the recipe trains in by default, else bfloat16.", show_default=False
    ),
]
Price = Annotated[
    float | None,
    typer.Option(metavar="US$", min=0, max=1_000_000, help="Rent of a device an hour.", show_default=False),
]
Stage = Annotated[
    Literal["pretrain", "extend"] | None,
    typer.Option(help="Which training; the first that the recipe has by default.", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value: --set pretrain.sequence_length=32768."),
]


def command(
    recipe: Recipe,
    gpus: Gpus = None,
    device: OnDevice = None,
    precision: Precision = None,
    price: Price = None,
    stage: Stage = None,
    sets: Sets = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plan as a page.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say what a recipe's run will take, before it runs: layouts that fit, memory, time, failures, cost; data; serving.

    Nothing is read but the recipe, whose [plan] may say the options. Exit status 1 where no layout fits.

    Example: zhen plan recipes/yi-34b.toml --gpus 1024 --device A800
    """
    from zhen.plan.plan import Training, make_plan
    from zhen.recipe import load_recipe
    from zhen.sections import PlanSettings

    loaded = load_recipe(recipe, sets or [])
    trained, config = _trained(loaded, stage, recipe)
    given = {"gpus": gpus, "device": device, "precision": precision, "price": price}
    wanted = msgspec.structs.replace(
        loaded.plan or PlanSettings(), **{name: value for name, value in given.items() if value is not None}
    )
    chip, only = _device(wanted, config, trained, None if device is not None else recipe)
    training = Training(
        stage=trained.SECTION,
        tokens=trained.steps * trained.tokens_per_step,
        steps=trained.steps,
        tokens_per_step=trained.tokens_per_step,
        sequence_length=trained.sequence_length,
        precision=_precision(wanted, precision is not None, trained, chip, recipe),
        recompute=trained.recompute,
        loss_chunk=trained.loss_chunk,
    )
    plan = make_plan(config, training, chip, wanted.gpus, only)
    if html is not None or not as_json:
        _write_or_show(loaded.run.name, plan, html)
    if as_json:
        print_json(msgspec.to_builtins(plan))
    return DONE if plan.chosen is not None else ANSWER_IS_NO


def _trained(loaded: Loaded, stage: str | None, path: Path) -> tuple[ShardTraining, ModelConfig]:
    """The training that is planned, and the model as it trains it. Raises ZhenError where the recipe has no such."""
    from zhen.model.config import check
    from zhen.recipe import model_config
    from zhen.train.extended import extended_config

    stages = {"pretrain": loaded.pretrain, "extend": loaded.extend}
    there = [name for name, settings in stages.items() if settings is not None]
    if not there or (stage is not None and stage not in there):
        raise ZhenError(f"no [{stage or 'pretrain'}]", expected="a recipe that trains from tokens", file=path)
    trained, config = stages[stage or there[0]], model_config(loaded)
    assert trained is not None
    if not config.vocab_size and loaded.tokenizer is not None:
        config = msgspec.structs.replace(config, vocab_size=loaded.tokenizer.vocab_size)
    if trained is loaded.extend:
        again = loaded.extend.repeat_layers or 0
        more = again if isinstance(again, int) else len(again)
        config = extended_config(config, loaded.extend)
        config = msgspec.structs.replace(config, num_hidden_layers=config.num_hidden_layers + more)
    check(config, path)
    return trained, config


def _precision(wanted: PlanSettings, optional: bool, trained: ShardTraining, chip: Device, file: Path) -> PlanPrecision:
    """What products are planned in. Raises ZhenError where the device has no such figures, at the place that asks for
    them: the option (`optional`), [plan], or what the recipe trains in."""
    stage = trained.SECTION
    asked, place = next(
        (asked, place)
        for asked, place in (
            (wanted.precision, "--precision" if optional else "plan.precision"),
            ("float8" if trained.float8 else None, f"{stage}.float8"),
            (trained.dtype, f"{stage}.dtype"),
            (chip.format, ""),
        )
        if asked is not None
    )
    if asked not in chip.peak:
        raise ZhenError(
            f"{chip.name} has no {asked}",
            expected=", ".join(chip.peak),
            file=None if place == "--precision" else file,
            place=place,
            hint="--precision bfloat16 plans it in that" if "bfloat16" in chip.peak else None,
        )
    return asked


def _device(
    wanted: PlanSettings, config: ModelConfig, trained: ShardTraining, recipe: Path | None
) -> tuple[Device, Layout | None]:
    """The device at the rent that is wanted, where `recipe` names it, not an option; of this machine also the one
    layout that was measured."""
    only = None
    if wanted.device.lower() == "here":
        if wanted.gpus != 1:
            raise ZhenError(
                f"{wanted.gpus} devices here", expected="one", place="--gpus", hint="--device here --gpus 1"
            )
        from zhen.cli.launch import relaunch

        relaunch()
        from zhen.plan.here import here, here_device, this_machine
        from zhen.plan.layouts import Layout
        from zhen.train.layers import compiles

        rows = trained.micro_batch or trained.sequences_per_step
        compiled, _ = compiles(trained, config, here_device())
        only = Layout(
            micro_batch=rows,
            recompute=trained.recompute,
            loss_chunk=trained.loss_chunk,
            compiled=compiled,
            precision=trained.dtype or here(),
        )
        chip = this_machine(config, only, trained.sequence_length)
    else:
        from zhen.plan.devices import device

        chip = device(wanted.device) if recipe is None else device(wanted.device, "plan.device", recipe)
    if wanted.price is not None:
        chip = msgspec.structs.replace(chip, price=wanted.price)
    return chip, only


def _write_or_show(name: str, plan: Plan, html: Path | None) -> None:
    from zhen.plan.shown import lead, sections

    title = Words(f"Plan of {name}", f"{name} 的训练规划")
    if html is None:
        _show(title, lead(plan), sections(plan))
        return
    from zhen.formats.files import write_text
    from zhen.pages.page import html_page

    write_text(html, html_page(title, lead(plan), sections(plan)))
    say(f"wrote {html}")


def _show(title: str, first: list[Part], made: list[Section]) -> None:
    out.print(str(title), style="bold", markup=False)
    for part in first:
        _print(part)
    for section in made:
        out.print()
        out.print(str(section.title), style="bold", markup=False)
        for part in section.parts:
            _print(part)


def _print(part: Part) -> None:
    match part:
        case Table(columns, rows, _):
            out.print(table([str(column) for column in columns], rows))
        case Bars(rows):
            out.print(table(("", "", ""), [(label, text, f"{100 * share:.0f} %") for label, share, text in rows]))
        case Facts(rows):
            out.print(table(("", ""), rows))
        case Text(text) | Verdict(_, text):
            out.print(str(text), markup=False, soft_wrap=True)
        case _:
            raise AssertionError("a plan has no such part")
