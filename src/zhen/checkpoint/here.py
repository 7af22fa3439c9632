"""What lies at a path that is to be described: weights' headers, or as much as an index or a config tells of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zhen.checkpoint import strictjson
from zhen.checkpoint.journal import recover
from zhen.checkpoint.packed import READ, packed, quantisation, whole_tensors
from zhen.checkpoint.reader import INDEX, TORCH_INDEX_END, folder_of_index, open_checkpoint, weights
from zhen.checkpoint.stored import Checkpoint, read_config, read_index
from zhen.errors import ZhenError

TORCH_INDEX = "pytorch_model" + TORCH_INDEX_END


class Here(NamedTuple):
    """What is known of a checkpoint; without weights names, and what index and config claim."""

    folder: Path
    kind: str
    """"safetensors", "torch", "gguf", "consolidated"; "index" or "config" where that is all there is."""
    config: dict[str, Any]
    names: list[str]
    shapes: dict[str, tuple[int, ...]] | None
    stored: dict[str, tuple[str, str]]
    """Tensor -> (its dtype or type as the format names it, "" where it isn't known; its file)."""
    bytes: int | None
    notes: list[str]
    metadata: dict[str, Any]
    """A GGUF file's; else empty."""

    @property
    def files(self) -> list[str]:
        """The names of the files with weights, sorted."""
        return sorted({file for _, file in self.stored.values()})

    @property
    def dtypes(self) -> dict[str, int]:
        """Dtype -> number of tensors, the most frequent first."""
        return dict(Counter(dtype for dtype, _ in self.stored.values() if dtype).most_common())


def look(path: Path) -> Here:
    """What lies at `path`: a folder, an index, a file with weights, or a config. Raises ZhenError for nothing known."""
    recover(path)
    if path.is_file() and path.suffix == ".json" and not path.name.endswith(".index.json"):
        return _config_alone(path)
    folder = folder_of_index(path)
    if folder.is_dir():
        config = read_config(folder) or {}
        absent = _Absent(folder, _weights(folder))
        for index in (folder / INDEX, folder / TORCH_INDEX):
            if index.exists() and absent.of(set(read_index(index, _suffix(index))[0].values())):
                return _from_index(index, config, absent)
        if config and absent.all:
            note = f"the weights {absent.why}: sizes are what config.json says"
            return Here(folder, "config", config, [], None, {}, absent.bytes, [note], {})
    return _from_headers(open_checkpoint(path))


def _weights(folder: Path) -> list[Path]:
    """Every file with weights, of whatever format."""
    patterns = ("*.bin", "*.pth", "*.pt", "*.gguf")
    return weights(folder) + [file for pattern in patterns for file in sorted(folder.glob(pattern))]


class _Absent:
    """The weights of a folder that are missing, or are Git LFS pointers instead."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self._folder = folder
        self._pointed = {file.name: _pointed(file) for file in files}

    @property
    def all(self) -> bool:
        """Whether no weights are there at all."""
        return all(size is not None for size in self._pointed.values())

    @property
    def bytes(self) -> int | None:
        """Bytes of the files that pointers stand for, None without pointers."""
        return sum(size or 0 for size in self._pointed.values()) or None

    @property
    def why(self) -> str:
        """What is the matter with them."""
        return f"are Git LFS pointers ({strictjson.LFS_HINT})" if self._pointed else "are missing"

    def of(self, shards: set[str]) -> bool:
        """Whether none of `shards` is there, and nothing else that could be opened instead."""
        return self.all and not any((self._folder / shard).exists() for shard in shards - self._pointed.keys())


def _pointed(file: Path) -> int | None:
    """The size that a Git LFS pointer states, None for any other file."""
    with file.open("rb") as opened:
        start = opened.read(1024)
    if not start.startswith(strictjson.LFS_POINTER):
        return None
    size = re.search(rb"^size (\d{1,15})$", start, re.MULTILINE)
    return int(size[1]) if size else 0


def _config_alone(file: Path) -> Here:
    config = strictjson.read(file)
    if not isinstance(config, dict) or not _CONFIGS.intersection(config):
        found = f"a JSON file without {', '.join(sorted(_CONFIGS))}"
        raise ZhenError(found, expected="a checkpoint, its index, or a model's config", file=file)
    return Here(file.parent, "config", config, [], None, {}, None, [f"{file.name} alone: sizes are what it says"], {})


_CONFIGS = {"model_type", "architectures", "hidden_size", "n_embd", "dim"}
"""Keys by one of which a JSON file is known as a model's config."""


def _from_headers(checkpoint: Checkpoint) -> Here:
    tensors = checkpoint.tensors
    stored = {name: (tensor.dtype, tensor.file.name) for name, tensor in tensors.items()}
    metadata: dict[str, Any] = {}
    if checkpoint.kind == "gguf":
        from zhen.checkpoint.gguf_header import read_gguf_header  # with numpy, which nothing else here needs

        for header in [read_gguf_header(file) for file in checkpoint.files]:
            metadata = metadata or header.metadata
            stored |= {name: (tensor.type, header.file.name) for name, tensor in header.tensors.items()}
    whole = whole_tensors(checkpoint)
    stored |= {name: (item.kind, whole[name].file.name) for name, item in packed(checkpoint).items()}
    return Here(
        folder=checkpoint.folder,
        kind=checkpoint.kind,
        config=checkpoint.config or {},
        names=list(whole),
        shapes={name: tensor.shape for name, tensor in whole.items()},
        stored={name: stored[name] for name in whole},
        bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
        notes=checkpoint.notes + _quantised(checkpoint.config),
        metadata=metadata,
    )


def _quantised(config: dict[str, Any] | None) -> list[str]:
    form = quantisation(config)
    if form is None:
        return []
    how = "intB/G: B bits, G weights a scale" if form == READ else "what the tensors stand for is not known here"
    return [f"the weights are quantised: {form} ({how})"]


_STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def _from_index(index: Path, config: Mapping[str, Any], absent: _Absent) -> Here:
    weight_map, total = read_index(index, _suffix(index))
    note = f"the weights {absent.why}: sizes are what {index.name} and config.json say"
    size = total if type(total) is int and total >= 0 else None
    claimed = config.get("dtype", config.get("torch_dtype"))
    dtype = _STORED.get(claimed, "") if isinstance(claimed, str) else ""
    stored = {name: (dtype, shard) for name, shard in weight_map.items()}
    return Here(index.parent, "index", dict(config), list(weight_map), None, stored, size, [note], {})


def _suffix(index: Path) -> str:
    return ".safetensors" if index.name == INDEX else ".bin"
