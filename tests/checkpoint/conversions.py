"""What the tests of `zhen convert` share: the verb without its command line, models of random bits, logits."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from zhen.checkpoint.convert import Converted, Wanted, convert_checkpoint
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_sharded
from zhen.model.config import ModelConfig, from_config_json, to_config_json
from zhen.model.size import shapes

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
CONFIG = ModelConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    rope_theta=5e6,
    pad_token_id=None,
)
TEXT = torch.randint(96, (2, 24), generator=torch.Generator().manual_seed(0))


def convert(source: Path, out: Path, target: str, **wanted: Any) -> Converted:
    return convert_checkpoint(source, out, Wanted(target, **wanted), lambda done, total: None)


def bits_of(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Finite numbers of every size, subnormal ones and both zeros among them."""
    width = 4 if dtype == "F32" else 2
    bits = random.integers(0, 1 << 8 * width, prod(shape), dtype=f"u{width}")
    exponent = {"F32": 0x7F80_0000, "BF16": 0x7F80, "F16": 0x7C00}[dtype]
    return np.where(bits & exponent == exponent, bits ^ exponent, bits).astype(f"<u{width}").tobytes()


def write_model(folder: Path, config: ModelConfig, dtype: str, shard_bytes: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    tensors = [(name, dtype, shape, bits_of(random, dtype, shape)) for name, shape in shapes(config).items()]
    folder.mkdir(parents=True)
    write_sharded(folder, tensors, shard_bytes)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, DTYPES[dtype])))
    return folder


def save_theirs(folder: Path, config: ModelConfig, **more: Any) -> Path:
    """A LLaMA that transformers made and saved; `more` goes into its config.json."""
    torch.manual_seed(0)
    LlamaForCausalLM(AutoConfig.for_model(**to_config_json(config, "float32") | more)).save_pretrained(folder)
    return folder


def content(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    checkpoint = open_checkpoint(path)
    return {
        name: (tensor.dtype, tensor.shape, bytes(checkpoint.read(name))) for name, tensor in checkpoint.tensors.items()
    }


def config_in(folder: Path) -> ModelConfig:
    return from_config_json(json.loads((folder / "config.json").read_text()))


def logits(folder: Path, text: torch.Tensor = TEXT, **more: Any) -> torch.Tensor:
    """What transformers says of a text, never by code that came with the checkpoint."""
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32, **more)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(text).logits
    return found
