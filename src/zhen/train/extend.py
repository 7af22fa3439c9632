"""The stage `extend`: a trained model is gone on with on longer sequences, or with more layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zhen.checkpoint.load import load_model
from zhen.errors import ManyErrors, ZhenError
from zhen.formats.files import write_json
from zhen.formats.record import Figure
from zhen.formats.stage import Context, Figures
from zhen.model.transformer import Transformer
from zhen.train.depth import MEASURED_TOKENS, deepened, layer_cosines, least_changing, source
from zhen.train.extended import extend_problems, extended_config, repeated
from zhen.train.heldout import Document, HeldOut
from zhen.train.kernel import dtype_of, same_bits
from zhen.train.lengths import Upsampling, long_figures
from zhen.train.ranks import ALONE, Ranks
from zhen.train.settings import ExtendSettings
from zhen.train.training import LAST, Material, held_out_documents, open_material, train_on_shards
from zhen.train.values import Start, stored_start

LAYERS = "layers.json"


def extend(context: Context) -> Figures:
    """Go on with the run's model, or `model.init`, as `[extend]` says; goes on from the newest whole training
    checkpoint in its folder. Raises ManyErrors for what can't be with that model."""
    settings: ExtendSettings = context.sections["extend"]
    with same_bits(one_thread=settings.invariant):
        upsampling = None
        if settings.long_tokens is not None and settings.long_share is not None:
            upsampling = Upsampling(settings.long_tokens, settings.long_share)
        material = open_material(context, settings, upsampling)
        start, figures = _start(context, settings, material)
        claimed = settings.context_length or settings.sequence_length
        trained = train_on_shards(context, settings, material, start, claimed)
    if upsampling is not None:
        figures |= long_figures(material.order.quotas)
    return trained | figures


def _start(context: Context, settings: ExtendSettings, material: Material) -> tuple[Start, Figures]:
    """The model before its first step, and what was measured of its layers."""
    made = context.after.get("pretrain")
    folder = made / LAST if made else context.sections["model.init"]
    start = stored_start(folder)
    problems = list(extend_problems(start.config, settings))
    if problems:
        raise ManyErrors(
            [
                ZhenError(found, expected=expected, place=f"extend.{field}", hint=hint)
                for field, found, expected, hint in problems
            ]
        )
    figures: Figures = {"layers": Figure(start.config.num_hidden_layers)}
    if settings.repeat_layers is not None:
        noted = _layers(context, settings, material, folder)
        start, figures = _deeper(start, noted["layers"]), _layer_figures(noted)
    return start._replace(config=extended_config(start.config, settings)), figures


def _deeper(start: Start, order: Sequence[int]) -> Start:
    """The model whose layer i is layer `order[i]` of that in `start`."""
    config = msgspec.structs.replace(start.config, num_hidden_layers=len(order))
    return Start(config, lambda name, box: start.values(source(name, order), box))


def _layers(context: Context, settings: ExtendSettings, material: Material, folder: str | Path) -> dict[str, Any]:
    """What stands in layers.json: which layers the model has, why, and what that does to the loss at its old length.

    Measured once: a run that goes on has the layers that it began with. Raises ZhenError where there is no held-out
    text to choose them on.
    """
    ranks: Ranks = context.ranks or ALONE
    ranks.open(settings.parallel.timeout)
    noted: dict[str, Any] | None = ranks.shared(lambda: _noted(context.folder / LAYERS))
    if noted is None:
        noted = _measured(context, settings, material, load_model(folder, torch.float32))
        noted = ranks.shared(lambda: noted)  # one choice, were the last bits of two hosts to differ
        assert noted is not None
        context.line.note(f"layers {', '.join(map(str, noted['repeated']))} come twice: {len(noted['layers'])} in all")
    if context.leader is None:
        context.output(LAYERS, "result", write_json(context.folder / LAYERS, noted))
    return noted


def _noted(path: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError, ValueError):
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    return None


def _measured(context: Context, settings: ExtendSettings, material: Material, model: Transformer) -> dict[str, Any]:
    documents = held_out_documents(context, settings, material.tokenizer)
    again = settings.repeat_layers
    length, end_of_text = model.config.max_position_embeddings, material.tokenizer.end_of_text
    rows = _rows(documents, length, end_of_text)
    if not rows and isinstance(again, int):
        raise ZhenError(
            "no held-out text to choose layers on",
            expected="data.held_out, or a list of layers",
            place="extend.repeat_layers",
        )
    cosines = [round(value, 6) for value in layer_cosines(model, rows)] if rows else []
    chosen = least_changing(cosines, again) if isinstance(again, int) else tuple(again or ())
    order = repeated(model.config.num_hidden_layers, chosen)
    deeper = deepened(model, order)
    held_out = HeldOut(documents, context_length=length, end_of_text=end_of_text, device=torch.device("cpu"))
    dtype = dtype_of(settings.dtype, torch.device("cpu"))
    before, after = (held_out.measure(each, dtype) if documents else {} for each in (model, deeper))
    return {
        "cosines": cosines,
        "tokens": sum(row.numel() for row in rows),
        "repeated": list(chosen),
        "layers": order,
        "bits_per_byte": {
            lang: {"before": round(before[lang], 6), "after": round(after[lang], 6)} for lang in documents
        },
    }


def _layer_figures(noted: Mapping[str, Any]) -> Figures:
    figures: Figures = {"layers": Figure(len(noted["layers"]))}
    for at, value in enumerate(noted["cosines"]):
        figures[f"layer_cosine.{at}"] = Figure(value, n=noted["tokens"])
    for lang, bits in noted["bits_per_byte"].items():
        figures[f"bits_per_byte_before_repeating.{lang}"] = Figure(bits["before"], "bits/byte")
        figures[f"bits_per_byte_after_repeating.{lang}"] = Figure(bits["after"], "bits/byte")
    return figures


def _rows(documents: Mapping[str, list[Document]], length: int, end_of_text: int) -> list[Tensor]:
    """Held-out text as rows of `length` tokens at most, an equal part a language."""
    rows = []
    for found in documents.values():
        ids = [token for document in found for token in (end_of_text, *document.ids)]
        ids = ids[: MEASURED_TOKENS // len(documents)]
        rows += [torch.tensor([ids[at : at + length]]) for at in range(0, len(ids), length)]
    return rows
