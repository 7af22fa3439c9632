"""What becomes of a model's configuration when it is extended: more positions, other rotary settings, more layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from zhen.model.config import ModelConfig, RopeScaling
from zhen.train.settings import ExtendSettings

Problem = tuple[str, str, str, str | None]
"""Field of `[extend]`, found, expected, hint."""


def extended_config(config: ModelConfig, settings: ExtendSettings) -> ModelConfig:
    """The configuration with the settings' positions and rotary embedding; the layers are as before."""
    changes: dict[str, object] = {"max_position_embeddings": settings.sequence_length}
    if settings.rope_theta is not None:
        changes["rope_theta"] = settings.rope_theta
    if settings.rope_scaling is not None:
        changes["rope_scaling"] = _filled(settings.rope_scaling, config)
    return msgspec.structs.replace(config, **changes)


def _filled(scaling: RopeScaling, config: ModelConfig) -> RopeScaling:
    """The scaling with the length that was trained before it, where its kind needs that."""
    if scaling.rope_type == "linear" or scaling.original_max_position_embeddings is not None:
        return scaling
    return msgspec.structs.replace(scaling, original_max_position_embeddings=_trained(config))


def _trained(config: ModelConfig) -> int:
    """The length that was trained without scaling."""
    before = config.rope_scaling
    return (before and before.original_max_position_embeddings) or config.max_position_embeddings


def repeated(count: int, again: Sequence[int]) -> list[int]:
    """Of which layer each layer of the deeper model is a copy: neighbours among `again` come as a block behind itself.

    32 layers with 12 … 27 again are 0 … 27, 12 … 31.
    """
    order: list[int] = []
    block: list[int] = []
    for layer in range(count):
        order.append(layer)
        if layer in again:
            block.append(layer)
        if block and layer + 1 not in again:
            order += block
            block = []
    return order


def extend_problems(config: ModelConfig, settings: ExtendSettings) -> Iterator[Problem]:
    """What can't be with the model of `config`."""
    before, length = config.max_position_embeddings, settings.sequence_length
    changed = [name for name in ("rope_theta", "rope_scaling") if getattr(settings, name) is not None]
    if length < before or (length == before and settings.repeat_layers is None):
        yield "sequence_length", f"{length:,}", f"more than the {before:,} that the model was trained for", None
    if settings.context_length is not None and settings.context_length < before:
        yield "context_length", f"{settings.context_length:,}", f"at least the {before:,} of the model before", None
    if length == before and changed:
        yield changed[0], f"given with sequence_length {length:,}", "longer sequences than before", None
    if settings.rope_theta is not None and settings.rope_theta <= config.rope_theta:
        yield "rope_theta", f"{settings.rope_theta:g}", f"more than the model's {config.rope_theta:g}", None
    if settings.rope_theta is not None and config.rope_scaling is not None:
        found = f"{settings.rope_theta:g} for a model with rope_scaling {config.rope_scaling.rope_type}"
        yield "rope_theta", found, "another rope_scaling", None
    if settings.rope_scaling is not None:
        yield from _scaling_problems(config, settings, settings.rope_scaling)
    yield from _layer_problems(config, settings)
    if config.norm_place == "post":
        yield "sequence_length", "for a model with norm_place post", "norm_place pre: only that is handed on", None


def _scaling_problems(config: ModelConfig, settings: ExtendSettings, scaling: RopeScaling) -> Iterator[Problem]:
    trained = _trained(config)
    if scaling.rope_type == "dynamic":
        # config.json's max_position_embeddings is then the length before, so that it can't name the one trained
        width = config.head_dim
        base = config.rope_theta * scaling.factor ** (width / (width - 2)) if width > 2 else config.rope_theta
        yield (
            "rope_scaling.rope_type",
            '"dynamic", which stretches beyond the trained length only',
            "linear, yarn or llama3, or rope_theta",
            f"what it comes to at {scaling.factor:g} times the length (NTK): rope_theta = {base:.0f}",
        )
        return
    if scaling.factor * trained < settings.sequence_length:
        found = f"{scaling.factor:g}, which makes {trained:,} positions {scaling.factor * trained:,.0f}"
        least = f"at least {settings.sequence_length / trained:g} for {settings.sequence_length:,}"
        yield "rope_scaling.factor", found, least, None
    for field, found, expected in _filled(scaling, config).problems(settings.sequence_length):
        yield field, found, expected, None


def _layer_problems(config: ModelConfig, settings: ExtendSettings) -> Iterator[Problem]:
    layers, count = settings.repeat_layers, config.num_hidden_layers
    if isinstance(layers, int) and layers > count:
        yield "repeat_layers", f"{layers}", f"at most the model's {count}", None
    if isinstance(layers, tuple) and any(layer >= count for layer in layers):
        yield "repeat_layers", f"layer {max(layers)}", f"0 to {count - 1}", None
