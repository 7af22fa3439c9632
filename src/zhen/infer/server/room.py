"""Whether a checkpoint fits before it is loaded: weights, cache, workspace; what would fit where it does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch

from zhen.checkpoint import names
from zhen.checkpoint.configs import config_of
from zhen.checkpoint.kept import kept_packed
from zhen.checkpoint.packed import READ, packed, quantisation
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.stored import read_config
from zhen.console import size
from zhen.errors import ZhenError
from zhen.infer.engine import FAST_IN_FLOAT32, PREFIX_TOKENS, PROMPT_TOKENS
from zhen.model.config import ModelConfig
from zhen.model.size import (
    cache_bytes_per_token,
    kv_bytes_per_token,
    packed_weights,
    parameters,
    quantised_bytes,
    shapes,
    workspace_bytes,
)

LEAST_CONTEXT = 16
"""Tokens below which a context is of no use to anybody."""
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".gguf")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Room:
    """What serving takes, in bytes, and what there is of it."""

    weights: int
    workspace: int
    cache_token: int
    """Of one token of one request."""
    available: int
    batch: int
    """Requests at a time."""
    context: int
    """Tokens of the longest of them."""
    cache_bits: Literal[16, 8] = 16

    @property
    def fitting(self) -> int:
        """Tokens of cache that fit beside weights and workspace."""
        return max(0, self.available - self.weights - self.workspace) // self.cache_token

    @property
    def prefix_tokens(self) -> int:
        """Tokens of beginnings that are kept to be reused: at most a quarter of what fits."""
        return min(PREFIX_TOKENS, self.fitting // 4, self.fitting - self.context)

    @property
    def cache_tokens(self) -> int:
        """Tokens that all requests under way may come to together."""
        return min(self.batch * self.context, self.fitting - self.prefix_tokens)

    def lines(self) -> list[str]:
        """What it takes, and the longest context and the largest batch that fit."""
        together, fitting = self.cache_tokens, self.fitting - self.prefix_tokens
        kept, cache = (size(tokens * self.cache_token) for tokens in (self.prefix_tokens, together))
        bits = " in 8 bits" if self.cache_bits == 8 else ""
        rest = "" if together == self.batch * self.context else f", {together:,} together: what needs more waits"
        return [
            f"weights {size(self.weights)}, workspace {size(self.workspace)}, beginnings kept {kept}, "
            f"cache{bits} {cache}; available {size(self.available)}",
            f"{self.batch} requests at a time, of {self.context:,} tokens at most{rest}; there would be room for "
            f"{fitting // self.context:,} of {self.context:,}, or {self.batch} of {fitting // self.batch:,}",
        ]

    def check(self, others: Sequence[str]) -> None:
        """Raises ZhenError where not even one request of the longest fits, with what would; `others` does beside a
        shorter context."""
        if self.fitting >= self.context:
            return
        needed = self.weights + self.workspace + self.context * self.cache_token
        ways = [f"--max-context {self.fitting}"] if self.fitting >= LEAST_CONTEXT else []
        ways += others
        raise ZhenError(
            f"{size(needed)} are needed: weights {size(self.weights)}, workspace {size(self.workspace)}, "
            f"cache of one request {size(self.context * self.cache_token)}",
            expected=f"at most the {size(self.available)} that are available",
            hint=f"what fits: {' or '.join(ways)}" if ways else "a smaller model, or more memory",
        )


def plan(
    folder: Path,
    *,
    batch: int,
    max_context: int | None,
    dtype: str | None,
    device: str | None,
    cache_bits: Literal[16, 8] = 16,
    memory: int | None = None,
) -> Room:
    """The room that a checkpoint takes as `zhen serve` would load it; only headers are read, or the config where there
    is nothing else. `memory`: bytes to fit in, in place of those that can be had here.

    What the process itself holds is held already: what can be had is counted without it. So all that a server needs
    should be imported before. Raises ZhenError where it would not fit, and for a checkpoint that is none.
    """
    if dtype is not None and dtype not in _BYTES:
        raise ZhenError(f"dtype {dtype}", expected="one of " + ", ".join(_BYTES))
    _check_device(device)
    found = _loaded(folder, dtype, device)
    config = found.config
    scaling = config.rope_scaling
    stretched = scaling.factor if scaling is not None and scaling.rope_type == "dynamic" else 1
    longest = int(config.max_position_embeddings * stretched)
    context = min(max_context or longest, longest)
    token = cache_bytes_per_token(config, 8) if cache_bits == 8 else kv_bytes_per_token(config, found.width)
    room = Room(
        weights=found.weights,
        workspace=_workspace(config, batch, context, found.width, cache_bits),
        cache_token=token,
        available=available(device) if memory is None else memory,
        batch=batch,
        context=context,
        cache_bits=cache_bits,
    )
    packed_cache = replace(
        room,
        workspace=_workspace(config, batch, context, found.width, 8),
        cache_token=cache_bytes_per_token(config, 8),
    )
    others = ["--cache-bits 8"] if cache_bits == 16 and packed_cache.fitting >= context else []
    room.check([*others, *([] if found.packed else [_smaller(config)])])
    return room


class _Grouped(msgspec.Struct):
    num_bits: Literal[8, 4]
    group_size: Annotated[int, msgspec.Meta(ge=1)]


class _Group(msgspec.Struct):
    targets: list[str]
    weights: _Grouped


class _Said(msgspec.Struct):
    """A `quantization_config` of packed weights, as far as sizes follow from it."""

    config_groups: dict[str, _Group]
    ignore: list[str] = []


@dataclass(frozen=True)
class _Loaded:
    """What a checkpoint is once it is loaded."""

    config: ModelConfig
    weights: int
    """Bytes."""
    width: int
    """Bytes of a number that is computed with."""
    packed: bool


def _loaded(folder: Path, dtype: str | None, device: str | None) -> _Loaded:
    if (folder / "config.json").is_file() and not any(each.suffix in WEIGHTS for each in folder.iterdir()):
        return _announced(folder, dtype)
    checkpoint = open_checkpoint(folder)
    if checkpoint.config is None:
        raise ZhenError("missing", expected="the model's configuration", file=checkpoint.folder / "config.json")
    scheme = names.detect(checkpoint.tensors)
    config = config_of(checkpoint.config, "llama" if scheme == names.UNKNOWN else scheme, checkpoint.folder)
    count = parameters(config)
    stored = sum(tensor.end - tensor.begin for tensor in checkpoint.tensors.values())
    quantised = bool(packed(checkpoint))
    kept = kept_packed(checkpoint, getattr(torch, dtype) if dtype else None, device, config.tie_word_embeddings)
    if dtype is None and device in (None, "cpu") and count <= FAST_IN_FLOAT32 and not kept.items:
        dtype = "float32"
    width = _BYTES[dtype] if dtype else 2
    weights = kept.bytes(checkpoint, width) if quantised else count * width if dtype else stored
    return _Loaded(config, weights, width, quantised)


def _announced(folder: Path, dtype: str | None) -> _Loaded:
    """By a config alone: weights of 16 bits, or as its quantization_config says."""
    values = read_config(folder) or {}
    file = folder / "config.json"
    config = config_of(values, "llama", file)
    width = _BYTES[dtype or "bfloat16"]
    if quantisation(values) != READ:
        return _Loaded(config, parameters(config) * width, width, packed=False)
    try:
        said = msgspec.convert(values["quantization_config"], _Said)
    except msgspec.ValidationError as error:
        raise ZhenError(str(error), expected="weights in groups", file=file, place="quantization_config") from error
    bits = {"Linear": (4, 128), "lm_head": (16, 128), "embed_tokens": (16, 128)}
    for each in said.config_groups.values():
        for target in each.targets:
            name = target.removeprefix("re:.*").removesuffix("$")
            bits[name] = each.weights.num_bits, each.weights.group_size
    if "lm_head" not in said.ignore and bits["lm_head"][0] == 16:
        bits["lm_head"] = bits["Linear"]
    inside, group = bits["Linear"]
    total = packed_weights(config, inside, group, bits["lm_head"][0], bits["embed_tokens"][0])
    return _Loaded(config, total, 2, packed=True)


def available(device: str | None) -> int:
    """Bytes that can be had: of a GPU what is free; of the machine what is available, within the limit of the group."""
    if device is not None and device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = Path("/proc/meminfo")
    for line in memory.read_text().splitlines() if memory.exists() else []:
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no group, or one without a limit
        return free


def _check_device(name: str | None) -> None:
    """Raises ZhenError for a device that isn't there."""
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *(["cuda"] if cards else []), *cards]
    if name is not None and name not in known:
        raise ZhenError(f"--device {name}", expected=" or ".join(known) + ", what this machine has")


def _workspace(config: ModelConfig, batch: int, context: int, width: int, cache_bits: Literal[16, 8]) -> int:
    """Bytes of a step's intermediate values, for the prompts read in it and a token of each answer, and of its logits
    in float32: made, filtered, sorted."""
    step = workspace_bytes(config, context, cache_bits, PROMPT_TOKENS + batch)
    return step * width // 2 + 3 * 4 * batch * config.vocab_size


def _smaller(config: ModelConfig) -> str:
    outside = sum(
        rows * (rest[0] if rest else 1)
        for name, (rows, *rest) in shapes(config).items()
        if ".layers." not in name or not rest
    )
    inside = parameters(config) - outside
    eight, four = (size(quantised_bytes(inside, outside, bits)) for bits in (8, 4))
    return f"its weights in 8 bits ({eight}) or 4 ({four})"
