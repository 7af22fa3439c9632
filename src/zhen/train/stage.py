"""The stage `pretrain`: from shards and a tokenizer to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from zhen.checkpoint.load import load_model, save_model
from zhen.console import amount
from zhen.errors import ZhenError
from zhen.formats.files import Digest, publish_folder, sha256_file, temporary_folder, write_json
from zhen.formats.metrics import EVENTS, METRICS
from zhen.formats.record import Input, key_of, result_sections
from zhen.formats.stage import Context, Figures
from zhen.model.config import ModelConfig
from zhen.model.size import flops_per_token
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.load import Tokenizer, load_tokenizer
from zhen.train.batch import Batch
from zhen.train.figures import last_word, run_figures
from zhen.train.health import Watchdog
from zhen.train.heldout import HeldOut, choose_documents, open_held_out
from zhen.train.journal import MODEL, OPTIMIZER, TENSORBOARD, Journal, saves
from zhen.train.kernel import same_bits
from zhen.train.loop import train
from zhen.train.optimizer import Optimizer, load_trained
from zhen.train.order import Order, plan_quotas
from zhen.train.packing import HELD_OUT, Stream, open_sources, packed_batch
from zhen.train.parallel import Layout, gathered
from zhen.train.peak import matmul_peak
from zhen.train.ranks import ALONE, Ranks
from zhen.train.samples import choose_prompts, take_samples
from zhen.train.schedule import learning_rate
from zhen.train.settings import PretrainSettings
from zhen.train.steps import Saved, Steps

ORDER = "order.json"
FIRST = "checkpoint-0"
LAST = "checkpoint"
STEPS = "steps"

_HASHED_BYTES = 10_000_000_000
"""Files of `model.init` are hashed for the key up to this many bytes in all; beyond, size and time stand for them."""


def pretrain_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The files of the checkpoint in `model.init`, where there is one. Raises ZhenError where it can't be found."""
    init = sections["model.init"]
    if init is None:
        return []
    folder = Path(init)
    paths = sorted(p for p in folder.glob("*") if p.name == "config.json" or ".safetensors" in p.name)
    if not paths:
        raise ZhenError(f'no checkpoint in "{init}"', expected="config.json and model.safetensors", place="model.init")
    inputs, left = [], _HASHED_BYTES
    for path in paths:
        status = path.stat()
        left -= status.st_size
        if left >= 0:
            inputs.append(Input(path.name, status.st_size, sha256_file(path).sha256))
        else:
            inputs.append(Input(path.name, status.st_size, revision=f"mtime {status.st_mtime_ns}"))
    return inputs


def pretrain(context: Context) -> Figures:
    """Train a model on the shards of `context`; goes on from the newest whole training checkpoint in its folder."""
    settings: PretrainSettings = context.sections["pretrain"]
    with same_bits(one_thread=settings.invariant):
        return _pretrain(context, settings)


def _pretrain(context: Context, settings: PretrainSettings) -> Figures:
    tokenizer = load_tokenizer(context.after["tokenizer"])
    sources = open_sources(context.after["shards"], tokenizer.sha256)
    order = _order(context, settings, sources)
    ranks: Ranks = context.ranks or ALONE
    layout = Layout(ranks, settings.parallel, settings.micro_batches if settings.invariant else None)
    device = layout.device
    model = _model(context, settings, tokenizer).to(device)
    layout.shard(model)
    optimizer = Optimizer(model, settings)
    sections = result_sections(context.sections)
    steps = Steps(
        (context.leader or context.folder) / STEPS,
        recipe=key_of({"sections": sections, "tokenizer": tokenizer.sha256, "order": order.summary()}),
        scheduled=lambda step: saves(settings, step),
        keep=settings.keep_steps,
        ranks=ranks,
    )
    saved = go_on(context, steps, model, optimizer)
    if saved is None:
        _save_for_people(context, model, FIRST, tokenizer)
    first = saved.step if saved else 0
    peak = ranks.total([matmul_peak(device)])[0]
    journal = _journal(context, settings, model, optimizer, steps, tokenizer, peak)
    journal.begin(first, saved.state if saved else None)

    dog = Watchdog(2 * settings.parallel.timeout if ranks.size > 1 else None)

    def batch(step: int) -> Batch:
        dog.beat()
        start = step * settings.sequences_per_step
        return packed_batch(sources, order, start, start + settings.sequences_per_step, tokenizer.end_of_text)

    try:
        train(
            model,
            optimizer,
            batch,
            lambda step: learning_rate(settings, step),
            journal,
            steps=range(first, settings.steps),
            micro_batch=settings.micro_batch,
            gradient_clip=settings.gradient_clip,
            dtype=getattr(torch, settings.dtype),
            layout=layout,
            health=settings.health,
        )
    finally:
        dog.end()
        journal.end()
    _save_for_people(context, model, LAST, tokenizer)
    if context.leader is not None:
        return {}
    declare(context, steps, (FIRST, LAST))
    figures = run_figures(context.folder / METRICS, settings, model.config)
    context.summary = last_word(figures)
    return figures


def _order(context: Context, settings: PretrainSettings, sources: Mapping[str, Stream]) -> Order:
    """The order of the run's sequences, noted in order.json; says which sources repeat or fall short."""
    quotas = plan_quotas(
        {name: stream.tokens for name, stream in sources.items()},
        settings.mixture,
        sequence_length=settings.sequence_length,
        total=settings.steps * settings.sequences_per_step,
        max_epochs=settings.max_epochs,
    )
    order = Order(quotas, seed=_seed(context, settings), sequence_length=settings.sequence_length)
    context.output(ORDER, "result", write_json(context.folder / ORDER, order.summary()))
    for quota in quotas:
        if quota.actual < quota.planned:
            tokens = amount(quota.actual * settings.sequence_length)
            context.event("capped", source=quota.source, planned=quota.planned, actual=quota.actual)
            context.line.note(
                f'source "{quota.source}" gives {tokens} tokens, {quota.actual / quota.planned:.0%} of its share: '
                f"max_epochs = {settings.max_epochs:g}"
            )
        elif quota.epochs > 1:
            context.event("repeated", source=quota.source, epochs=round(quota.epochs, 3))
    return order


def _model(context: Context, settings: PretrainSettings, tokenizer: Tokenizer) -> Transformer:
    """A fresh model, or the one in `model.init`; float32. Raises ZhenError where model, tokenizer, length don't fit."""
    init = context.sections["model.init"]
    if init is not None:
        model, config = load_model(init, torch.float32), context.sections["model"]
        if model.config != config:
            model = _reshaped(model, config)
    else:
        given: ModelConfig = context.sections["model"]
        config = msgspec.structs.replace(
            given,
            vocab_size=given.vocab_size or tokenizer.vocab_size,
            bos_token_id=tokenizer.start_of_text,
            eos_token_id=tokenizer.end_of_text,
        )
    if config.vocab_size < tokenizer.vocab_size:
        raise ZhenError(
            f"vocab_size {config.vocab_size:,}",
            expected=f"at least the tokenizer's {tokenizer.vocab_size:,}",
            place="model",
        )
    if config.max_position_embeddings < settings.sequence_length:
        raise ZhenError(
            f"sequence_length {settings.sequence_length:,}",
            expected=f"at most the model's max_position_embeddings, {config.max_position_embeddings:,}",
            place="pretrain.sequence_length",
            hint="set model.max_position_embeddings, or shorten the sequences",
        )
    if init is None:
        model = Transformer(config)
        initialise(model, _seed(context, settings))
    return model


def _seed(context: Context, settings: PretrainSettings) -> int:
    """Where this training's randomness starts: its own seed, or the run's."""
    seed: int = context.sections["run.seed"]
    return seed if settings.seed is None else settings.seed


def _reshaped(model: Transformer, config: ModelConfig) -> Transformer:
    """The same weights under the recipe's settings (rotary base, context length). Raises ZhenError for other shapes."""
    other = Transformer(config)
    if {name: t.shape for name, t in other.state_dict().items()} != {n: t.shape for n, t in model.state_dict().items()}:
        raise ZhenError(
            "[model] asks for other shapes than those of the checkpoint in model.init",
            place="model",
            hint="leave out the fields of [model] that change a tensor's shape",
        )
    other.load_state_dict(model.state_dict())
    return other


def go_on(context: Context, steps: Steps, model: Transformer, optimizer: Optimizer) -> Saved | None:
    """Load the newest whole training checkpoint into model and optimizer; says which ones are damaged."""

    def damaged(folder: Path, error: ZhenError) -> None:
        context.event("checkpoint-damaged", checkpoint=folder.name, found=error.found)
        context.line.note(f"{folder.name} is damaged ({error.text()}); going back to the one before")

    saved = steps.newest(damaged)
    if saved is not None:
        load_trained(model, saved.tensors.below(MODEL))
        optimizer.load(saved.tensors.below(OPTIMIZER))
        context.event("resumed", step=saved.step)
    return saved


def _journal(
    context: Context,
    settings: PretrainSettings,
    model: Transformer,
    optimizer: Optimizer,
    steps: Steps,
    tokenizer: Tokenizer,
    peak: float,
) -> Journal:
    device = next(model.parameters()).device
    shards = open_held_out(context.after["shards"] / HELD_OUT, tokenizer.sha256)
    documents = {lang: choose_documents(found, settings.evaluate_bytes) for lang, found in shards.items()}
    documents = {lang: found for lang, found in documents.items() if found}
    held_out = HeldOut(
        documents, context_length=settings.sequence_length, end_of_text=tokenizer.end_of_text, device=device
    )
    prompts = choose_prompts(documents, tokenizer)
    return Journal(
        context,
        settings,
        model,
        optimizer,
        steps,
        held_out=held_out if documents else None,
        sample=lambda step: take_samples(model, tokenizer, prompts, step),
        flops_per_token=flops_per_token(model.config, settings.sequence_length),
        peak_flops=peak,
    )


def _save_for_people(context: Context, model: Transformer, name: str, tokenizer: Tokenizer) -> None:
    """A checkpoint folder, whole or not at all. Post-norm is no LLaMA and has none."""
    if model.config.norm_place == "post":
        return
    settings: PretrainSettings = context.sections["pretrain"]
    trained = settings.sequence_length
    if context.sections["model.init"] is not None:  # what init was trained for stays true
        trained = max(trained, model.config.max_position_embeddings)
    whole = gathered(model)
    if context.leader is None:
        publish(
            context,
            name,
            lambda folder: save_model(whole, folder, settings.checkpoint_dtype, tokenizer.folder, trained),
        )


def publish(context: Context, name: str, write: Callable[[Path], Mapping[str, Digest]]) -> None:
    """A folder of results, whole or not at all, filled by `write`, which says what it wrote."""
    final = context.folder / name
    building = temporary_folder(final)
    digests = write(building)
    publish_folder(building, final)
    for file, digest in digests.items():
        context.output(f"{name}/{file}", "result", digest)


def declare(context: Context, steps: Steps, folders: Iterable[str]) -> None:
    """Declare what lies in the folder, `folders` of results among it, and was not declared when it was written."""
    for path, digest in steps.outputs():
        context.output(path, "result", digest)
    known: dict[str, tuple[Any, Digest | None]] = context.outputs
    for name in folders:
        for path in sorted((context.folder / name).glob("*")):
            if f"{name}/{path.name}" not in known:
                context.output(path, "result")
    context.output(METRICS, "log")
    context.output(EVENTS, "log")
    for path in sorted((context.folder / TENSORBOARD).glob("*")):
        context.output(path, "log")
