"""The stage `pretrain`: from shards and a tokenizer to a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from zhen.checkpoint.load import load_model
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.record import Input
from zhen.formats.stage import Context, Figures
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.load import Tokenizer
from zhen.train.kernel import same_bits
from zhen.train.settings import PretrainSettings
from zhen.train.training import open_material, seed_of, train_on_shards

_HASHED_BYTES = 10_000_000_000
"""Files of `model.init` are hashed for the key up to this many bytes in all; beyond, size and time stand for them."""


def pretrain_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The files of the checkpoint in `model.init`, where there is one. Raises ZhenError where it can't be found."""
    init = sections["model.init"]
    if init is None:
        return []
    folder = Path(init)
    paths = sorted(p for p in folder.glob("*") if p.name == "config.json" or ".safetensors" in p.name)
    if not paths:
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
        model = _model(context, settings, material.tokenizer)
        length = settings.sequence_length
        if context.sections["model.init"] is not None:  # what init was trained for stays true
            length = max(length, model.config.max_position_embeddings)
        return train_on_shards(context, settings, material, model, length)


def _model(context: Context, settings: PretrainSettings, tokenizer: Tokenizer) -> Transformer:
    """A fresh model, or the one in `model.init`; float32. Raises ZhenError where model, tokenizer, length don't fit."""
    init = context.sections["model.init"]
    if init is not None:
        model, config = load_model(init, torch.float32), context.sections["model"]
        if model.config != config:
            model = _reshaped(model, config)
    else:
        given: ModelConfig = context.sections["model"]
        config = msgspec.structs.replace(
            given,
            vocab_size=given.vocab_size or tokenizer.vocab_size,
            bos_token_id=tokenizer.start_of_text,
            eos_token_id=tokenizer.end_of_text,
        )
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
    if init is None:
        model = Transformer(config)
        initialise(model, seed_of(context, settings))
    return model


def _reshaped(model: Transformer, config: ModelConfig) -> Transformer:
    """The same weights under the recipe's settings (rotary base, context length). Raises ZhenError for other shapes."""
    other = Transformer(config)
    if {name: t.shape for name, t in other.state_dict().items()} != {n: t.shape for n, t in model.state_dict().items()}:
        raise ZhenError(
            "[model] asks for other shapes than those of the checkpoint in model.init",
            place="model",
            hint="leave out the fields of [model] that change a tensor's shape",
        )
    other.load_state_dict(model.state_dict())
    return other
