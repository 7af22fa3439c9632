"""A training on shards, as `pretrain` and `extend` share it: from tokens and a model to checkpoints and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zhen.checkpoint.load import save_model
from zhen.console import amount
from zhen.errors import ZhenError
from zhen.formats.files import Digest, publish_folder, temporary_folder, write_json
from zhen.formats.metrics import EVENTS, METRICS
from zhen.formats.record import key_of, result_sections
from zhen.formats.stage import Context, Figures
from zhen.model.size import flops_per_token
from zhen.model.transformer import Transformer
from zhen.tokenizer.load import Tokenizer, load_tokenizer
from zhen.train.batch import Batch
from zhen.train.figures import last_word, run_figures
from zhen.train.float8 import into_float8
from zhen.train.health import Guard, Watchdog
from zhen.train.heldout import Document, HeldOut, choose_documents, open_held_out
from zhen.train.journal import DTYPE, MODEL, OPTIMIZER, TENSORBOARD, Journal, saves
from zhen.train.kernel import dtype_of
from zhen.train.layers import compiles, prepare_layers
from zhen.train.lengths import Upsampling
from zhen.train.loop import CrossEntropy, train
from zhen.train.optimizer import Optimizer, load_trained
from zhen.train.order import Order, plan_phases
from zhen.train.packing import HELD_OUT, Stream, packed_batch, source_shards
from zhen.train.parallel import Layout, gathered
from zhen.train.preflight import preflight
from zhen.train.ranks import ALONE, Ranks
from zhen.train.replay import Replay
from zhen.train.rewind import REWINDS, Rewinds, Rewound
from zhen.train.samples import choose_prompts, take_samples
from zhen.train.schedule import learning_rate
from zhen.train.settings import LoopSettings, ShardTraining
from zhen.train.steps import Saved, Steps
from zhen.train.values import Start, fill

ORDER = "order.json"
FIRST = "checkpoint-0"
LAST = "checkpoint"
STEPS = "steps"


class Material(NamedTuple):
    """What a model is trained on."""

    tokenizer: Tokenizer
    sources: dict[str, Stream]
    order: Order


def open_material(context: Context, settings: ShardTraining, upsampling: Upsampling | None = None) -> Material:
    """The shards of `context`, and the order of their sequences, which is noted in order.json.

    Says which sources repeat or fall short. Raises ZhenError where they can't give what the settings ask.
    """
    tokenizer = load_tokenizer(context.after["tokenizer"])
    shards = source_shards(context.after["shards"], tokenizer.sha256)
    sources = upsampling.streams(shards) if upsampling else {name: Stream(found) for name, found in shards.items()}
    length = settings.sequence_length
    phases = plan_phases(
        upsampling.tokens(sources, length) if upsampling else {name: sources[name].tokens for name in sources},
        settings.mixtures,
        sequence_length=length,
        steps=settings.steps,
        sequences_per_step=settings.sequences_per_step,
        max_epochs=settings.max_epochs,
        section=settings.SECTION,
    )
    if upsampling:
        phases = upsampling.split(phases, sources, length, settings.max_epochs)
    order = Order(phases, seed=seed_of(context, settings), sequence_length=settings.sequence_length)
    context.output(ORDER, "result", write_json(context.folder / ORDER, order.summary()))
    for quota in order.quotas:
        if quota.actual < quota.planned:
            tokens = amount(quota.actual * settings.sequence_length)
            context.event("capped", source=quota.source, planned=quota.planned, actual=quota.actual)
            context.line.note(
                f'source "{quota.source}" gives {tokens} tokens, {quota.actual / quota.planned:.0%} of its share: '
                f"max_epochs = {settings.max_epochs:g}"
            )
        elif quota.epochs > 1:
            context.event("repeated", source=quota.source, epochs=round(quota.epochs, 3))
    return Material(tokenizer, sources, order)


def seed_of(context: Context, settings: ShardTraining) -> int:
    """Where this training's randomness starts: its own seed, or the run's."""
    seed: int = context.sections["run.seed"]
    return seed if settings.seed is None else settings.seed


def train_on_shards(
    context: Context, settings: ShardTraining, material: Material, start: Start, length: int
) -> Figures:
    """Train the model of `start`, in float32, and leave checkpoints, which claim a context of `length` tokens.

    Goes on from the newest whole training checkpoint in the stage's folder.
    """
    tokenizer, sources, order = material
    ranks: Ranks = context.ranks or ALONE
    leaves = settings.micro_batches if settings.invariant else None
    layout = Layout(ranks, settings.parallel, leaves, settings.SECTION)
    model = layout.build(start.config, lambda model: _multiply(settings, model))
    compiled = _prepare(context, settings, model)
    optimizer = Optimizer(model, settings)
    steps, guard = _steps(context, settings, material, ranks), Guard(settings.health)
    rewinds = Rewinds(steps, settings.health, guard, ranks)
    hosts = preflight(context, settings, model.config, layout)  # before what it counts is in memory
    saved = go_on(context, steps, model, optimizer)
    if saved is None:
        fill(dict(model.named_parameters()), start.values)
        _save_for_people(context, settings, model, FIRST, tokenizer, length)
    first = saved.step if saved else 0
    dtype = number_format(context, settings, saved, layout.device)
    ranks.begun(f"{context.folder.name}, step {first:,}")
    peak = sum(host.matmul for host in hosts)
    journal = _journal(context, settings, model, optimizer, steps, guard, tokenizer, peak, dtype)
    replay = Replay(settings.health.replay_every, model, layout, [host.name for host in hosts], journal.mismatch)

    share = layout.share(settings.sequences_per_step, settings.micro_batch)
    dog = Watchdog(2 * settings.parallel.timeout if ranks.size > 1 else None)

    def batch(step: int) -> Batch:
        dog.beat()
        first = rewinds.batch(step) * settings.sequences_per_step
        return packed_batch(sources, order, first, first + settings.sequences_per_step, tokenizer.end_of_text, share)

    def updates(first: int) -> None:
        train(
            model,
            optimizer,
            batch,
            lambda step: learning_rate(settings, step),
            journal,
            steps=range(first, settings.steps),
            micro_batch=settings.micro_batch,
            gradient_clip=settings.gradient_clip,
            dtype=dtype,
            loss=CrossEntropy(settings.tokens_per_step, chunk=settings.loss_chunk, compiled=compiled),
            layout=layout,
            guard=guard,
            replay=replay,
        )

    def back(made: Rewound) -> int:
        return _go_back(made, context, steps, model, optimizer, journal)

    try:
        journal.begin(first, saved.state if saved else None)
        rewinds.through(updates, back, first)
        dog.end()
        _save_for_people(context, settings, model, LAST, tokenizer, length)
    finally:
        dog.end()
        journal.end()
    return {} if context.leader is not None else _made(context, settings, model, steps)


def _made(context: Context, settings: ShardTraining, model: Transformer, steps: Steps) -> Figures:
    """Declare what was made, and say what it is."""
    declare(context, steps, (FIRST, LAST))
    figures = run_figures(context.folder / METRICS, settings, model.config)
    context.summary = last_word(figures)
    return figures


def _steps(context: Context, settings: ShardTraining, material: Material, ranks: Ranks) -> Steps:
    marks = {"tokenizer": material.tokenizer.sha256, "order": material.order.summary()}
    return Steps(
        (context.leader or context.folder) / STEPS,
        recipe=key_of({"sections": result_sections(context.sections), **marks}),
        scheduled=lambda step: saves(settings, step),
        keep=settings.keep_steps,
        reach=settings.health.reach if settings.health.spike == "rewind" else 0,
        ranks=ranks,
    )


def _multiply(settings: ShardTraining, model: Transformer) -> None:
    """Have the layers multiply in what the recipe asks for beside `dtype`."""
    if settings.float8 is not None:
        into_float8(model, settings.float8, f"{settings.SECTION}.float8")


def _prepare(context: Context, settings: ShardTraining, model: Transformer) -> bool:
    """Set up how the layers run; says so where they can't be compiled. Returns whether they are."""
    compiled, missing = compiles(settings, model.config, model.device)
    prepare_layers(model, compiled=compiled, recompute=settings.recompute)
    if missing:
        context.event("not-compiled", missing=missing)
        context.line.note(f"layers are not compiled, which would be faster: {missing}")
    return compiled


def number_format(context: Context, settings: LoopSettings, saved: Saved | None, device: torch.device) -> torch.dtype:
    """What the matrix products of a training run in, the same in all its processes and all its attempts.

    Where the recipe leaves it out: what process 0 multiplies fastest in when the training begins; what is gone on with
    stays as it began, on whatever machine. Says so where another one would be faster now.
    """
    ranks: Ranks = context.ranks or ALONE
    here: str = ranks.shared(lambda: str(dtype_of(settings.dtype, device)).removeprefix("torch."))
    if settings.dtype is not None or saved is None:
        return dtype_of(here, device)
    began: str = saved.state[DTYPE]
    if began != here:
        context.event("other-format", dtype=began, faster=here)
        context.line.note(f"goes on in {began}, as it began; {here} would be faster on this machine")
    return dtype_of(began, device)


def go_on(context: Context, steps: Steps, model: Transformer, optimizer: Optimizer) -> Saved | None:
    """Load the newest whole training checkpoint into model and optimizer; says so, and which ones are damaged."""
    saved = load_newest(context, steps, model, optimizer)
    if saved is not None:
        context.event("resumed", step=saved.step)
    return saved


def load_newest(context: Context, steps: Steps, model: Transformer, optimizer: Optimizer) -> Saved | None:
    """The same without a word where it is whole."""

    def damaged(folder: Path, error: ZhenError) -> None:
        context.event("checkpoint-damaged", checkpoint=folder.name, found=error.found)
        context.line.note(f"{folder.name} is damaged ({error.text()}); going back to the one before")

    saved = steps.newest(damaged)
    if saved is not None:
        load_trained(model, saved.tensors.below(MODEL))
        optimizer.load(saved.tensors.below(OPTIMIZER))
    return saved


def _go_back(
    made: Rewound, context: Context, steps: Steps, model: Transformer, optimizer: Optimizer, journal: Journal
) -> int:
    """Be where the newest training checkpoint is that was not undone; returns its step."""
    optimizer.forget()
    found = load_newest(context, steps, model, optimizer)
    if found is None:
        raise ZhenError("no training checkpoint is whole", file=steps.folder, hint="the same command begins anew")
    journal.rewind(made, found.step, found.state)
    return found.step


def held_out_documents(context: Context, settings: ShardTraining, tokenizer: Tokenizer) -> dict[str, list[Document]]:
    """By language, the held-out documents on which a model is measured while it is trained."""
    shards = open_held_out(context.after["shards"] / HELD_OUT, tokenizer.sha256)
    documents = {lang: choose_documents(found, settings.evaluate_bytes) for lang, found in shards.items()}
    return {lang: found for lang, found in documents.items() if found}


def _journal(
    context: Context,
    settings: ShardTraining,
    model: Transformer,
    optimizer: Optimizer,
    steps: Steps,
    guard: Guard,
    tokenizer: Tokenizer,
    peak: float,
    dtype: torch.dtype,
) -> Journal:
    device = next(model.parameters()).device
    documents = held_out_documents(context, settings, tokenizer)
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
        guard=guard,
        held_out=held_out if documents else None,
        sample=lambda step: take_samples(model, tokenizer, prompts, step),
        flops_per_token=flops_per_token(model.config, settings.sequence_length),
        peak_flops=peak,
        dtype=dtype,
    )


def _save_for_people(
    context: Context, settings: ShardTraining, model: Transformer, name: str, tokenizer: Tokenizer, length: int
) -> None:
    """A checkpoint folder, whole or not at all. Post-norm is no LLaMA and has none."""
    if model.config.norm_place == "post":
        return
    whole = gathered(model)
    if context.leader is None:
        publish(
            context,
            name,
            lambda folder: save_model(whole, folder, settings.checkpoint_dtype, tokenizer.folder, length),
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
    if (context.folder / STEPS / REWINDS).exists():
        context.output(f"{STEPS}/{REWINDS}", "result")
    context.output(METRICS, "log")
    context.output(EVENTS, "log")
    for path in sorted((context.folder / TENSORBOARD).glob("*")):
        context.output(path, "log")
