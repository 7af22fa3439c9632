"""LoRA: small matrices beside the model's own, which stay as they are; saved as PEFT saves them, and merged."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.checkpoint.load import tensor_bytes
from zhen.checkpoint.writer import write_safetensors
from zhen.formats.files import Digest, write_json
from zhen.model.linear import Linear
from zhen.model.transformer import Transformer
from zhen.tune.settings import LoraSettings

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class Adapted(Linear):
    """A matrix W of a model with B·A beside it: W x + scale · B A x. W is frozen and keeps its name."""

    def __init__(self, plain: Linear, settings: LoraSettings) -> None:
        super().__init__(plain.in_features, plain.out_features)
        self.weight = nn.Parameter(plain.weight.detach(), requires_grad=False)
        self.lora_A = nn.Parameter(torch.empty(settings.rank, plain.in_features))
        self.lora_B = nn.Parameter(torch.zeros(plain.out_features, settings.rank))
        self.scale = scale_of(settings)
        self._dropout = settings.dropout

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        dropped = F.dropout(input, self._dropout, self.training)
        return F.linear(input, self.weight) + self.scale * F.linear(F.linear(dropped, self.lora_A), self.lora_B)

    @torch.no_grad()
    def merged(self) -> Linear:
        """A plain matrix that does the same."""
        plain = Linear(self.in_features, self.out_features)
        plain.weight = nn.Parameter(self.weight + self.scale * (self.lora_B @ self.lora_A))
        return plain


def scale_of(settings: LoraSettings) -> float:
    """What B·A is multiplied by."""
    return settings.alpha / (math.sqrt(settings.rank) if settings.stabilised else settings.rank)


def adapt(model: Transformer, settings: LoraSettings, seed: int) -> None:
    """Put an Adapted in place of each target; everything else is frozen.

    B is zero, A uniform within ±1 / sqrt(inputs) as in PEFT, from a generator of its own by seed and name.
    """
    for parameter in model.parameters():
        parameter.requires_grad = False
    for name, parent, child in list(_matrices(model)):
        plain = getattr(parent, child)
        if child not in settings.targets:
            continue
        adapted = Adapted(plain, settings).to(plain.weight.device)
        key = hashlib.blake2b(f"{seed} lora {name}".encode(), digest_size=16).digest()
        drawn = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).random(
            tuple(adapted.lora_A.shape), dtype=np.float32
        )
        bound = 1 / math.sqrt(plain.in_features)
        with torch.no_grad():
            adapted.lora_A.copy_(torch.from_numpy((2 * drawn - 1) * np.float32(bound)))
        setattr(parent, child, adapted)


def merge(model: Transformer) -> None:
    """Put a plain matrix in place of each Adapted: LLaMA's names and nothing else."""
    for _, parent, child in list(_matrices(model)):
        if isinstance(adapted := getattr(parent, child), Adapted):
            setattr(parent, child, adapted.merged())


def save_adapter(model: Transformer, settings: LoraSettings, folder: Path) -> dict[str, Digest]:
    """Write what was added, in the format of PEFT; returns name -> digest."""
    entries = []
    for name, parent, child in _matrices(model):
        if isinstance(adapted := getattr(parent, child), Adapted):
            for half in ("lora_A", "lora_B"):
                tensor = getattr(adapted, half)
                entries.append(
                    (f"base_model.model.{name}.{half}.weight", "F32", tuple(tensor.shape), tensor_bytes(tensor))
                )
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": list(settings.targets),
        "task_type": "CAUSAL_LM",
        "use_rslora": settings.stabilised,
    }
    return {
        WEIGHTS: write_safetensors(folder / WEIGHTS, entries, {"format": "pt"}),
        CONFIG: write_json(folder / CONFIG, config),
    }


def _matrices(model: Transformer) -> Iterator[tuple[str, nn.Module, str]]:
    """(name, parent, child) of every matrix of the layers, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) and ".layers." in name:
            above, _, child = name.rpartition(".")
            yield name, model.get_submodule(above), child
