"""Models to and from checkpoint folders: `load_model` from any naming, `save_model` as LLaMA's."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from zhen.checkpoint import names, strictjson
from zhen.checkpoint.configs import config_of
from zhen.checkpoint.fused import to_llama
from zhen.checkpoint.kept import Kept, kept_packed, put_in
from zhen.checkpoint.packing import whole_views
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.safetensors import TensorInfo
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.views import View
from zhen.checkpoint.writer import Tensor as Written
from zhen.checkpoint.writer import write_sharded
from zhen.console import say
from zhen.errors import ZhenError, did_you_mean
from zhen.formats.files import Digest, write_bytes, write_json
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes
from zhen.model.transformer import Transformer
from zhen.tokenizer.chat import CHATML, TURN_END

TEMPLATE_FILE = "chat_template.jinja"

SHARD_BYTES = 5_000_000_000
"""Largest file of a saved model, the size that hubs and file systems of every kind take."""

DTYPES = {"float32": ("F32", torch.float32), "bfloat16": ("BF16", torch.bfloat16), "float16": ("F16", torch.float16)}
"""Name in config.json -> (name in safetensors, torch's)."""

_BY_STORED = {
    **dict(DTYPES.values()),
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")


def load_model(
    folder: str | Path,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    *,
    packed: bool = False,
) -> Transformer:
    """The model in a checkpoint of the LLaMA architecture, in any format and naming scheme that is known.

    `dtype` None keeps the weights as stored (matrices of several formats come in the narrowest that holds them all).
    `packed`: what is stored packed stays so where this machine can compute with it (`kept_packed`; otherwise it says
    why not): for inference, in bfloat16. No code that came with the weights runs. Raises ZhenError for another
    architecture, listing what differs, and naming the first tensor that is missing, too many or misshapen.
    """
    wanted = _torch_dtype(dtype)
    checkpoint, config, found = _opened(folder)
    kept = kept_packed(checkpoint, wanted, device, config.tie_word_embeddings) if packed else Kept({})
    if kept.why is not None:
        say(f"weights stored in few bits are computed with unpacked: {kept.why}")
    # a product needs both sides in one format; norms are computed in float32 whatever they are stored in
    kinds = [_BY_STORED[view.dtype] for view in found.values() if len(view.shape) > 1]
    matrices = wanted or functools.reduce(torch.promote_types, kinds)
    with torch.device("meta"):
        model = Transformer(config)
    state = {
        name: view_tensor(view).to(device=device, dtype=matrices if len(view.shape) > 1 else wanted)
        for name, view in found.items()
        if name not in kept.items
    }
    put_in(model, checkpoint, kept)
    model.load_state_dict(state, assign=True, strict=not kept.items)
    return model


def open_llama(folder: str | Path) -> tuple[ModelConfig, dict[str, View]]:
    """Configuration and tensors of a checkpoint, as `load_model` takes them: LLaMA's name -> view, in the order of the
    forward pass, complete and of the right shapes; nothing is read yet. Raises ZhenError as `load_model` does.
    """
    _, config, found = _opened(folder)
    return config, found


def _opened(folder: str | Path) -> tuple[Checkpoint, ModelConfig, dict[str, View]]:
    checkpoint = open_checkpoint(folder)
    file = checkpoint.folder / "config.json"
    if checkpoint.config is None:
        raise ZhenError("missing", expected="the model's configuration", file=file)
    file = file if file.exists() else Path(folder)  # GGUF and Meta's folders have it in other places
    stored = whole_views(checkpoint)
    scheme = names.detect(stored)
    # an unknown naming is read as LLaMA's, whose error then names what is in the way
    scheme = "llama" if scheme == names.UNKNOWN else scheme
    config = config_of(checkpoint.config, scheme, file)
    return checkpoint, config, _by_llama_name(checkpoint.folder, stored, scheme, config)


def end_ids(folder: str | Path) -> frozenset[int]:
    """The tokens that end a text: `eos_token_id`, one or a list, of generation_config.json, else of config.json.

    Empty where neither says. Raises ZhenError for what is no token id.
    """
    for file in (Path(folder) / "generation_config.json", Path(folder) / "config.json"):
        config = strictjson.read(file) if file.exists() else None
        value = config.get("eos_token_id") if isinstance(config, dict) else None
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            if any(type(token) is not int or token < 0 for token in ids):
                raise ZhenError(repr(value), expected="a token id or a list of them", file=file, place="eos_token_id")
            return frozenset(ids)
    return frozenset()


def save_model(
    model: Transformer,
    folder: Path,
    dtype: str,
    tokenizer: Path | None,
    context_length: int,
    turn_end: int | None = None,
) -> dict[str, Digest]:
    """Write a checkpoint for people: config, generation config, weights as `dtype`, and the tokenizer's files.

    `context_length` in tokens, which was trained, is what config and tokenizer claim. `turn_end`, the id of the token
    that ends a turn, makes it a chat model: with the chat template, and that end named. Returns file name -> size and
    SHA-256. Raises ZhenError for post-norm, which LLaMA doesn't have.
    """
    config = msgspec.structs.replace(model.config, max_position_embeddings=context_length)
    stock = to_config_json(config, dtype)
    stored, kind = DTYPES[dtype]
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    digests = {"config.json": write_json(folder / "config.json", stock)}
    ends = {key: stock[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if stock[key] is not None}
    if turn_end is not None:
        ends["eos_token_id"] = list(
            dict.fromkeys([*([stock["eos_token_id"]] if "eos_token_id" in ends else []), turn_end])
        )
    digests["generation_config.json"] = write_json(folder / "generation_config.json", ends)
    if tokenizer is not None:
        digests |= _copy_tokenizer(tokenizer, folder, context_length, chat=turn_end is not None)

    def written(name: str) -> Written:
        return name, stored, tuple(state[name].shape), lambda: tensor_bytes(state[name].to(kind))

    return digests | write_sharded(folder, [written(name) for name in shapes(config)], SHARD_BYTES)


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, row-major, little-endian; a view of its memory where that is possible."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def tensor_from(info: TensorInfo, data: memoryview) -> torch.Tensor:
    """A tensor with a copy of `data`, its dtype and shape as `info` says. Raises ZhenError for a dtype torch lacks."""
    if info.dtype not in _BY_STORED:
        expected = "one of " + ", ".join(_BY_STORED)
        raise ZhenError(f"dtype {info.dtype}", expected=expected, file=info.file, place=f"tensor {info.name!r}")
    kind = _BY_STORED[info.dtype]
    if not data.nbytes:
        return torch.empty(info.shape, dtype=kind)
    return torch.frombuffer(bytearray(data), dtype=kind).view(info.shape)


def _torch_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(dtype, str):
        return dtype
    if dtype not in DTYPES:
        raise ZhenError(f'dtype "{dtype}"', expected="one of " + ", ".join(DTYPES), hint=did_you_mean(dtype, DTYPES))
    return DTYPES[dtype][1]


def view_tensor(view: View) -> torch.Tensor:
    """A tensor of its own memory with the view's bits."""
    return torch.from_numpy(view.read().copy()).view(_BY_STORED[view.dtype])


def _by_llama_name(folder: Path, stored: Mapping[str, View], scheme: str, config: ModelConfig) -> dict[str, View]:
    """LLaMA's name -> tensor, complete and of the right shapes."""
    kept = {name: view for name, view in stored.items() if not names.SKIPPED.fullmatch(name)}
    found = to_llama(kept, scheme, config)
    expected = shapes(config)
    if config.tie_word_embeddings:
        _drop_equal_head(folder, found)
    for wrong, text in ((expected.keys() - found.keys(), "missing"), (found.keys() - expected.keys(), "too many")):
        if wrong:
            count = f"{len(wrong)} tensors {text}, the first {min(wrong)}"
            raise ZhenError(count, expected=f"the {len(expected)} of config.json", file=folder)
    for name, shape in expected.items():
        view, place = found[name], f"tensor {name!r}"
        if view.shape != shape:
            sizes = f"{list(shape)}, by config.json"
            raise ZhenError(f"shape {list(view.shape)}", expected=sizes, file=folder, place=place)
        if view.dtype not in (stored for stored, _ in DTYPES.values()):
            expected_kinds = "F32, BF16 or F16"
            raise ZhenError(f"dtype {view.dtype}", expected=expected_kinds, file=folder, place=place)
    return {name: found[name] for name in expected}


def _drop_equal_head(folder: Path, found: dict[str, View]) -> None:
    """Some writers store a tied head beside the embedding. Equal it is left out, otherwise the config is wrong."""
    head, embedding = found.pop("lm_head.weight", None), found.get("model.embed_tokens.weight")
    if head and embedding and not np.array_equal(head.read(), embedding.read()):
        raise ZhenError(
            "differs from the embedding",
            expected="the same bytes, as config.json says tie_word_embeddings",
            file=folder,
            place="tensor 'lm_head.weight'",
        )


def _copy_tokenizer(source: Path, folder: Path, context_length: int, chat: bool) -> dict[str, Digest]:
    present = [name for name in _TOKENIZER_FILES if (source / name).exists()]
    digests = {name: write_bytes(folder / name, (source / name).read_bytes()) for name in present}
    changes: dict[str, dict[str, Any]] = {"tokenizer_config.json": {"model_max_length": context_length}}
    if chat:
        digests[TEMPLATE_FILE] = write_bytes(folder / TEMPLATE_FILE, CHATML.encode("utf-8"))
        changes["tokenizer_config.json"] |= {"eos_token": TURN_END, "chat_template": CHATML}
        changes["special_tokens_map.json"] = {"eos_token": TURN_END}
    for name, more in changes.items():
        if (source / name).exists():
            text = json.dumps(strictjson.read(source / name) | more, ensure_ascii=False, indent=2) + "\n"
            digests[name] = write_bytes(folder / name, text.encode("utf-8"))
    return digests
