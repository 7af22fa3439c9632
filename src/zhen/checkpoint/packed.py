"""Weights packed in 8 or 4 bits by group, as compressed-tensors' `pack-quantized` stores them: found by their headers.

A matrix `X` [rows, columns] is stored as `X_packed` (int32 words [rows, columns · bits / 32], the first column in the
lowest bits, each number as code + 2^(bits-1)), `X_scale` [rows, columns / group] and `X_shape` (int64 [2]). The weight
is code · scale. Needs no numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from zhen.checkpoint.safetensors import TensorInfo
from zhen.checkpoint.stored import Checkpoint
from zhen.errors import ZhenError

METHOD, FORMAT = "compressed-tensors", "pack-quantized"
PACKED, SCALE, SHAPE, ZERO = "_packed", "_scale", "_shape", "_zero_point"

WIDTHS = (8, 4)
_SCALES = ("BF16", "F16", "F32")


class Packed(NamedTuple):
    """A packed matrix: what it stands for and how it is stored."""

    name: str
    """Of the matrix: "model.layers.0.mlp.up_proj.weight"."""
    shape: tuple[int, int]
    bits: int
    group: int
    """Columns that share a scale."""
    dtype: str
    """Of the scales, and of the weights they give."""

    @property
    def kind(self) -> str:
        """How `zhen inspect` names it: "int4/128", bits and group."""
        return f"int{self.bits}/{self.group}"


def quantisation(config: Mapping[str, Any] | None) -> str | None:
    """How config.json says that the weights are quantised, `METHOD FORMAT` where it is the form that is read here."""
    said = (config or {}).get("quantization_config")
    if said is None:
        return None
    parts = (said.get("quant_method"), said.get("format")) if isinstance(said, dict) else (said,)
    return " ".join(str(part) for part in parts if part is not None) or "unknown"


READ = f"{METHOD} {FORMAT}"


def packed(checkpoint: Checkpoint) -> dict[str, Packed]:
    """The packed matrices of a checkpoint by name; empty where its config doesn't name this form.

    Raises ZhenError for parts that are missing or don't fit each other.
    """
    if quantisation(checkpoint.config) != READ:
        return {}
    return {item.name: item for name in checkpoint.tensors if (item := _packed(checkpoint, name)) is not None}


def whole_tensors(checkpoint: Checkpoint) -> dict[str, TensorInfo]:
    """Every tensor by name, each packed matrix as the one it stands for (its place in the file is that of its words).

    Raises ZhenError as `packed` does.
    """
    found = packed(checkpoint)
    whole = {}
    for name in folded(checkpoint.tensors, found):
        if name in found:
            words = checkpoint.tensors[name + PACKED]
            whole[name] = words._replace(name=name, dtype=found[name].dtype, shape=found[name].shape)
        else:
            whole[name] = checkpoint.tensors[name]
    return whole


def folded(names: Iterable[str], found: Mapping[str, Packed]) -> list[str]:
    """The names of all tensors, each packed matrix once, in order."""
    parts = {name + end: None if end != PACKED else name for name in found for end in (PACKED, SCALE, SHAPE)}
    return [whole for name in names if (whole := parts.get(name, name)) is not None]


def config_of(items: Mapping[str, Packed], left: Iterable[str]) -> dict[str, Any]:
    """The `quantization_config` of config.json: `items` packed, the matrices `left` as they are.

    The commonest (bits, group) is that of every linear layer but those that are named by other groups or left out.
    It comes last: loaders take the first group that fits.
    """
    kinds: dict[tuple[int, int], list[str]] = {}
    for item in items.values():
        targets = kinds.setdefault((item.bits, item.group), [])
        if (target := _target(item.name)) not in targets:
            targets.append(target)
    most = max(kinds, key=lambda kind: sum((item.bits, item.group) == kind for item in items.values()))
    groups = {}
    for number, kind in enumerate(sorted(kinds, key=lambda kind: kind == most)):
        named = [target for target in kinds[kind] if kind != most or "embed_tokens" in target]
        groups[f"group_{number}"] = {
            "targets": (["Linear"] if kind == most else []) + named,
            "weights": {
                "num_bits": kind[0],
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": kind[1],
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
            "format": FORMAT,
        }
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": sorted(name.removesuffix(".weight") for name in left),
        "kv_cache_scheme": None,
    }


def _target(name: str) -> str:
    """The expression by which loaders find the modules of a kind."""
    return f"re:.*{name.removesuffix('.weight').rpartition('.')[2]}$"


def _packed(checkpoint: Checkpoint, stored: str) -> Packed | None:
    name = stored.removesuffix(PACKED)
    if name == stored:
        return None
    place = f"tensor {name!r}"
    tensors = checkpoint.tensors
    words = tensors[stored]
    if name + ZERO in tensors:
        raise ZhenError("zero points", expected="symmetric codes", file=words.file, place=place)
    for end in (SCALE, SHAPE):
        if name + end not in tensors:
            raise ZhenError(f"no {name + end}", expected="scale and shape", file=words.file, place=place)
    scale, shape = tensors[name + SCALE], tensors[name + SHAPE]
    if words.dtype != "I32" or len(words.shape) != 2 or shape.dtype != "I64" or shape.shape != (2,):
        found = f"{words.dtype} {list(words.shape)}, its shape {shape.dtype} {list(shape.shape)}"
        raise ZhenError(found, expected="I32 of two dimensions, its shape I64 [2]", file=words.file, place=place)
    data = bytes(checkpoint.read(name + SHAPE))
    rows, columns = (int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8))
    bits = next((width for width in WIDTHS if columns > 0 and words.shape == (rows, -(-columns * width // 32))), None)
    if bits is None:
        found, expected = f"{list(words.shape)} words", f"[{rows}, {columns}] in 4 or 8 bits"
        raise ZhenError(found, expected=expected, file=words.file, place=place)
    groups = scale.shape[1] if len(scale.shape) == 2 and scale.shape[0] == rows else 0
    if scale.dtype not in _SCALES or groups < 1 or columns % groups:
        found, expected = f"scales {scale.dtype} {list(scale.shape)}", f"{rows} rows, of groups that make {columns}"
        raise ZhenError(found, expected=expected, file=scale.file, place=place)
    return Packed(name, (rows, columns), bits, columns // groups, scale.dtype)
