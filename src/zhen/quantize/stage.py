"""The stage `quantize`: the finished model once more, in fewer bits."""

from __future__ import annotations

from pathlib import Path

from zhen.console import size
from zhen.errors import ZhenError
from zhen.formats.record import Figure
from zhen.formats.stage import Context, Figures
from zhen.quantize.settings import QuantizeSettings
from zhen.quantize.write import Quantised, quantise_checkpoint, read_quantised

LAST = "checkpoint"
WORK = "parts"
SOURCES = ("tune", "extend", "pretrain")
"""Stages that make a model, last first."""
TEXT = "data.write/kept"


def quantize(context: Context) -> Figures:
    """Write `checkpoint/` (a result), its `quantize.json` with the errors of every layer in it.

    Calibration text is what the run kept. Raises ZhenError where the run makes no model, or GPTQ has no text.
    """
    settings: QuantizeSettings = context.sections["quantize"]
    final, work = context.folder / LAST, context.folder / WORK

    def report(done: int, total: int, facts: str) -> None:
        context.line.update(done, total, "matrices", facts)
        context.stop_here()

    if not final.is_dir():  # published whole, by an attempt that was stopped behind that
        made = quantise_checkpoint(_source(context), final, work, settings, context.after.get(TEXT), report)
    made = read_quantised(final)
    for path in sorted(final.iterdir()):
        context.output(f"{LAST}/{path.name}", "result")
    context.summary = last_word(made)
    return figures_of(made)


def figures_of(made: Quantised) -> Figures:
    """What may be quoted of a quantised model."""
    figures = {
        "bytes_before": Figure(made.bytes_before, "bytes"),
        "bytes_after": Figure(made.bytes_after, "bytes"),
        "weight_error": Figure(made.weight_error, "", n=sum(len(layer.matrices) for layer in made.layers)),
    }
    if errors := made.output_errors:
        figures["output_error"] = Figure(sum(errors) / len(errors), "", n=len(errors))
        figures["output_error.largest"] = Figure(max(errors), "")
    if made.text is not None:
        figures |= {f"calibration_tokens.{name}": Figure(n, "tokens") for name, n in made.text.languages.items()}
    return figures


def last_word(made: Quantised) -> str:
    """What was made, in a line."""
    how = f"{made.bits} bits in groups of {made.group}, {'GPTQ' if made.method == 'gptq' else 'rounded to nearest'}"
    errors = made.output_errors
    moved = f"; a layer's outputs move by {sum(errors) / len(errors):.1%} on average" if errors else ""
    return f"{how}: {size(made.bytes_before)} to {size(made.bytes_after)}{moved}"


def _source(context: Context) -> Path:
    for stage in SOURCES:
        if stage in context.after:
            return context.after[stage] / LAST
    raise ZhenError("this run makes no model to quantise", expected="a section [pretrain] or [tune] in the recipe")
