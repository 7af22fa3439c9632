"""The recipe section `[tune]`: which dialogues a model is tuned on, and how. The defaults are Yi's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Beta = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]

SAMPLEWEB = "sampleweb"
"""Stands for the dialogues of the built-in web."""

ENDINGS = (".jsonl", ".json", ".jsonl.gz")

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tune.lora]`: small matrices beside the model's own, which stay (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Count = 8
    """Inner size of the added matrices (Hu et al. 2021, table 18: 8 is enough for most tasks)."""

    alpha: Positive = 16.0
    """What they add is multiplied by alpha / rank."""

    dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    """Share of their inputs that is left out while training."""

    stabilised: bool = False
    """Multiply by alpha / sqrt(rank) instead (rsLoRA: Kalajdzievski 2023, arXiv 2312.03732)."""

    targets: list[str] = msgspec.field(default_factory=lambda: list(TARGETS))
    """The matrices of a layer that get one; all when left out (Dettmers et al. 2023, QLoRA, section 4)."""


class TuneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is tuned. Defaults: Yi's report (arXiv 2403.04652), section 3, where it says anything."""

    data: list[str]
    """Files (`.jsonl`, `.json`, `.jsonl.gz`) or folders of them; `sampleweb`: the dialogues of the built-in web."""

    method: Literal["answers", "preferences"] = "answers"
    """`answers`: learn what the assistant says. `preferences`: learn to prefer `chosen` to `rejected` (DPO)."""

    faulty: Literal["refuse", "leave-out"] = "refuse"
    """What is done about records that are no dialogue: every one is told with its line, or they are left out and
    counted."""

    steps: Count = 300
    """Updates of the weights (Yi: 300)."""

    batch: Count = 64
    """Sequences in an update (Yi: 64), into each of which as many dialogues are packed as fit; with preferences pairs,
    which aren't packed."""

    text_share: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    """Share of these sequences that are text of `[pretrain]` again, every token of it learnt, so that the model doesn't
    forget it (Ouyang et al. 2022, arXiv 2203.02155, section 3.5, mix pretraining in to the same end). Yi: none."""

    sequence_length: Annotated[int, msgspec.Meta(ge=8)] = 4096
    """Tokens in a sequence (Yi: 4096). Of a longer dialogue the turns are taken that fit."""

    micro_batch: Count | None = None
    """Sequences (or pairs) that pass through the model at once. None: all of a step's."""

    learning_rate: Positive = 1e-5
    """Per step (Yi: 1e-5)."""

    schedule: Literal["wsd", "cosine"] = "wsd"
    """`wsd` with `decay_share` 0 is constant, as Yi's was."""

    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps of linear warm-up (Yi names none)."""

    decay_share: Share = 0.0
    """Share of the steps in which `wsd` decays (Yi: constant)."""

    final_learning_rate_share: Share = 0.0
    """Learning rate at the end of a decay as a share of the peak."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """Yi: AdamW."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's decay rates (Yi)."""

    eps: Positive = 1e-8
    """AdamW's epsilon (Yi)."""

    weight_decay: NotNegative = 0.1
    """Decoupled, on matrices only (Yi: 0.1)."""

    gradient_clip: Positive = 1.0
    """Largest norm of the whole gradient (Yi: 1.0)."""

    noise: NotNegative = 5.0
    """NEFTune: uniform noise on the embeddings of up to noise / sqrt(length · width), the length being the dialogue's
    (Jain et al. 2023, arXiv 2310.05914). Yi: 5 with 6 billion parameters, 45 with 34."""

    beta: Positive = 0.1
    """Preferences: how firmly the model is held to where it started (Rafailov et al. 2023, arXiv 2305.18290)."""

    lora: LoraSettings | None = None
    """Train added matrices only. None: all weights."""

    dtype: Literal["bfloat16", "float32"] | None = None
    """Number format of the matrix products; weights and optimizer state are float32 in both. None: bfloat16, but
    float32 on a CPU without units for bfloat16, where that is the faster one. The record says which it was."""

    checkpoint_every: Count = 100
    """Steps between training checkpoints."""

    keep_steps: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """Steps whose training checkpoints are kept, besides step 0 and the newest two."""

    checkpoint_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the weights in `checkpoint/`."""

    @property
    def tokens_per_step(self) -> int:
        """Positions of an update, padding included."""
        return self.batch * self.sequence_length * (2 if self.method == "preferences" else 1)

    @property
    def evaluate_every(self) -> int:
        """Nothing is measured on the way but the loss."""
        return self.steps

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that can't be: (field, found, expected)."""
        if not self.data:
            yield "data", "an empty list", f'files or folders of dialogues, or "{SAMPLEWEB}"'
        if self.micro_batch is not None and self.micro_batch > self.batch:
            yield "micro_batch", f"micro_batch {self.micro_batch:,}", f"at most the {self.batch:,} of a step"
        if self.text_share and self.method == "preferences":
            yield "text_share", f"{self.text_share:g} with preferences", "none: pairs and text have no loss in common"
        if self.warmup_steps >= self.steps:
            yield "warmup_steps", f"warmup_steps {self.warmup_steps:,}", f"fewer than the {self.steps:,} steps"
        for step in self.keep_steps:
            if step > self.steps:
                yield "keep_steps", f"step {step:,}", f"steps from 0 to {self.steps:,}, the last"
        for target in self.lora.targets if self.lora else []:
            if target not in TARGETS:
                yield "lora.targets", f'"{target}"', "one of " + ", ".join(TARGETS)
        if self.lora and (not self.lora.targets or len(set(self.lora.targets)) < len(self.lora.targets)):
            yield "lora.targets", ", ".join(self.lora.targets) or "an empty list", "each matrix once, at least one"
