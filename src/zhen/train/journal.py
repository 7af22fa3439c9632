"""What happens around the loop: metrics, held-out losses, samples, training checkpoints, the live line, stops."""

from __future__ import annotations

import faulthandler
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from zhen.console import amount, size
from zhen.errors import Interrupted, ZhenError
from zhen.formats.files import write_text
from zhen.formats.metrics import METRICS, SAMPLES, MetricsFile, cut_back
from zhen.formats.stage import Context
from zhen.model.transformer import Transformer
from zhen.train import groups
from zhen.train.batch import Batch
from zhen.train.events import Events
from zhen.train.health import Guard, RateWatch, Spike
from zhen.train.heldout import HeldOut
from zhen.train.loop import Update
from zhen.train.monitor import READING_SECONDS, SPARE_BYTES, HangWatch, read_machine
from zhen.train.optimizer import Optimizer, trained
from zhen.train.rewind import Rewound
from zhen.train.samples import sample_steps
from zhen.train.settings import LoopSettings
from zhen.train.steps import Steps
from zhen.train.tracker import Tracker

TENSORBOARD = "tensorboard"

MODEL = "model."
"""Put before the names of the weights in a training checkpoint."""

OPTIMIZER = "optimizer."

DTYPE = "dtype"
"""What a training checkpoint calls the number format of the matrix products."""

_SHOWN = 20
"""Updates over which the loss and the rate on the live line are taken."""


class Journal:
    """Takes note of each update, and does what is due after it. `begin` first, `end` last."""

    def __init__(
        self,
        context: Context,
        settings: LoopSettings,
        model: Transformer,
        optimizer: Optimizer,
        steps: Steps,
        *,
        guard: Guard,
        held_out: HeldOut | None,
        sample: Callable[[int], list[dict[str, Any]]],
        flops_per_token: float,
        peak_flops: float,
        dtype: torch.dtype,
    ) -> None:
        """`guard` judges the updates; `sample` gives the rows of a step; `flops_per_token` counts forward and backward
        pass; matrix products run in `dtype`."""
        self._context = context
        self._settings = settings
        self._model = model
        self._optimizer = optimizer
        self._steps = steps
        self._guard = guard
        self._held_out = held_out
        self._sample = sample
        self._flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._sample_steps = sample_steps(settings.steps)
        self._samples: list[dict[str, Any]] = []
        self._bits: dict[str, float] = {}
        self._recent: deque[Update] = deque(maxlen=_SHOWN)
        self._rate = RateWatch()
        self._dtype = dtype
        self._dtype_name = str(dtype).removeprefix("torch.")
        self._device = next(model.parameters()).device
        self._events = Events(context)
        self._hang = HangWatch(self._tell_hang)
        self._read_at = -math.inf
        self._saved_bytes = 0
        self._disk_low = False
        self._step = 0
        self._opened: list[MetricsFile | SummaryWriter] = []
        self._tracker = self._open_tracker()

    def begin(self, step: int, state: Mapping[str, Any] | None) -> None:
        """Start at `step`: with the `state` of the training checkpoint read there, or anew with None."""
        self._open(step, state)
        self._row(
            step,
            "start",
            peak_flops=self._peak_flops,
            flops_per_token=self._flops_per_token,
            threads=torch.get_num_threads(),
            dtype=self._dtype_name,
            steps=self._settings.steps,
            tokens_per_step=self._settings.tokens_per_step,
        )
        self._events.publish()
        self._events.tell("started", step)
        self._read_machine(step)
        if state is None:
            self._measure_and_save(step)
        else:
            self._restore(state)
        self._hang.start()
        self._show(step)

    def rewind(self, made: Rewound, step: int, state: Mapping[str, Any]) -> None:
        """Go on from `step`, with the `state` of its training checkpoint: what was written of later ones is cut off."""
        first, behind = made.left_out
        self._context.event("rewind", step=made.update, back_to=step, left_out=[first, behind])
        self._events.publish()
        self._context.line.note(
            f"step {made.update:,}: what stands out from here on does not pass; back to step {step:,}, and batches "
            f"{first:,} to {behind - 1:,} are left out"
        )
        self._close()
        self._recent.clear()
        self._open(step, state)
        self._restore(state)
        self._show(step)

    def _open(self, step: int, state: Mapping[str, Any] | None) -> None:
        path = self._context.folder / METRICS
        length, damaged = cut_back(path, step) if state else (0, 0)
        if damaged:
            self._context.event("damaged-metrics", rows=damaged)
            self._context.line.note(f"{damaged:,} damaged rows of {METRICS} are left out")
        self._metrics = MetricsFile(path, length)
        self._opened.append(self._metrics)
        self._board = SummaryWriter(str(self._context.folder / TENSORBOARD), purge_step=step + 1 if state else 0)
        self._opened.append(self._board)
        self._step = step

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._samples, self._bits = list(state["samples"]), dict(state["held_out"])
        self._guard.load(state["health"])
        self._write_samples()

    def before(self, step: int, batch: Batch) -> None:
        """Look at the gradient of update `step` and at what the model makes of the batch, where it is due."""
        if groups.due(step):
            tokens = batch.tokens[:1, : groups.PROBE_TOKENS].to(self._device)
            found = groups.look(self._model, tokens, self._dtype)
            self._row(step, "groups", **found)
            named = {f"{what}/{group}": value for what, part in found.items() for group, value in part.items()}
            self._scalars(step, {name: value for name, value in named.items() if value is not None})

    def after(self, update: Update) -> None:
        """Take note of an update; measure, sample, save and stop where it is due."""
        self._step = update.step
        if update.spike is not None:
            self._note_spike(update, update.spike)
        if update.skipped:
            self._note_skip(update)
        else:
            self._recent.append(update)
            self._note(update)
        self._measure_and_save(update.step)
        self._watch_rate(update)
        self._read_machine(update.step)
        self._events.publish()
        self._hang.beat(update.step)
        self._show(update.step)
        if self._context.stop_requested():
            if not self.due(update.step):  # else it has just been saved
                self._save(update.step)
            self._steps.wait()
            self._context.stop_here()

    def mismatch(self, update: int, which: str, where: str) -> None:
        """An update that was computed several times came to different bits (`replay.py`)."""
        self._context.event("mismatch", step=update, error=which, host=where)
        self._context.line.note(f"step {update:,}: computed twice with different results, {which} error on {where}")

    def end(self) -> None:
        """Wait for the last training checkpoint, tell how it ended, close the files. To be called in a `finally`."""
        error = sys.exception()
        try:
            self._steps.wait()
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._hang.end()
            self._events.publish()
            self._tell_end(error)
            self._events.close()
            self._close()
            if self._tracker is not None:
                self._tracker.finish()

    def _close(self) -> None:
        """Close what `_open` opened."""
        for file in self._opened:
            file.close()
        self._opened.clear()

    def _tell_hang(self, step: int, seconds: float) -> None:
        """In an event, and with where each thread stands on standard error."""
        self._events.tell("hang", step, seconds=round(seconds))
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)

    def _tell_end(self, error: BaseException | None) -> None:
        if error is None:
            self._events.tell("finished", self._step)
        elif isinstance(error, Interrupted | KeyboardInterrupt):
            self._events.tell("stopped", self._step)
        else:
            found = error.text() if isinstance(error, ZhenError) else f"{type(error).__name__}: {error}"
            self._events.tell("failed", self._step, found=found)

    def due(self, step: int) -> bool:
        """Whether the recipe saves a training checkpoint after `step`."""
        return saves(self._settings, step)

    def _note(self, update: Update) -> None:
        rate = update.tokens / update.seconds
        numbers = {
            "loss": update.loss,
            "learning_rate": update.learning_rate,
            "gradient_norm": update.gradient_norm,
            "tokens_per_second": round(rate, 1),
            "mfu": round(self._mfu(rate), 5),
        }
        tokens = update.step * self._settings.tokens_per_step
        self._row(update.step, "train", tokens=tokens, seconds=round(update.seconds, 6), **numbers)
        self._scalars(update.step, {f"train/{name}": value for name, value in numbers.items()})

    def _note_spike(self, update: Update, spike: Spike) -> None:
        found = {"what": spike.what, "value": round(spike.value, 4), "deviations": round(spike.deviations, 1)}
        self._context.event("spike", step=update.step, **found)
        self._context.line.note(f"step {update.step:,}: the {spike.what} of {spike.value:.3f} stands out")

    def _note_skip(self, update: Update) -> None:
        found = {"loss": update.loss, "gradient_norm": update.gradient_norm}
        self._row(update.step, "skipped", **{name: v if math.isfinite(v) else None for name, v in found.items()})
        self._context.event("skipped", step=update.step, **{name: str(value) for name, value in found.items()})
        self._context.line.note(
            f"step {update.step:,}: skipped, the loss is {update.loss:.4g}; the weights are as before"
        )

    def _row(self, step: int, kind: str, **values: Any) -> None:
        """A row of the metrics file; `time` is the clock's, in seconds of the Unix epoch."""
        self._metrics.append({"step": step, "kind": kind, "time": round(time.time(), 3), **values})

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers for TensorBoard, and the same for the tracker."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(values, step)

    def _measure_and_save(self, step: int) -> None:
        last = step == self._settings.steps
        if self._held_out and (step % self._settings.evaluate_every == 0 or last):
            self._bits = self._held_out.measure(self._model, self._dtype)
            self._row(step, "held-out", bits_per_byte=self._bits)
            self._scalars(step, {f"held-out/bits_per_byte/{lang}": value for lang, value in self._bits.items()})
        if step in self._sample_steps:
            self._samples += self._sample(step)
            self._write_samples()
        if self.due(step):
            self._save(step)

    def _save(self, step: int) -> None:
        self._metrics.sync()
        self._board.flush()
        tensors: dict[str, Tensor] = {MODEL + name: value for name, value in trained(self._model).items()}
        tensors |= {OPTIMIZER + name: value for name, value in self._optimizer.tensors().items()}
        state = {
            "step": step,
            DTYPE: self._dtype_name,
            "samples": self._samples,
            "held_out": self._bits,
            "health": self._guard.state(),
        }
        self._steps.save(step, tensors, state)
        self._events.tell("checkpoint", step)
        self._saved_bytes = sum(tensor.nbytes for tensor in tensors.values())

    def _write_samples(self) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self._samples)
        digest = write_text(self._context.folder / SAMPLES, "".join(lines))
        self._context.output(SAMPLES, "result", digest)

    def _watch_rate(self, update: Update) -> None:
        if slow := self._rate.slow(update.tokens, update.seconds):
            rate, best = slow
            self._context.event("slow", step=update.step, tokens_per_second=round(rate), best=round(best))
            self._context.line.note(
                f"step {update.step:,}: {amount(round(rate))} tokens/s, less than half of the {amount(round(best))} "
                "seen before; the cores are busy with something else"
            )

    def _read_machine(self, step: int) -> None:
        """A reading of the machine, now and then; says when the disk is nearly full."""
        if time.monotonic() - self._read_at < READING_SECONDS:
            return
        self._read_at = time.monotonic()
        found = read_machine(self._context.folder, self._device)
        self._row(step, "machine", **found)
        self._scalars(step, {f"machine/{name}": value for name, value in found.items()})
        low = found["disk_free"] < 2 * self._saved_bytes + SPARE_BYTES
        if low and not self._disk_low:
            self._context.event("disk-low", step=step, disk_free=found["disk_free"])
            self._context.line.note(f"step {step:,}: the disk is nearly full, {size(found['disk_free'])} are free")
        self._disk_low = low

    def _open_tracker(self) -> Tracker | None:
        """The tracker that the user named."""
        if self._context.tracker is None:
            return None
        folder = self._context.folder.absolute()
        return Tracker(
            self._context.tracker,
            project=folder.parents[1].name,
            run=folder.name,
            config=msgspec.to_builtins(self._context.sections),
            note=self._context.line.note,
        )

    def _show(self, step: int) -> None:
        facts = []
        if self._recent:
            loss = math.fsum(update.loss for update in self._recent) / len(self._recent)
            rate = sum(u.tokens for u in self._recent) / math.fsum(u.seconds for u in self._recent)
            facts = [f"loss {loss:.3f}", *self._bits_text(), f"{amount(round(rate))} tokens/s"]
            facts.append(f"MFU {self._mfu(rate):.0%}")
        else:
            facts = self._bits_text()
        self._context.line.update(step, self._settings.steps, "steps", "  ".join(facts))

    def _bits_text(self) -> list[str]:
        return (
            [" ".join(f"{lang} {value:.3f}" for lang, value in self._bits.items()) + " bits/byte"] if self._bits else []
        )

    def _mfu(self, tokens_per_second: float) -> float:
        return tokens_per_second * self._flops_per_token / self._peak_flops


def saves(settings: LoopSettings, step: int) -> bool:
    """Whether the recipe saves a training checkpoint after `step`."""
    return step % settings.checkpoint_every == 0 or step == settings.steps or step in settings.keep_steps
