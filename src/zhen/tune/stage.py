"""The stage `tune`: from a base model and dialogues to a model that chats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zhen.checkpoint.load import load_model, save_model
from zhen.errors import ManyErrors, ZhenError
from zhen.formats.files import sha256_file, write_text
from zhen.formats.metrics import METRICS
from zhen.formats.record import Input, key_of
from zhen.formats.stage import Context, Figures
from zhen.infer.template import ChatTemplate, load_template
from zhen.model.generate import generate
from zhen.model.size import flops_per_token
from zhen.model.transformer import Transformer
from zhen.tokenizer.chat import CHATML, TURN_END, TURN_START
from zhen.tokenizer.load import Tokenizer, load_tokenizer
from zhen.train.batch import Batch
from zhen.train.health import Guard
from zhen.train.journal import Journal
from zhen.train.kernel import dtype_of, same_bits
from zhen.train.loop import Loss, train
from zhen.train.optimizer import Optimizer
from zhen.train.peak import matmul_peak
from zhen.train.schedule import learning_rate
from zhen.train.settings import Health
from zhen.train.stage import pretrain_inputs
from zhen.train.steps import Steps
from zhen.train.training import LAST, STEPS, declare, go_on, number_format, publish
from zhen.tune.examples import Example, batch_of, example_of, pair_of
from zhen.tune.figures import last_word, tune_figures
from zhen.tune.lora import adapt, merge, save_adapter
from zhen.tune.losses import Answers, Preferences, row_logprobs
from zhen.tune.packing import Plan
from zhen.tune.readers import Dialogue, read_dialogues
from zhen.tune.settings import ENDINGS, SAMPLEWEB, TuneSettings
from zhen.tune.text import TextRows, joined

ADAPTER = "adapter"
REFERENCE = "reference.jsonl"
DIALOGUES = "sampleweb/dialogues"

SAMPLES = 4
"""Dialogues whose first question is put to the model while it is tuned."""

SAMPLE_TOKENS = 64


class Chat(NamedTuple):
    """How dialogues become tokens."""

    template: ChatTemplate
    tokenizer: Tokenizer
    turn_end: int


class Data(NamedTuple):
    """What is learnt: examples, or pairs of them one behind the other; and what was left out."""

    examples: list[Example]
    dialogues: list[Dialogue]
    counts: dict[str, int]
    """`faulty` records left out, dialogues `cut` to the turns that fit, and `too_long` ones."""


def tune_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The recipe's own files of dialogues, and the checkpoint to go on from. Raises ZhenError for a missing one."""
    settings: TuneSettings = sections["tune"]
    found = pretrain_inputs(sections)
    for number, name in enumerate(settings.data):
        for path in [] if name == SAMPLEWEB else _files(Path(name).expanduser()):
            digest = sha256_file(path)
            found.append(Input(f"{number}/{path.name}", digest.bytes, digest.sha256))
    return found


def tune(context: Context) -> Figures:
    """Tune the model of `context`; goes on from the newest whole training checkpoint in its folder."""
    with same_bits():
        return _tune(context, context.sections["tune"])


def _tune(context: Context, settings: TuneSettings) -> Figures:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chat = _chat(context)
    model = _model(context, settings).to(device)
    data = _data(context, settings, chat)
    if settings.lora is not None:
        adapt(model, settings.lora, context.sections["run.seed"])
    optimizer = Optimizer(model, settings)
    steps = Steps(
        context.folder / STEPS,
        recipe=key_of({"tune": settings, "tokenizer": chat.tokenizer.sha256, "dialogues": len(data.examples)}),
        scheduled=lambda step: (
            step % settings.checkpoint_every == 0 or step == settings.steps or step in settings.keep_steps
        ),
        keep=settings.keep_steps,
    )
    batches = _Batches(context, settings, data, chat.tokenizer)
    loss: Loss = Answers(settings.noise)
    if settings.method == "preferences":
        batches.reference = _reference(context, settings, model, batches)
        loss = Preferences(settings.beta)
    saved = go_on(context, steps, model, optimizer)
    first = saved.step if saved else 0
    dtype = number_format(context, settings, saved, device)
    guard = Guard(Health())
    journal = Journal(
        context,
        settings,
        model,
        optimizer,
        steps,
        guard=guard,
        held_out=None,
        sample=lambda step: _samples(model, data.dialogues, chat, step),
        flops_per_token=flops_per_token(model.config, settings.sequence_length),
        peak_flops=matmul_peak(device),
        dtype=dtype,
    )
    rows = 2 if settings.method == "preferences" else 1
    try:
        journal.begin(first, saved.state if saved else None)
        train(
            model,
            optimizer,
            batches.batch,
            lambda step: learning_rate(settings, step),
            journal,
            steps=range(first, settings.steps),
            micro_batch=settings.micro_batch and settings.micro_batch * rows,
            gradient_clip=settings.gradient_clip,
            dtype=dtype,
            loss=loss,
            guard=guard,
        )
        _save(context, settings, model, chat)
    finally:
        journal.end()
    declare(context, steps, (LAST, ADAPTER) if settings.lora else (LAST,))
    figures = tune_figures(context.folder / METRICS, settings, model.config, data.examples, data.counts)
    context.summary = last_word(figures, settings)
    return figures


def _chat(context: Context) -> Chat:
    """The template with the run's tokenizer. Raises ZhenError for one that lacks its tokens."""
    tokenizer = load_tokenizer(context.after["tokenizer"])
    template = load_template(tokenizer.folder, CHATML)
    special = template.special if template else {}
    for needed in (TURN_START, TURN_END):
        if needed not in special:
            raise ZhenError(
                f"the tokenizer has no special token {needed}",
                expected="the two that ChatML marks turns with",
                file=tokenizer.folder,
            )
    assert template is not None
    return Chat(template, tokenizer, special[TURN_END])


def _model(context: Context, settings: TuneSettings) -> Transformer:
    """The model to tune, in float32. Raises ZhenError where its positions can't be more than it was trained for."""
    made = context.after.get("extend") or context.after.get("pretrain")
    folder = made / LAST if made else Path(context.sections["model.init"])
    model = load_model(folder, torch.float32)
    config = model.config
    if settings.sequence_length > config.max_position_embeddings and config.rope_scaling is not None:
        raise ZhenError(
            f"sequence_length {settings.sequence_length:,}",
            expected=f"at most the model's {config.max_position_embeddings:,}: its rotary positions are scaled",
            place="tune.sequence_length",
        )
    return model


def _data(context: Context, settings: TuneSettings, chat: Chat) -> Data:
    """All dialogues as examples. Raises ZhenError where there are none, ManyErrors for faulty records."""
    dialogues: list[Dialogue] = []
    mistakes: list[ZhenError] = []
    for name in settings.data:
        for path in _files(context.after[DIALOGUES] if name == SAMPLEWEB else Path(name).expanduser()):
            found, wrong = read_dialogues(path)
            dialogues += found
            mistakes += wrong
            context.line.update(0, None, "steps", f"{len(dialogues):,} dialogues read")
            context.stop_here()
    if mistakes and settings.faulty == "refuse":
        raise ManyErrors(mistakes)
    pairs = settings.method == "preferences"
    counts = {"faulty": len(mistakes), "cut": 0, "too_long": 0, "not_pairs": 0}
    examples: list[Example] = []
    for dialogue in dialogues:
        if pairs and dialogue.rejected is None:
            counts["not_pairs"] += 1
            continue
        given = (dialogue, chat.template, chat.tokenizer, chat.turn_end, settings.sequence_length)
        made = pair_of(*given) if pairs else (example_of(*given),)
        if made is None or made[0] is None:
            counts["too_long"] += 1
            continue
        examples += [each for each in made if each is not None]
        counts["cut"] += not made[0].whole
    if not examples:
        raise ZhenError(
            f"none of {len(dialogues):,} dialogues can be learnt from: {counts['too_long']:,} are too long, "
            f"{counts['not_pairs']:,} are no pairs",
            expected=f"{'pairs' if pairs else 'dialogues'} of at most {settings.sequence_length:,} tokens",
            place="tune.data",
        )
    for what, count in counts.items():
        if count:
            context.event(what.replace("_", "-"), dialogues=count, of=len(dialogues))
    return Data(examples, dialogues, counts)


def _files(path: Path) -> list[Path]:
    """The file, or the files of dialogues below a folder. Raises ZhenError where there is none."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS))
    if not files:
        found = "holds no file of dialogues" if path.is_dir() else "no such file of dialogues"
        raise ZhenError(found, expected=", ".join(ENDINGS), file=path, place="tune.data")
    return files


class _Batches:
    """The batch of each step, by its number."""

    def __init__(self, context: Context, settings: TuneSettings, data: Data, tokenizer: Tokenizer) -> None:
        seed = context.sections["run.seed"]
        self._settings, self._seed, self._padding = settings, seed, tokenizer.end_of_text
        self._pairs = settings.method == "preferences"
        size = 2 if self._pairs else 1
        self.groups = [data.examples[at : at + size] for at in range(0, len(data.examples), size)]
        lengths = [max(example.length for example in group) for group in self.groups]
        self._plan = Plan(lengths, settings.sequence_length, seed, packed=not self._pairs)
        self.reference: list[float] = []
        self._text: TextRows | None = None
        if settings.text_share:
            phases = context.sections["pretrain.mixtures"] or ()
            self._text = TextRows(context.after["shards"], settings, phases, seed, tokenizer)

    def batch(self, step: int) -> Batch:
        """Also sets torch's random numbers, which noise and dropout take, by the step."""
        torch.manual_seed((self._seed * 1_000_003 + step) % (1 << 63))
        before, after = (self._text.before(at) if self._text else 0 for at in (step, step + 1))
        rows = self._plan.rows(step * self._settings.batch - before, (step + 1) * self._settings.batch - after)
        if self._pairs:
            return self.pairs([place for row in rows for place in row])
        examples = [[self.groups[place][0] for place in row] for row in rows]
        made = batch_of(examples, self._settings.sequence_length, self._padding)
        return joined(made, self._text.batch(step)) if self._text and after > before else made

    def pairs(self, places: Sequence[int]) -> Batch:
        """Pairs as a batch, two rows each, as long as the longest of them."""
        rows = [[example] for place in places for example in self.groups[place]]
        made = batch_of(rows, max(row[0].length for row in rows), self._padding)
        if not self.reference:
            return made
        reference = [self.reference[2 * place + side] for place in places for side in (0, 1)]
        return Batch(made.tokens, made.targets, made.mask, made.document_starts, torch.tensor(reference))


@torch.no_grad()
def _reference(context: Context, settings: TuneSettings, model: Transformer, batches: _Batches) -> list[float]:
    """How probable the model finds every answer before it is tuned: made once, kept in a file."""
    path = context.folder / REFERENCE
    if not path.exists():
        device, found = next(model.parameters()).device, list[float]()
        size = settings.micro_batch or settings.batch
        for at in range(0, len(batches.groups), size):
            places = range(at, min(at + size, len(batches.groups)))
            batch = batches.pairs(places).to(device)
            found += row_logprobs(model.eval(), batch, dtype_of(settings.dtype, device)).tolist()
            context.line.update(0, settings.steps, "steps", f"reference: {len(found) // 2:,} pairs")
            context.stop_here()
        rows = ({"chosen": found[at], "rejected": found[at + 1]} for at in range(0, len(found), 2))
        context.output(REFERENCE, "result", write_text(path, "".join(json.dumps(row) + "\n" for row in rows)))
    else:
        context.output(REFERENCE, "result")
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row[side] for row in kept for side in ("chosen", "rejected")]


def _samples(model: Transformer, dialogues: Sequence[Dialogue], chat: Chat, step: int) -> list[dict[str, Any]]:
    """Greedy answers to the first questions of dialogues that lie evenly among all."""
    stride = max(1, len(dialogues) // SAMPLES)
    rows = []
    training = model.training
    model.eval()
    for dialogue in dialogues[::stride][:SAMPLES]:
        turns = [turn for turn in dialogue.turns[:2] if turn["role"] in ("system", "user")]
        ids = chat.template.encode(turns, chat.tokenizer, dialogue.tools or None)
        made = generate(model, ids, SAMPLE_TOKENS, {chat.turn_end, chat.tokenizer.end_of_text})
        asked = turns[-1]["content"] if turns else ""
        rows.append({"step": step, "lang": dialogue.lang, "prompt": asked, "continuation": chat.tokenizer.decode(made)})
    model.train(training)
    return rows


def _save(context: Context, settings: TuneSettings, model: Transformer, chat: Chat) -> None:
    """The adapter, where there is one, and the whole model under LLaMA's names."""
    if settings.lora is not None:
        lora = settings.lora
        publish(context, ADAPTER, lambda folder: save_adapter(model, lora, folder))
        merge(model)
    length = max(model.config.max_position_embeddings, settings.sequence_length)
    publish(
        context,
        LAST,
        lambda folder: save_model(
            model, folder, settings.checkpoint_dtype, chat.tokenizer.folder, length, turn_end=chat.turn_end
        ),
    )
