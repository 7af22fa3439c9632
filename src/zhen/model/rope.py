"""Rotary positions (arXiv 2104.09864): frequencies with their scalings, cosine and sine, and the rotation itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zhen.model.config import ModelConfig, RopeScaling

Angles = tuple[Tensor, Tensor]
"""Cosine and sine of positions, each [count, 1, head_dim / 2] float32; or of `both_halves`."""


def inverse_frequencies(config: ModelConfig, length: int, device: torch.device) -> Tensor:
    """Radians a position for each rotary pair, [head_dim / 2] float32.

    `length` is the number of positions in use; only dynamic scaling depends on it. All is computed in float32 and in
    the order of the Hugging Face implementation, so that the values are equal to the last bit.
    """
    scaling, base = config.rope_scaling, config.rope_theta
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    if scaling is None:
        return 1.0 / base**exponents
    if scaling.rope_type == "linear":
        return 1.0 / base**exponents / scaling.factor
    if scaling.rope_type == "dynamic":
        return 1.0 / _dynamic_base(config, scaling.factor, length) ** exponents
    if scaling.rope_type == "yarn":
        return _yarn(config, scaling, base**exponents)
    return _llama3(scaling, 1.0 / base**exponents)


def attention_factor(scaling: RopeScaling | None) -> float:
    """What cosine and sine are multiplied by: 1, or yarn's temperature (arXiv 2309.00071, section 3.4)."""
    if scaling is None or scaling.rope_type != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _temperature(scaling.factor, scaling.mscale) / _temperature(scaling.factor, scaling.mscale_all_dim)
    return _temperature(scaling.factor, 1.0)


class Rotary:
    """Cosine and sine of a model's positions. Holds no tensors of its own between devices and dtypes.

    Dynamic scaling goes by the number of positions in use at that moment and nothing else. A cache keeps the keys as
    they were rotated when they came, so beyond the trained length a cached and a full pass differ, as they do in
    transformers; each equals its counterpart there.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._dynamic = config.rope_scaling is not None and config.rope_scaling.rope_type == "dynamic"
        self._factor = attention_factor(config.rope_scaling)
        self._last: tuple[tuple[object, ...], Angles] | None = None

    def tables(self, start: int, count: int, device: torch.device) -> Angles:
        """(cosine, sine) of the positions start … start + count - 1, each [count, 1, head_dim / 2] float32."""
        # a tensor made in inference mode can't be used in training, so the mode is part of the key
        key = (start, count, device, torch.is_inference_mode_enabled())
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        frequencies = inverse_frequencies(self._config, start + count, device)
        positions = torch.arange(start, start + count, dtype=torch.float32, device=device)
        angles = positions[:, None, None] * frequencies
        tables = angles.cos() * self._factor, angles.sin() * self._factor
        self._last = (key, tables)
        return tables


def both_halves(angles: Angles) -> Angles:
    """The same for whole heads, each [count, 1, head_dim]: what `rotate` needs fewer steps with."""
    cosine, sine = angles
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (j, j + head_dim / 2) of x [batch, seq, heads, head_dim] by its angle; the result is float32.

    Both forms of angles give the same bits; only the one of single halves is for training.
    """
    first, second = x.chunk(2, dim=-1)
    if cosine.shape[-1] == x.shape[-1]:
        return torch.cat((second, first), -1).float().mul_(sine).add_(x * cosine)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _dynamic_base(config: ModelConfig, factor: float, length: int) -> Tensor | float:
    """NTK-aware base for a text of `length` tokens; the trained base up to the trained length."""
    trained, dim = config.max_position_embeddings, config.head_dim
    if length <= trained or dim == 2:  # one pair only: its exponent is 0 whatever the base
        return config.rope_theta
    stretch = factor * torch.tensor(float(length)) / trained - (factor - 1)
    return float(config.rope_theta * stretch ** (dim / (dim - 2)))


def _yarn(config: ModelConfig, scaling: RopeScaling, wavelengths: Tensor) -> Tensor:
    """NTK-by-parts (arXiv 2309.00071, section 3.2): high frequencies stay, low ones are divided by the factor."""
    dim = config.head_dim
    trained = scaling.original_max_position_embeddings or config.max_position_embeddings

    def dimension(rotations: float) -> float:
        return dim * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast or 32), dimension(scaling.beta_slow or 1)
    if scaling.truncate is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001  # as in the reference: no division by zero
    pairs = torch.arange(dim // 2, dtype=torch.float32, device=wavelengths.device)
    stays = 1 - ((pairs - low) / (high - low)).clamp(0, 1)
    return 1.0 / (scaling.factor * wavelengths) * (1 - stays) + 1.0 / wavelengths * stays


def _llama3(scaling: RopeScaling, frequencies: Tensor) -> Tensor:
    """Llama 3.1's rule: long waves are divided by the factor, short ones stay, those between are blended."""
    low, high = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 4.0
    trained = scaling.original_max_position_embeddings or 0
    waves = 2 * math.pi / frequencies
    scaled = torch.where(waves > trained / low, frequencies / scaling.factor, frequencies)
    blend = (trained / waves - low) / (high - low)
    blended = (1 - blend) * scaled / scaling.factor + blend * scaled
    between = (waves >= trained / high) & (waves <= trained / low)
    return torch.where(between, blended, scaled)


def _temperature(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0
