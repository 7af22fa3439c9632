"""GGUF files: opened with our own strict header reader, written through the `gguf` package, tensor by tensor."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zhen.checkpoint import gguf_metadata
from zhen.checkpoint.cast import cast, exact, floats, pieces
from zhen.checkpoint.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from zhen.checkpoint.gguf_metadata import ROPE_FACTORS, Metadata
from zhen.checkpoint.safetensors import BITS, TensorInfo
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.tokenizer_files import FILES as TOKENIZER_FILES
from zhen.checkpoint.views import Array, View
from zhen.errors import ZhenError, missing_extra
from zhen.model.config import ModelConfig

WIDENED = "zhen.dtypes"
"""Metadata key: tensors that GGUF holds as F32 and that were in another dtype before, as `name=BF16`."""

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
"""`general.file_type` by the format of most matrices (llama.h, llama_ftype)."""

_Q8_BLOCK = 32


def open_gguf(path: str | Path) -> Checkpoint:
    """The checkpoint in a GGUF file, or in all parts of a split one, of which `path` is any.

    F32, F16 and BF16 are read as they lie, quantised tensors as F32 (through the `gguf` package, when they are read).
    `config` is the metadata under config.json's names. Raises ZhenError for a damaged file.
    """
    headers = [read_gguf_header(file) for file in _parts(Path(path))]
    listed = [(header.file, tensor) for header in headers for tensor in header.tensors.values()]
    checkpoint = Checkpoint(
        headers[0].file.parent, [_info(file, tensor) for file, tensor in listed], None, kind="gguf", computed={}
    )
    computed: dict[str, Callable[[], memoryview]] = {}
    for file, tensor in listed:
        if tensor.type not in BITS:
            computed[tensor.name] = _dequantised(file, tensor)
    narrow = _narrowed_back(headers[0].metadata, checkpoint)
    infos = [tensor._replace(dtype=narrow.get(name, (tensor.dtype,))[0]) for name, tensor in checkpoint.tensors.items()]
    computed |= {name: read for name, (_, read) in narrow.items()}
    kinds = Counter(tensor.type for _, tensor in listed if tensor.type not in BITS)
    notes = [f"{count} tensors of type {kind} are read as F32" for kind, count in kinds.most_common()]
    return Checkpoint(
        headers[0].file.parent, infos, _config(headers, checkpoint), kind="gguf", notes=notes, computed=computed
    )


def metadata_of(path: str | Path) -> dict[str, Any]:
    """The metadata of a GGUF file, of the first part of a split one."""
    return read_gguf_header(_parts(Path(path))[0]).metadata


def _parts(path: Path) -> list[Path]:
    found = _SPLIT.search(path.name)
    if not found or int(found[2]) == 1:
        return [path]
    stem, count = path.name[: found.start()], int(found[2])
    files = [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    if missing := [file for file in files if not file.exists()]:
        raise ZhenError("missing", expected=f"all {count} parts", file=missing[0])
    return files


def _config(headers: Sequence[GgufHeader], checkpoint: Checkpoint) -> dict[str, Any]:
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    file = headers[0].file
    try:
        config = gguf_metadata.to_config(headers[0].metadata, shapes)
        if ROPE_FACTORS in shapes and config.get("model_type") == "llama":
            return gguf_metadata.with_factors(config, np.frombuffer(checkpoint.read(ROPE_FACTORS), dtype="<f4"))
        return config
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        found = f"metadata that doesn't fit ({type(error).__name__}: {error})"
        raise ZhenError(found, expected="keys as llama.cpp writes them", file=file, place="metadata") from error


def _info(file: Path, tensor: GgufTensor) -> TensorInfo:
    dtype = tensor.type if tensor.type in BITS else "F32"
    return TensorInfo(tensor.name, dtype, tensor.shape, file, tensor.begin, tensor.end)


def _dequantised(file: Path, tensor: GgufTensor) -> Callable[[], memoryview]:
    def read() -> memoryview:
        package = _package("reading a quantised tensor")
        kind = package.GGMLQuantizationType[tensor.type]
        block, width = package.GGML_QUANT_SIZES[kind]
        data = np.fromfile(file, dtype=np.uint8, count=tensor.end - tensor.begin, offset=tensor.begin)
        rows = data.reshape(-1, width)
        done = np.empty((len(rows), block), dtype="<f4")
        for piece in pieces(done.size, block):
            blocks = slice(piece.start // block, piece.stop // block)
            try:
                done[blocks] = package.dequantize(_wide(rows[blocks]), kind).reshape(-1, block)
            except NotImplementedError as error:
                raise ZhenError(
                    f"type {tensor.type}",
                    expected="a type that the gguf package can expand",
                    file=file,
                    place=f"tensor {tensor.name!r}",
                ) from error
        return done.reshape(-1).view(np.uint8).data

    return read


def _narrowed_back(
    metadata: Mapping[str, Any], checkpoint: Checkpoint
) -> dict[str, tuple[str, Callable[[], memoryview]]]:
    """Name -> (dtype, reader) of tensors that were widened on writing, as far as they still hold just such numbers."""
    found: dict[str, tuple[str, Callable[[], memoryview]]] = {}
    listed = metadata.get(WIDENED)
    for item in listed if isinstance(listed, list) else []:
        name, _, dtype = item.rpartition("=") if isinstance(item, str) else ("", "", "")
        tensor = checkpoint.tensors.get(name)
        if dtype not in ("BF16", "F16") or tensor is None or tensor.dtype != "F32":
            continue
        bits = np.frombuffer(checkpoint.read(name), dtype="<u4")
        if (read := exact(View(name, "F32", bits.shape, lambda bits=bits: bits), dtype)) is not None:  # type: ignore[misc]
            found[name] = (dtype, lambda read=read: read().view(np.uint8).data)  # type: ignore[misc]
    return found


class Planned(NamedTuple):
    """A tensor as it will lie in a GGUF file; `read` gives its bytes, uint8, or its numbers."""

    name: str
    type: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Array]


def plan(views: Iterable[View], dtype: str | None) -> tuple[list[Planned], list[str], list[str]]:
    """How each of `views` (under GGUF's names) will lie in a file; what was widened (WIDENED); notes.

    Norms are F32, as llama.cpp wants them. `dtype` of the matrices: "F32", "F16", "BF16", "Q8_0", None as they are.
    """
    planned, widened, notes = [], [], []
    for view in views:
        if len(view.shape) == 1:
            if view.dtype != "F32":
                widened.append(f"{view.name}={view.dtype}")
            planned.append(_as_is(cast(view, "F32")))
        elif dtype == "Q8_0" and view.shape[-1] % _Q8_BLOCK == 0:
            planned.append(_quantised(view))
        elif dtype == "Q8_0":
            planned.append(_as_is(cast(view, "F16")))
            notes.append(f"{view.name} has rows of {view.shape[-1]}, no multiple of {_Q8_BLOCK}: F16")
        else:
            planned.append(_as_is(cast(view, dtype) if dtype else view))
    return planned, widened, notes


def _as_is(view: View) -> Planned:
    if view.dtype not in ("F32", "F16", "BF16"):
        raise ZhenError(f"dtype {view.dtype}", expected="F32, F16 or BF16", place=f"tensor {view.name!r}")
    size = int(np.prod(view.shape)) * BITS[view.dtype] // 8
    return Planned(view.name, view.dtype, view.shape, size, lambda: np.ascontiguousarray(view.read()))


def _quantised(view: View) -> Planned:
    if view.dtype not in ("F32", "F16", "BF16"):
        raise ZhenError(f"dtype {view.dtype}", expected="F32, F16 or BF16", place=f"tensor {view.name!r}")
    blocks = int(np.prod(view.shape)) // _Q8_BLOCK
    width = 2 + _Q8_BLOCK

    def read() -> Array:
        package = _package("writing Q8_0")
        bits = np.ascontiguousarray(view.read()).reshape(-1)
        done = np.empty((blocks, width), dtype=np.uint8)
        for piece in pieces(bits.size, _Q8_BLOCK):
            values = floats(bits[piece], view.dtype).reshape(-1, _Q8_BLOCK)
            if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 127 * 65504.0:
                found = "numbers that are not finite, or too large for Q8_0's scale"
                raise ZhenError(found, expected="finite numbers", place=f"tensor {view.name!r}", hint="use --dtype f32")
            made = package.quantize(_wide(values), package.GGMLQuantizationType.Q8_0)
            done[piece.start // _Q8_BLOCK : piece.stop // _Q8_BLOCK] = made.reshape(-1, width)
        return done

    return Planned(view.name, "Q8_0", view.shape, blocks * width, read)


def _wide(blocks: Array) -> Array:
    """The blocks, many to a row: the package works on 16 rows at a time, and short ones make it slow."""
    return blocks.reshape(-1, blocks.shape[1] * gcd(len(blocks), 256))


def write_gguf(path: Path, planned: Sequence[Planned], metadata: Metadata, done: Callable[[int], None]) -> None:
    """Write a GGUF file: `metadata`, with the file type added, then the tensors one by one; synced, not renamed.

    `done` is called with the bytes of each tensor when it is written. Raises ZhenError where the disk is full.
    """
    package = _package("writing GGUF")
    matrices = Counter(tensor.type for tensor in planned if len(tensor.shape) > 1)
    metadata = metadata | {"general.file_type": _FILE_TYPES[matrices.most_common(1)[0][0]]}
    writer = package.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for tensor in planned:
        kind = package.GGMLQuantizationType[tensor.type]
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype("<f4"), tensor.nbytes, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            writer.write_tensor_data(tensor.read())
            done(tensor.nbytes)
        writer.flush()
        for file in writer.fout:
            os.fsync(file.fileno())
    finally:
        writer.close()


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def rope_factors(config: ModelConfig) -> Planned | None:
    """Llama 3.1's scaling as a tensor, None for a config without it."""
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type != "llama3":
        return None
    factors = gguf_metadata.rope_factors(config, scaling)
    return Planned(ROPE_FACTORS, "F32", factors.shape, factors.nbytes, lambda: factors)


def _package(purpose: str) -> Any:
    try:
        return importlib.import_module("gguf")
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "gguf", "gguf", purpose) from error


KEPT = (*TOKENIZER_FILES, "config.json", "generation_config.json")
"""Files that a GGUF file may give back."""


def stored_files(files: Mapping[str, bytes], metadata: Metadata) -> Metadata:
    """Keys that hold `files` (name -> content) whole, with the fingerprint of what the metadata says."""
    held: Metadata = {"zhen.fingerprint": gguf_metadata.fingerprint(metadata)}
    for name, data in files.items():
        key = "tokenizer.huggingface.json" if name == "tokenizer.json" else f"zhen.file.{name}"
        if data:
            held[key] = data if name == "tokenizer.model" else _text(data, name)
    return held


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ZhenError(f"byte {error.start} is not UTF-8", expected="UTF-8", file=name) from error


def restored_files(metadata: Mapping[str, Any]) -> dict[str, bytes] | None:
    """The files that `stored_files` put there, None where there are none or the metadata was changed since."""
    said = {key: value for key, value in metadata.items() if key != "tokenizer.huggingface.json"}
    if metadata.get("zhen.fingerprint") != gguf_metadata.fingerprint(said):
        return None
    found = {}
    for key, value in metadata.items():
        name = "tokenizer.json" if key == "tokenizer.huggingface.json" else key.removeprefix("zhen.file.")
        if name == key or name not in KEPT:
            continue
        if isinstance(value, str):
            found[name] = value.encode("utf-8")
        elif isinstance(value, np.ndarray) and value.dtype == np.uint8:
            found[name] = value.tobytes()
    return found
