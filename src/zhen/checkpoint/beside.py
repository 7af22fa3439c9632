"""The files beside the weights in a conversion: tokenizer, generation config, licence; out of a folder or a GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zhen.checkpoint import gguf, gguf_metadata, gguf_tokenizer, license, strictjson
from zhen.checkpoint.companions import others, tokenizer_config
from zhen.checkpoint.gguf_metadata import Metadata
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.targets import config_json
from zhen.checkpoint.tokenizer_files import FILES, read_tokenizer
from zhen.errors import ZhenError
from zhen.formats.files import json_bytes
from zhen.model.config import ModelConfig, from_config_json

_GENERATION = "generation_config.json"


class Beside(NamedTuple):
    """What lies beside the weights of the source."""

    files: dict[str, bytes]
    """File -> content."""
    metadata: Mapping[str, Any] | None
    """Of a GGUF file."""
    notes: list[str]


def beside(checkpoint: Checkpoint) -> Beside:
    """The files that follow the weights of `checkpoint`. Raises ZhenError for damaged ones."""
    if checkpoint.kind != "gguf":
        return Beside(_in_folder(checkpoint.folder), None, [])
    metadata = gguf.metadata_of(checkpoint.files[0])
    kept = gguf.restored_files(metadata)
    if kept is not None:
        kept.pop("config.json", None)
        return Beside(kept, metadata, [])
    files, notes = gguf_tokenizer.to_files(metadata)
    return Beside(files, metadata, notes)


def config_within(checkpoint: Checkpoint, found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The config of a checkpoint: of a GGUF file that was made here the exact one, which lies in it.

    Raises ZhenError where there is none.
    """
    if found is not None and (kept := gguf.restored_files(found)) and "config.json" in kept:
        value = strictjson.parse(kept["config.json"], checkpoint.files[0], "zhen.file.config.json")
        if isinstance(value, dict):
            from_config_json(value, checkpoint.files[0])
            return value
    if checkpoint.config is None:
        raise ZhenError("missing", expected="the model's configuration", file=checkpoint.folder / "config.json")
    return checkpoint.config


def _in_folder(folder: Path) -> dict[str, bytes]:
    along, _ = others(folder, ())  # without links that lead out of the folder
    found = {}
    for name in along:
        if name not in (*FILES, _GENERATION) and name.lower() != "readme.md" and not license.bears(name):
            continue
        found[name] = (folder / name).read_bytes()
        if found[name].startswith(strictjson.LFS_POINTER):
            what = "a Git LFS pointer, not the file itself"
            raise ZhenError(what, expected="the file", file=folder / name, hint=strictjson.LFS_HINT)
        if name == "tokenizer_config.json":
            value = strictjson.read(folder / name)
            if isinstance(value, dict) and (made := tokenizer_config(value)) != value:
                found[name] = json_bytes(made)
    return found


def metadata_for(
    source: Beside, folder: Path, config: ModelConfig, original: Mapping[str, Any], dtype: str
) -> tuple[Metadata, list[str]]:
    """(a GGUF file's metadata, notes): configuration, tokenizer, and the files that later give both back.

    Raises ZhenError for a tokenizer that GGUF has no words for, or with more tokens than the embedding has rows.
    """
    name = (source.metadata or {}).get("general.name") or folder.resolve().name
    metadata = gguf_metadata.of_config(config, str(name).encode(errors="replace").decode())
    licensed = (source.metadata or {}).get("general.license") if source.metadata else license.stated(folder)
    if isinstance(licensed, str) and licensed:
        metadata["general.license"] = licensed
    notes: list[str] = []
    if source.metadata is None:
        tokenizer = read_tokenizer(folder, original)
        metadata |= gguf_tokenizer.of_tokenizer(tokenizer, config.vocab_size)
        notes += tokenizer.notes if tokenizer else ["no tokenizer beside the weights: the file will hold none"]
    else:
        carried = {
            key: gguf_metadata.plain(value) for key, value in source.metadata.items() if key.startswith("tokenizer.")
        }
        carried.pop("tokenizer.huggingface.json", None)
        tokens = len(carried.get("tokenizer.ggml.tokens", ()))
        if tokens and tokens != config.vocab_size:
            expected = f"{config.vocab_size}, the rows of the embedding"
            raise ZhenError(f"{tokens} tokens", expected=expected, hint="convert to llama first, then change the size")
        metadata |= carried
    kept = {name: data for name, data in source.files.items() if name in gguf.KEPT}
    kept["config.json"] = json_bytes(config_json(config, "llama", dtype, original))
    return metadata | gguf.stored_files(kept, metadata), notes
