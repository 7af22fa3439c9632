"""The recipe section `[quantize]`: in how many bits the weights of the finished model are stored, and found how."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]


class QuantizeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is quantised. Defaults: what GPTQ's authors use (arXiv 2210.17323, section 4)."""

    bits: Literal[8, 4] = 4
    """Bits of a weight in the layers."""

    group: Annotated[int, msgspec.Meta(ge=8)] = 128
    """Neighbouring weights of a row that share a scale of 16 bits. A matrix whose width it doesn't divide gets the
    largest multiple of 32 below that does, or else the largest group of all."""

    head_bits: Literal[16, 8] = 16
    """Bits of the head; in 8 it is rounded to the nearest, by the same group."""

    embedding_bits: Literal[16, 8] = 16
    """Bits of the embedding, likewise. In 8 bits Zhen reads it, transformers 5 doesn't."""

    method: Literal["gptq", "rtn"] = "gptq"
    """`gptq`: each weight makes good the error of those before it, for the activations of real text. `rtn`: each is
    rounded to the nearest by itself; text is then only used to measure the error."""

    tokens: Count = 262_144
    """Of calibration text, half of it Chinese where there is enough of both (the paper: 128 sequences of 2,048)."""

    sequence_length: Count | None = None
    """Tokens of a sequence of it. None: the model's context length, at most 2,048."""

    damping: Annotated[float, msgspec.Meta(gt=0.0)] = 0.01
    """Share of the mean diagonal that is added to the diagonal of GPTQ's Hessian."""
