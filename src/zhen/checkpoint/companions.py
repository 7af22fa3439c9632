"""The files beside the weights after a rename: config, tokenizer's config, index; what stays behind, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zhen.checkpoint import strictjson
from zhen.checkpoint.configs import config_of, plain
from zhen.checkpoint.reader import INDEX
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"

MADE_FOR = {"llama": ("LlamaForCausalLM", "llama"), "yi": ("YiForCausalLM", "Yi")}
"""Naming scheme -> `architectures` and `model_type` of the config.json whose code reads tensors of those names."""

_YI_UNSAID = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5_000_000.0,
    "vocab_size": 64000,
}
"""What the code of Yi's first release (configuration_yi.py) takes a missing key for, where LLaMA's takes it for
something else or may one day."""

_TOKENIZERS = {"YiTokenizer": "LlamaTokenizer"}
"""Tokenizer classes that came as remote code -> the class of transformers' own that reads the same files."""

OTHER_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json")
"""Endings of files that hold tensors, or list them, under names of their own."""

HASHES = "SHA256SUMS"
"""A release's list of hashes, which a rename makes untrue."""


class Companions(NamedTuple):
    """What becomes of the files beside the weights."""

    changed: dict[str, bytes]
    """File -> its new content, where that differs."""
    removed: dict[str, str]
    """File that doesn't belong to the renamed checkpoint -> why."""
    notes: list[str]


def companions(folder: Path, target: str, renamed: Mapping[str, str]) -> Companions:
    """What becomes of config, tokenizer's config and index in `folder`, and of the code that these name.

    Raises ZhenError where config.json says something that LLaMA's code doesn't do, for then the names would lie.
    """
    changed: dict[str, bytes] = {}
    notes: list[str] = []
    code: set[str] = set()
    kept_code: set[str] = set()
    if config := _table(folder / CONFIG):
        code |= set(_code_files(config))
        _note_change(changed, CONFIG, config, _config(config, target, folder / CONFIG))
    else:
        notes.append("no config.json: whether anything but names differs from LLaMA is not known")
    if tokenizer := _table(folder / TOKENIZER_CONFIG):
        own = set(_code_files(tokenizer))
        if target == "llama" and (made := tokenizer_config(tokenizer)) != tokenizer:
            code |= own
            _note_change(changed, TOKENIZER_CONFIG, tokenizer, made)
        elif own:
            kept_code |= own
            notes.append(f"{TOKENIZER_CONFIG} names code, which is left as it is: {', '.join(sorted(own))}")
    if index := _table(folder / INDEX):
        weight_map = {renamed[name]: shard for name, shard in index["weight_map"].items()}
        _note_change(changed, INDEX, index, {**index, "weight_map": weight_map})
    there = sorted(name for name in code - kept_code if (folder / name).is_file())
    removed = dict.fromkeys(there, "code of the naming that was left, which auto_map named")
    if (folder / HASHES).is_file():
        removed[HASHES] = "lists hashes of files that change"
    return Companions(changed, removed, notes)


def _table(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    value = strictjson.read(file)
    if not isinstance(value, dict):
        raise ZhenError(type(value).__name__, expected="a table", file=file)
    return value


def _note_change(changed: dict[str, bytes], file: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    if before != after:
        changed[file] = (json.dumps(after, ensure_ascii=False, indent=2) + "\n").encode()


def _config(config: Mapping[str, Any], target: str, file: Path) -> dict[str, Any]:
    architecture, model_type = MADE_FOR[target]
    said = config
    if config.get("model_type") == "Yi" and model_type != "Yi":
        said = {**config, **{key: value for key, value in _yi_unsaid(config).items() if key not in config}}
    read = config_of(said, target, file)
    made = {key: value for key, value in plain(said).items() if key != "auto_map"}
    if model_type == "Yi":
        _refuse_for_yi(read, file)
        # what LLaMA's code takes a missing key for
        made |= {key: getattr(read, key) for key in _YI_UNSAID if key != "hidden_act" and key not in made}
    return made | {"architectures": [architecture], "model_type": model_type}


def _yi_unsaid(config: Mapping[str, Any]) -> dict[str, Any]:
    """What Yi's code takes a missing key for; a rotary base that stands where it wouldn't look is not missing."""
    rotary = config.get("rope_parameters")
    elsewhere = isinstance(rotary, dict) and rotary.get("rope_theta") is not None
    return {key: value for key, value in _YI_UNSAID.items() if key != "rope_theta" or not elsewhere}


def _refuse_for_yi(config: ModelConfig, file: Path) -> None:
    """Raises ZhenError for what LLaMA's code does and that of Yi's first release doesn't."""
    if config.rope_scaling is not None:
        raise ZhenError(
            "scaled rotary positions", expected="none, for Yi's first code", file=file, place="rope_scaling"
        )
    if (width := config.hidden_size // config.num_attention_heads) != config.head_dim:
        raise ZhenError(f"{config.head_dim}", expected=f"{width}, for Yi's first code", file=file, place="head_dim")


def tokenizer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json with transformers' own class in the place of one that came as code."""
    own = config.get("tokenizer_class")
    if own not in _TOKENIZERS:
        return dict(config)
    made = {key: value for key, value in config.items() if key != "auto_map"}
    return {**made, "tokenizer_class": _TOKENIZERS[own]}


def _code_files(config: Mapping[str, Any]) -> Iterator[str]:
    """The Python files in the folder itself that auto_map names: `module.Class`, not `repository--module.Class`."""
    mapped = config.get("auto_map")
    for value in mapped.values() if isinstance(mapped, dict) else ():
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and "--" not in name and name.rpartition(".")[0].isidentifier():
                yield name.rpartition(".")[0] + ".py"


def others(folder: Path, taken: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Names below `folder` that a copy takes along, and those it leaves with the reason; hidden ones aren't looked at.

    `taken` are dealt with already. A link that leads out of the folder (and not into the Hub's cache of it) is left.
    """
    root = folder.resolve()
    homes = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    along, left = [], {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in taken or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink() and not any(path.resolve().is_relative_to(home) for home in homes):
            left[name] = "a link out of the folder"
        elif path.name.endswith(OTHER_WEIGHTS) and path.is_file():
            left[name] = "weights, or an index, under names of their own"
        elif path.is_file():
            along.append(name)
    return along, left
