"""Meta's folders: params.json and consolidated.NN.pth, the parts of tensors merged on reading and cut on writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhen.checkpoint import configs, strictjson, torchfile
from zhen.checkpoint.names import numbered
from zhen.checkpoint.safetensors import BITS, TensorInfo, read_header
from zhen.checkpoint.stored import Checkpoint, read_config
from zhen.checkpoint.torchwrite import write_torch
from zhen.checkpoint.views import RAW, View, part
from zhen.errors import ZhenError
from zhen.formats.files import write_json
from zhen.model.config import ModelConfig, RopeScaling

PARAMS = "params.json"

_COLUMN, _ROW = 0, 1
_AXES = {
    "layers.N.attention.wq.weight": _COLUMN,
    "layers.N.attention.wk.weight": _COLUMN,
    "layers.N.attention.wv.weight": _COLUMN,
    "layers.N.attention.wo.weight": _ROW,
    "layers.N.feed_forward.w1.weight": _COLUMN,
    "layers.N.feed_forward.w2.weight": _ROW,
    "layers.N.feed_forward.w3.weight": _COLUMN,
    "output.weight": _COLUMN,
}
"""The axis along which a tensor is cut into model-parallel parts (fairscale's ColumnParallelLinear: outputs, and
RowParallelLinear: inputs, in meta-llama/llama, llama/model.py). Norms and rope.freqs are the same in every part; the
embedding is cut along its width by Llama 1 and 2, along its vocabulary by Llama 3."""

EMBEDDING = "tok_embeddings.weight"
_LLAMA_3 = 128_256
"""Tokens of Llama 3's vocabulary, whose first and last token of a text stand in its code, not in params.json."""


class _Merged(Checkpoint):
    """The parts as one checkpoint."""

    shards: Sequence[Checkpoint] = ()

    def release(self) -> None:
        """Let go of the memory of what was read in every part."""
        for shard in self.shards:
            shard.release()


def open_consolidated(folder: str | Path) -> Checkpoint:
    """The checkpoint in a folder of Meta's form (`consolidated.NN.pth`, or `consolidated.safetensors`).

    `config` is config.json where there is one, else params.json, with the vocabulary that the weights have. Raises
    ZhenError where the parts don't fit together or the two disagree.
    """
    folder = Path(folder)
    shards = _shards(folder)
    for shard in shards[1:]:
        if wrong := sorted(shard.tensors.keys() ^ shards[0].tensors.keys()):
            raise ZhenError("not in every part", file=shard.files[0], place=f"tensor {wrong[0]!r}")
    config = _config(folder)
    width = configs.plain(config).get("hidden_size")
    computed: dict[str, Callable[[], memoryview]] = {}
    infos = [_merged(name, shards, width, computed) for name in shards[0].tensors]
    rows = next((info.shape[0] for info in infos if info.name == EMBEDDING), None)
    if rows and config.get("vocab_size", -1) == -1:
        config |= {"vocab_size": rows}
    if rows == _LLAMA_3 and "model_type" not in config:
        config = {"bos_token_id": 128_000, "eos_token_id": 128_001, **config}
    notes = [note for shard in shards for note in shard.notes]
    merged = _Merged(folder, infos, config, kind="consolidated", notes=notes, computed=computed)
    merged.shards = shards
    return merged


def _shards(folder: Path) -> list[Checkpoint]:
    files = sorted(folder.glob("consolidated*.pth"))
    if not files:
        file = folder / "consolidated.safetensors"
        return [Checkpoint(folder, read_header(file).tensors.values(), None)]
    expected = [f"consolidated.{number:02d}.pth" for number in range(len(files))]
    if [file.name for file in files] not in (expected, ["consolidated.pth"]):
        found = ", ".join(file.name for file in files)
        raise ZhenError(found, expected=", ".join(expected), file=folder, hint="a part is missing, or has another name")
    return [torchfile.open_torch(file) for file in files]


def _config(folder: Path) -> dict[str, Any]:
    """config.json, or params.json where there is none. Raises ZhenError where there are both and they disagree."""
    file = folder / PARAMS
    params = strictjson.read(file) if file.exists() else {}
    if not isinstance(params, dict):
        raise ZhenError(type(params).__name__, expected="a table", file=file)
    config = read_config(folder)
    if config is None:
        return params
    one, other = configs.plain(params), configs.plain(config)
    for key in _SAID_TWICE:
        if None not in (one.get(key), other.get(key)) and one[key] != other[key]:
            raise ZhenError(f"{key} {one[key]}", expected=f"{other[key]}, as in config.json", file=file)
    return config


_SAID_TWICE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps")


def _merged(
    name: str, shards: Sequence[Checkpoint], width: Any, computed: dict[str, Callable[[], memoryview]]
) -> TensorInfo:
    """The whole tensor; how it is read is put into `computed` where it doesn't lie in one piece."""
    parts = [shard.tensors[name] for shard in shards]
    first = parts[0]
    for other in parts[1:]:
        if (other.dtype, other.shape) != (first.dtype, first.shape):
            found = f"{other.dtype} {list(other.shape)}"
            expected = f"{first.dtype} {list(first.shape)}, as in {first.file.name}"
            raise ZhenError(found, expected=expected, file=other.file, place=f"tensor {name!r}")
    axis = _axis(name, first, len(parts), width)
    if len(parts) == 1 or axis is None:
        computed[name] = lambda: _same(name, shards)
        return first
    shape = (*first.shape[:axis], first.shape[axis] * len(parts), *first.shape[axis + 1 :])

    def read() -> memoryview:
        raw = RAW[BITS[first.dtype]]
        pieces = [np.frombuffer(shard.read(name), dtype=raw).reshape(first.shape) for shard in shards]
        whole = np.concatenate(pieces, axis=axis)
        for shard in shards:
            shard.release()
        return whole.reshape(-1).view(np.uint8).data

    computed[name] = read
    size = sum(piece.end - piece.begin for piece in parts)
    return TensorInfo(name, first.dtype, shape, first.file, first.begin, first.begin + size)


def _same(name: str, shards: Sequence[Checkpoint]) -> memoryview:
    """The bytes of a tensor that every part holds whole. Raises ZhenError where they differ."""
    data = shards[0].read(name)
    for shard in shards[1:]:
        if shard.read(name) != data:
            where = shard.tensors[name]
            expected = f"the bytes in {shards[0].tensors[name].file.name}"
            raise ZhenError("differs", expected=expected, file=where.file, place=f"tensor {name!r}")
    return data


def _axis(name: str, tensor: TensorInfo, count: int, width: Any) -> int | None:
    """The axis along which a tensor is cut into `count` parts, None where every part holds it whole."""
    if name != EMBEDDING:
        return _AXES.get(numbered(name)[0]) if len(tensor.shape) > 1 else None
    if len(tensor.shape) != 2 or width not in (tensor.shape[1], tensor.shape[1] * count):
        found = f"shape {list(tensor.shape)} in {count} parts"
        expected = f"rows of {PARAMS}'s dim, {width}, or of a part of it"
        raise ZhenError(found, expected=expected, file=tensor.file, place=f"tensor {name!r}")
    return 0 if tensor.shape[1] == width else 1


def params_of(config: ModelConfig) -> dict[str, Any]:
    """params.json of `config`, whose keys are those that Meta's code takes and no others.

    Raises ZhenError for what that code can't say: a head's width of its own, rotary scaling but Llama 3.1's.
    """
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        expected = f"hidden_size / num_attention_heads ({config.hidden_size} / {config.num_attention_heads})"
        raise ZhenError(f"{config.head_dim}", expected=expected, place="head_dim", hint=f"{PARAMS} has no key for it")
    found: dict[str, Any] = {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        **({"n_kv_heads": config.num_key_value_heads} if _newer(config) or _grouped(config) else {}),
        **_feed_forward(config.hidden_size, config.intermediate_size),
        "norm_eps": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
    }
    if config.rope_theta != 10_000:
        found["rope_theta"] = config.rope_theta
    scaling = config.rope_scaling
    if scaling is not None:
        known = RopeScaling(
            rope_type="llama3",
            factor=scaling.factor,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        )
        if scaling != known:
            found_scaling = f"{scaling.rope_type} scaling"
            expected = "none, or Llama 3.1's with its 1, 4 and 8192"
            raise ZhenError(found_scaling, expected=expected, place="rope_scaling", hint=f"{PARAMS} has no key for it")
        found["use_scaled_rope"] = True
        if scaling.factor != 8:
            found["rope_scaling_factor"] = scaling.factor
    return found


def _grouped(config: ModelConfig) -> bool:
    return config.num_key_value_heads != config.num_attention_heads


def _newer(config: ModelConfig) -> bool:
    """Whether only Llama 3's code can load the model: that of 1 and 2 has no key for the rotary base."""
    return config.rope_theta != 10_000 or config.rope_scaling is not None


def _feed_forward(width: int, wanted: int) -> dict[str, Any]:
    """`multiple_of` and `ffn_dim_multiplier` by which Meta's code computes the feed-forward width `wanted`."""
    base = int(8 * width / 3)
    for multiple in (256, 1024, 4096, 512, 128, 64, 32):
        for factor in (None, 1.3, 1.5, 1.4, 1.2):
            if multiple * -(-int(base if factor is None else factor * base) // multiple) == wanted:
                return {"multiple_of": multiple} | ({"ffn_dim_multiplier": factor} if factor else {})
    if wanted >= base:
        return {"multiple_of": wanted}  # the next multiple of it from `base` on is itself
    # half a number more, so that cutting off the fraction gives `wanted` whatever the rounding
    return {"multiple_of": 1, "ffn_dim_multiplier": (wanted + 0.5) / base}


def parts(views: Sequence[View], config: ModelConfig, count: int) -> list[list[View]]:
    """`views` (under Meta's names) cut into `count` model-parallel parts.

    Raises ZhenError for sizes that `count` doesn't divide.
    """
    for key in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        if getattr(config, key) % count:
            expected = f"a multiple of the {count} model-parallel parts"
            raise ZhenError(f"{getattr(config, key)}", expected=expected, place=key)
    axes = _AXES | {EMBEDDING: 0 if _newer(config) else 1}
    return [[_cut(view, axes.get(numbered(view.name)[0]), number, count) for view in views] for number in range(count)]


def _cut(view: View, axis: int | None, number: int, count: int) -> View:
    return view if axis is None or count == 1 else part(view, view.name, axis, number, count)


def write_parts(folder: Path, cut: Sequence[Sequence[View]], config: ModelConfig, done: Callable[[int], None]) -> None:
    """Write params.json and consolidated.00.pth, …, one for each part.

    `done` is called with the bytes of each tensor that was written. Raises ZhenError for what params.json can't say.
    """
    write_json(folder / PARAMS, params_of(config))
    for number, views in enumerate(cut):
        write_torch(folder / f"consolidated.{number:02d}.pth", views, done)
