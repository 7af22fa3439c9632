"""The recipe sections `[pretrain]` and `[extend]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Protocol

import msgspec

from zhen.model.config import ModelConfig, RopeScaling
from zhen.train.phases import Phase, Share, phase_problems

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Beta = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
Recompute = Literal["none", "selective", "full"]
Scaling = Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"]


class Parallel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the processes that torchrun started share one training. Results are the same to rounding, so a run may go on
    with others: this is no part of a stage's key."""

    data: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Groups of context · tensor processes, over which the batch and the weights are cut (fully sharded data
    parallelism). 0: as many as there are."""

    tensor: Count = 1
    """Processes over which heads, the feed-forward width and the vocabulary are cut (Shoeybi et al. 2019, Megatron-LM,
    section 3; between these the sequence, Korthikanti et al. 2022, section 4.2.2). For those that are close."""

    context: Count = 1
    """Processes over which each sequence is cut, for long ones (Grattafiori et al. 2024, Llama 3, section 3.3.2)."""

    timeout: Positive = 600.0
    """Seconds after which a process that others wait for is taken for lost. One whose update takes twice as long ends
    itself, telling where it stands."""

    def problems(self, model: ModelConfig) -> Iterator[tuple[str, str, str]]:
        """What of a model can't be cut so: (field, found, expected)."""
        for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
            if getattr(model, name) % self.tensor:
                yield "tensor", f"{self.tensor} with {name} {getattr(model, name):,}", f"a divisor of {name}"


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of an update that went wrong, or whose loss or gradient stands out. All processes do the same."""

    NO_RESULTS: ClassVar[tuple[str, ...]] = ("replay_every",)

    non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is no finite number: end the run, or leave the weights as they are and go on with the
    next batch."""

    skips_in_a_row: Count = 8
    """So many such updates one behind the other end the run in any case. Of updates that stand out no more than so many
    are left out in a row: what the next batches show as well is not the batch's fault."""

    spike: Literal["note", "skip", "rewind"] = "note"
    """A loss or a gradient norm that stands out from those before: say so; leave that update out, too; or go back to
    before it and leave out a range of batches (Chowdhery et al. 2022, PaLM, section 5.1)."""

    spike_deviations: Positive = 6.0
    """Standard deviations above the median of the last 128 updates from which on it stands out (OLMo's rule of six;
    here by the median deviation, which spikes don't move, or what the upper tail of the last 1,024 tells, where that is
    more; the gradient norm by its logarithm)."""

    rewind_after: Count = 4
    """So many updates in a row that stand out make a rewind (Composer's `patience` of 4): one bad batch does not."""

    rewind_steps: Count = 100
    """Steps before the first of these that are undone (PaLM: roughly 100)."""

    rewind_batches: Count = 300
    """Batches that are left out from there on, so that those before and during the spike are not seen again (PaLM:
    roughly 200 to 500). Steps stay as many: what follows moves up."""

    rewinds: Count = 3
    """Most of them in a run; after that a spike is noted only."""

    replay_every: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """Updates between two whose loss and gradient are computed twice and have to have the same bits; 0: none is.
    One in a thousand costs a thousandth of the time. An error that stays ends the run."""

    @property
    def reach(self) -> int:
        """Steps that a rewind may go back from the last spike of a row, updates without a finite number among them."""
        apart = self.skips_in_a_row if self.non_finite == "skip" else 1
        return self.rewind_steps + (self.rewind_after - 1) * apart

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that can't be: (field, found, expected)."""
        least = self.reach + 1
        if self.spike == "rewind" and self.rewind_batches < least:
            found = f"{self.rewind_batches:,} with rewind_steps {self.rewind_steps:,}, rewind_after {self.rewind_after}"
            yield "rewind_batches", found, f"at least {least:,}, so that the batches of the spike are left out, too"


class LoopSettings(Protocol):
    """What the loop, its optimizer and its journal ask of the settings of a stage that trains."""

    @property
    def steps(self) -> int:
        """Updates of the weights in all."""

    @property
    def tokens_per_step(self) -> int:
        """Positions that pass through the model in one update."""

    @property
    def learning_rate(self) -> float:
        """At its peak."""

    @property
    def schedule(self) -> Literal["wsd", "cosine"]:
        """Its shape."""

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""

    @property
    def decay_share(self) -> float:
        """Share of the steps in which `wsd` decays."""

    @property
    def final_learning_rate_share(self) -> float:
        """Learning rate at the end as a share of the peak."""

    @property
    def optimizer(self) -> Literal["adamw", "muon"]:
        """Which one."""

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's."""

    @property
    def eps(self) -> float:
        """AdamW's."""

    @property
    def weight_decay(self) -> float:
        """Decoupled."""

    @property
    def dtype(self) -> Literal["bfloat16", "float32"] | None:
        """Number format of the matrix products, where the recipe names one."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between training checkpoints."""

    @property
    def keep_steps(self) -> tuple[int, ...]:
        """Steps whose training checkpoints are kept."""

    @property
    def evaluate_every(self) -> int:
        """Steps between measurements."""


class ShardTraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained from tokens. Everything is counted in tokens and steps, nothing by a clock."""

    SECTION: ClassVar[str]
    """The recipe section that these settings are of."""

    NO_RESULTS: ClassVar[tuple[str, ...]] = ("parallel",)

    tokens: Count
    """Tokens to train on, rounded up to whole steps."""

    tokens_per_step: Count
    """Tokens in one update of the weights; a multiple of `sequence_length`."""

    sequence_length: Annotated[int, msgspec.Meta(ge=2)]
    """Tokens in one sequence: the longest context that the model is trained for."""

    micro_batch: Count | None = None
    """Sequences that pass through the model at once; the gradient is added up over a step's. None: all of them."""

    learning_rate: Positive
    """Peak learning rate, per step. With Muon it serves both optimizers (updates are scaled to AdamW's size)."""

    schedule: Literal["wsd", "cosine"] = "wsd"
    """`wsd`: warm-up, constant, linear decay (Hu et al. 2024, MiniCPM, section 4). `cosine`: warm-up, half a cosine."""

    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 40
    """Steps of linear warm-up; 40 were enough for the demo's model."""

    decay_share: Share = 0.4
    """Share of all steps in which `wsd` decays; 0.4 suits short runs, 0.1 long ones (MiniCPM, section 4.2)."""

    final_learning_rate_share: Share = 0.0
    """Learning rate at the end as a share of the peak; zero is best for a linear decay (Bergsma et al. 2025)."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon on the matrices of the layers, AdamW on embeddings, norms and head."""

    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment per step (Touvron et al. 2023, LLaMA, section 2.3)."""

    eps: Positive = 1e-8
    """AdamW's epsilon, in units of the gradient (Kingma and Ba 2015)."""

    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.1
    """Decoupled decay per unit of learning rate, on matrices only, never on norms (LLaMA, section 2.3)."""

    gradient_clip: Positive = 1.0
    """Largest norm of the whole gradient; a longer one is scaled down to it (LLaMA, section 2.3)."""

    dtype: Literal["bfloat16", "float32"] | None = None
    """Number format of the matrix products; weights and optimizer state are float32 in both. None: bfloat16, but
    float32 on a CPU without units for bfloat16, where that is the faster one. The record says which it was."""

    float8: Scaling | None = None
    """The layers' products in float8, on GPUs that have it, one scale a tensor (the fastest), a row, or a row with the
    weights' gradients left in bfloat16 (the most exact): torchao's recipes by their names. What is measured runs in
    `dtype`, as does the head. None: everything in `dtype`."""

    compile: bool | None = None
    """Whether torch.compile fuses the layers and the loss. None: where the training is long enough to win by it, 5e13
    FLOPs (docs/pretrain.md)."""

    recompute: Recompute = "none"
    """Activations computed again in the backward pass: none; all but attention's and every second product's; all
    (Chen et al. 2016, arXiv 1604.06174; Korthikanti et al. 2022, arXiv 2205.05198, section 5)."""

    loss_chunk: Count | None = None
    """Tokens whose logits are in memory at a time. None: all of a micro-batch."""

    mixture: dict[str, Share] | None = None
    """Share of the tokens by source, adding up to 1. None: by the sources' sizes."""

    phases: tuple[Phase, ...] = ()
    """Instead of `mixture`: parts of the run one behind the other, each with a mixture of its own (better text while
    the learning rate decays: Hu et al. 2024, MiniCPM, section 5; what has to be learnt first, in front)."""

    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Where fresh weights and the order of the sequences start. None: the run's seed."""

    max_epochs: Positive = 4.0
    """Most passes over a source; what it can't give is taken from the others. Up to 4 repeats cost little
    (Muennighoff et al. 2023, section 5)."""

    checkpoint_every: Count = 100
    """Steps between training checkpoints."""

    keep_steps: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """Steps whose training checkpoints are made and kept, besides step 0 and the newest two."""

    evaluate_every: Count = 100
    """Steps between measurements of the loss on held-out documents."""

    evaluate_bytes: Count = 50_000
    """Bytes of held-out text by language that each of these measurements reads, in whole documents."""

    checkpoint_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the weights in `checkpoint/` and `checkpoint-0/`."""

    invariant: bool = False
    """Whether the weights have the same bits however many processes share the work, and across a change of their number
    (`micro_batch` sequences at a time, their gradients added in one order, one thread a process)."""

    health: Health = Health()
    """What becomes of an update that went wrong, or stands out."""

    parallel: Parallel = Parallel()
    """How several processes share the work."""

    @property
    def steps(self) -> int:
        """Updates of the weights in all."""
        return -(-self.tokens // self.tokens_per_step)

    @property
    def mixtures(self) -> tuple[Phase, ...]:
        """The phases, or `mixture` as the only one."""
        return self.phases or (Phase(share=1.0, mixture=self.mixture),)

    @property
    def sequences_per_step(self) -> int:
        """Sequences in one update."""
        return self.tokens_per_step // self.sequence_length

    @property
    def micro_batches(self) -> int:
        """Micro-batches in one update."""
        return -(-self.sequences_per_step // (self.micro_batch or self.sequences_per_step))

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that can't be: (field, found, expected)."""
        if self.tokens_per_step % self.sequence_length:
            yield (
                "tokens_per_step",
                f"{self.tokens_per_step:,} tokens_per_step with sequence_length {self.sequence_length:,}",
                "a multiple of sequence_length",
            )
        elif self.micro_batch is not None and self.micro_batch > self.sequences_per_step:
            yield (
                "micro_batch",
                f"micro_batch {self.micro_batch:,}",
                f"at most the {self.sequences_per_step:,} sequences of a step",
            )
        if self.invariant and (self.micro_batch is None or self.sequences_per_step % self.micro_batch):
            yield (
                "invariant",
                f"true with micro_batch {self.micro_batch or 'left out'}",
                f"a micro_batch that the {self.sequences_per_step:,} sequences of a step are a multiple of",
            )
        if self.invariant and self.compile:
            yield "invariant", "true with compile", "one of them: compiled sums are in another order"
        if self.float8 and self.dtype == "float32":
            yield "float8", f'"{self.float8}" with dtype "float32"', "one of them"
        yield from self._parallel_problems()
        if self.warmup_steps >= self.steps and self.warmup_steps:
            yield (
                "warmup_steps",
                f"warmup_steps {self.warmup_steps:,}",
                f"fewer than the {self.steps:,} steps of the run",
            )
        yield from phase_problems(self.mixture, self.phases, self.steps)
        for step in self.keep_steps:
            if step > self.steps:
                yield "keep_steps", f"step {step:,}", f"steps from 0 to {self.steps:,}, the last of the run"
        for field, found, expected in self.health.problems():
            yield f"health.{field}", found, expected

    def _parallel_problems(self) -> Iterator[tuple[str, str, str]]:
        """What several processes can't share."""
        for name in ("tensor", "context"):
            if self.invariant and getattr(self.parallel, name) > 1:
                yield (
                    "invariant",
                    f"true with parallel.{name} {getattr(self.parallel, name)}",
                    f"parallel.{name} = 1: sums inside a product depend on how it is cut",
                )
        if self.parallel.context > 1 and self.sequence_length % (2 * self.parallel.context):
            yield (
                "parallel.context",
                f"{self.parallel.context} with sequence_length {self.sequence_length:,}",
                "a number whose double divides the sequence_length",
            )
        if self.parallel.tensor > 1 and (self.compile or self.loss_chunk or self.float8 or self.recompute != "none"):
            yield (
                "parallel.tensor",
                f"{self.parallel.tensor} with compile, loss_chunk, float8 or recompute",
                "1, or these left out",
            )
        if self.parallel.context > 1 and self.compile:
            yield "parallel.context", f"{self.parallel.context} with compile", "1, or compile left out"


class PretrainSettings(ShardTraining, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[pretrain]`: a model is made, or the one in `model.init` gone on with."""

    SECTION = "pretrain"


class ExtendSettings(ShardTraining, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[extend]`: the model is gone on with on longer sequences, or with more layers. Its optimizer starts afresh."""

    SECTION = "extend"

    context_length: Count | None = None
    """Positions that the checkpoint claims, `max_position_embeddings`. None: sequence_length. Fewer leave a margin:
    only the ends of a sequence are as far apart as it is long, so distances near its length are hardly trained."""

    rope_theta: Positive | None = None
    """A larger base of the rotary embedding (ABF: Xiong et al. 2023, arXiv 2309.16039, section 2.1). None: as it is."""

    rope_scaling: RopeScaling | None = None
    """Scaling of the rotary embedding instead, as `config.json` spells it; where it needs the length that was trained
    before, that is filled in."""

    long_tokens: Count | None = None
    """Tokens from which on a document is long."""

    long_share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] | None = None
    """Share of each source's tokens that are taken from its long documents; the shares of the sources stay as they are
    (Fu et al. 2024, arXiv 2402.10171, section 3: upsampling by length within each source). None: as they come."""

    repeat_layers: Count | tuple[Annotated[int, msgspec.Meta(ge=0)], ...] | None = None
    """Layers, counted from 0, that come a second time: neighbours as a block behind itself (Yi-9B's 12 to 27 of 32:
    arXiv 2403.04652, section 7.3). A number: the block of so many that change least what passes through them, measured
    by cosine on held-out text."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that can't be: (field, found, expected)."""
        yield from super().problems()
        if self.context_length is not None and self.context_length > self.sequence_length:
            yield "context_length", f"{self.context_length:,}", f"at most the {self.sequence_length:,} that are trained"
        if self.rope_theta is not None and self.rope_scaling is not None:
            yield "rope_theta", f"{self.rope_theta:g} beside rope_scaling", "one of the two"
        if (self.long_tokens is None) != (self.long_share is None):
            given = "long_tokens" if self.long_share is None else "long_share"
            yield given, f"{given} alone", "long_tokens and long_share together"
        if isinstance(layers := self.repeat_layers, tuple) and (not layers or list(layers) != sorted(set(layers))):
            yield "repeat_layers", f"{list(layers)}", "layers in order, each once"
