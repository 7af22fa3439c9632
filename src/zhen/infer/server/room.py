"""Whether a checkpoint fits before it is loaded: weights, cache, workspace; what would fit where it does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from zhen.checkpoint import names
from zhen.checkpoint.configs import config_of
from zhen.checkpoint.reader import open_checkpoint
from zhen.console import size
from zhen.errors import ZhenError
from zhen.infer.engine import FAST_IN_FLOAT32, PREFIX_TOKENS, PROMPT_TOKENS
from zhen.model.config import ModelConfig
from zhen.model.size import kv_bytes_per_token, parameters, quantised_bytes, shapes

BASE = 400_000_000
"""Bytes allowed for a process before any model: Python, torch, the server, the chat page. Without the page 0.29 GB were
seen, the model of a million parameters included (benchmarks/serve.py)."""
LEAST_CONTEXT = 16
"""Tokens below which a context is of no use to anybody."""
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
        rest = "" if together == self.batch * self.context else f", {together:,} together: what needs more waits"
        return [
            f"weights {size(self.weights)}, workspace {size(self.workspace)}, beginnings kept {kept}, cache {cache}; "
            f"available {size(self.available)}",
            f"{self.batch} requests at a time, of {self.context:,} tokens at most{rest}; there would be room for "
            f"{fitting // self.context:,} of {self.context:,}, or {self.batch} of {fitting // self.batch:,}",
        ]

    def check(self, smaller: str) -> None:
        """Raises ZhenError where not even one request of the longest fits, with what would."""
        if self.fitting >= self.context:
            return
        needed = self.weights + self.workspace + self.context * self.cache_token
        ways = [f"--max-context {self.fitting}"] if self.fitting >= LEAST_CONTEXT else []
        raise ZhenError(
            f"{size(needed)} are needed: weights {size(self.weights)}, workspace {size(self.workspace)}, "
            f"cache of one request {size(self.context * self.cache_token)}",
            expected=f"at most the {size(self.available)} that are available",
            hint=f"what fits: {' or '.join([*ways, smaller])}",
        )


def plan(folder: Path, *, batch: int, max_context: int | None, dtype: str | None, device: str | None) -> Room:
    """The room that a checkpoint takes as `zhen serve` would load it; only headers are read.

    Raises ZhenError where it would not fit, and for a checkpoint that is none.
    """
    checkpoint = open_checkpoint(folder)
    if checkpoint.config is None:
        raise ZhenError("missing", expected="the model's configuration", file=checkpoint.folder / "config.json")
    scheme = names.detect(checkpoint.tensors)
    config = config_of(checkpoint.config, "llama" if scheme == names.UNKNOWN else scheme, checkpoint.folder)
    count = parameters(config)
    stored = sum(tensor.end - tensor.begin for tensor in checkpoint.tensors.values())
    on_cpu = device is None or device == "cpu"
    if dtype is None and on_cpu and count <= FAST_IN_FLOAT32:
        dtype = "float32"
    if dtype is not None and dtype not in _BYTES:
        raise ZhenError(f"dtype {dtype}", expected="one of " + ", ".join(_BYTES))
    width = _BYTES[dtype] if dtype else 2
    scaling = config.rope_scaling
    stretched = scaling.factor if scaling is not None and scaling.rope_type == "dynamic" else 1
    longest = int(config.max_position_embeddings * stretched)
    room = Room(
        weights=count * _BYTES[dtype] if dtype else stored,
        workspace=_workspace(config, batch, width) + (BASE if on_cpu else 0),
        cache_token=kv_bytes_per_token(config, width),
        available=available(device),
        batch=batch,
        context=min(max_context or longest, longest),
    )
    room.check(_smaller(config))
    return room


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


def _workspace(config: ModelConfig, batch: int, width: int) -> int:
    """Bytes of the largest layer's intermediate values for the prompts of a step, and of a step's logits in float32."""
    keys = config.num_key_value_heads * config.head_dim
    block = PROMPT_TOKENS * (6 * config.hidden_size + 2 * keys + 4 * config.intermediate_size) * width
    return block + 3 * 4 * batch * config.vocab_size


def _smaller(config: ModelConfig) -> str:
    outside = sum(
        rows * (rest[0] if rest else 1)
        for name, (rows, *rest) in shapes(config).items()
        if ".layers." not in name or not rest
    )
    inside = parameters(config) - outside
    eight, four = (size(quantised_bytes(inside, outside, bits)) for bits in (8, 4))
    return f"its weights in 8 bits ({eight}) or 4 ({four})"
