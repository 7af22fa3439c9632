"""The stage `pretrain`: from shards and a tokenizer to a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.record import Input
from zhen.formats.stage import Context, Figures
from zhen.model.config import ModelConfig
from zhen.model.size import shapes
from zhen.tokenizer.load import Tokenizer
from zhen.train.kernel import same_bits
from zhen.train.settings import PretrainSettings
from zhen.train.training import open_material, seed_of, train_on_shards
from zhen.train.values import Start, fresh_start, stored_start

_WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.gguf")
_CONFIGS = ("config.json", "params.json", "*.index.json")
"""Files that the checkpoint reader may read, as `Path.glob` wants them."""

_HASHED_BYTES = 10_000_000_000
"""Files of `model.init` are hashed for the key up to this many bytes in all; beyond, size and time stand for them."""


def pretrain_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The files of the checkpoint in `model.init`, where there is one. Raises ZhenError where it can't be found."""
    init = sections["model.init"]
    if init is None:
        return []
    given = Path(init)
    folder, names = (given.parent, (given.name, *_CONFIGS)) if given.is_file() else (given, (*_WEIGHTS, *_CONFIGS))
    paths = sorted(path for name in names for path in folder.glob(name))
    if not any(path.match(weights) for path in paths for weights in _WEIGHTS):
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
        material = open_material(context, settings)
        start = _start(context, settings, material.tokenizer)
        length, init = settings.sequence_length, context.sections["model.init"]
        if init is not None:  # what it was trained for stays true, as far as the recipe has it
            before = stored_start(init).config.max_position_embeddings
            length = max(length, min(before, start.config.max_position_embeddings))
        return train_on_shards(context, settings, material, start, length)


def _start(context: Context, settings: PretrainSettings, tokenizer: Tokenizer) -> Start:
    """A fresh model, or the one in `model.init`. Raises ZhenError where model, tokenizer, length don't fit."""
    init, config = context.sections["model.init"], context.sections["model"]
    if init is not None:
        start = _reshaped(stored_start(init), config)
    else:
        config = msgspec.structs.replace(
            config,
            vocab_size=config.vocab_size or tokenizer.vocab_size,
            bos_token_id=tokenizer.start_of_text,
            eos_token_id=tokenizer.end_of_text,
        )
        start = fresh_start(config, seed_of(context, settings))
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
    return start


def _reshaped(start: Start, config: ModelConfig) -> Start:
    """The same weights under the recipe's settings (rotary base, context length). Raises ZhenError for other shapes."""
    if shapes(config) != shapes(start.config):
        raise ZhenError(
            "[model] asks for other shapes than those of the checkpoint in model.init",
            place="model",
            hint="leave out the fields of [model] that change a tensor's shape",
        )
    return start._replace(config=config)
