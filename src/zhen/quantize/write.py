"""A quantised checkpoint: layers made one by one, then a folder that transformers, vLLM and Zhen load."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from zhen.checkpoint.cast import cast
from zhen.checkpoint.load import DTYPES, SHARD_BYTES
from zhen.checkpoint.packed import PACKED, SCALE, SHAPE, config_of
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.safetensors import TensorInfo
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.views import written
from zhen.checkpoint.writer import Tensor, write_sharded
from zhen.errors import ZhenError
from zhen.formats.files import Digest, publish_folder, sha256_file, temporary_folder, write_bytes, write_json
from zhen.formats.record import key_of
from zhen.model.config import to_config_json
from zhen.quantize.calibrate import LONGEST, Calibration, calibrate
from zhen.quantize.layers import MATRICES, LayerErrors, Layers
from zhen.quantize.settings import QuantizeSettings
from zhen.tokenizer.load import load_tokenizer

RECORD = "quantize.json"
"""In the checkpoint: how it was made, and every error."""

_PLAN = "plan.json"
_ALONG = (
    "generation_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE",
    "NOTICE",
)
"""Files that a quantised checkpoint takes along."""

_HASHED_BYTES = 10_000_000_000

Report = Callable[[int, int, str], None]
"""Matrices done, of how many, what is being done."""


class TextUsed(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration text."""

    sequences: int
    length: int
    languages: dict[str, int]
    """Tokens by language."""
    sha256: str
    """Of the token ids, int32."""


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """What `quantize.json` says."""

    method: str
    """"gptq" or "rtn"."""
    bits: int
    group: int
    head_bits: int
    embedding_bits: int
    text: TextUsed | None
    """None: nothing but the weights was looked at."""
    bytes_before: int
    bytes_after: int
    layers: list[LayerErrors]
    """Embedding and head as layer -1, where they are packed; then every layer."""

    @property
    def output_errors(self) -> list[float]:
        """Of the layers, where text was there."""
        return [layer.output_error for layer in self.layers if layer.output_error is not None]

    @property
    def weight_error(self) -> float:
        """The mean over the matrices."""
        errors = [matrix.weight_error for layer in self.layers for matrix in layer.matrices]
        return sum(errors) / len(errors)


def quantise_checkpoint(
    source: Path, final: Path, work: Path, settings: QuantizeSettings, text: Path | None, report: Report
) -> Quantised:
    """Write the quantised checkpoint of `source` to the folder `final`, whole or not at all.

    `work` holds what is done so far; of another attempt with the same settings, text and weights it is used. Raises
    ZhenError for a checkpoint that `load_model` refuses, and for GPTQ without text.
    """
    layers = Layers(source, work, settings)
    text_used = calibration = None
    if text is not None:
        length = settings.sequence_length or min(layers.config.max_position_embeddings, LONGEST)
        calibration = calibrate(text, load_tokenizer(source), max(1, settings.tokens // length), length)
        text_used = _used(calibration)
    elif settings.method == "gptq":
        raise ZhenError("no calibration text", expected="text for GPTQ", hint="give text, or take the method rtn")
    _begin(work, key_of({"settings": settings, "text": text_used, "source": _fingerprint(source)}))
    total = layers.config.num_hidden_layers * MATRICES
    tokens = None if calibration is None else calibration.tokens
    errors = layers.quantise(tokens, lambda done, facts: report(done, total, facts))
    checkpoint = open_checkpoint(source)
    made = Quantised(
        method=settings.method,
        bits=settings.bits,
        group=settings.group,
        head_bits=settings.head_bits,
        embedding_bits=settings.embedding_bits,
        text=text_used,
        bytes_before=sum(tensor.end - tensor.begin for tensor in checkpoint.tensors.values()),
        bytes_after=sum(size for _, size in _tensors(layers)),
        layers=errors,
    )
    building = temporary_folder(final)
    _write(building, source, layers, made)
    publish_folder(building, final)
    shutil.rmtree(work)
    return made


def read_quantised(folder: Path) -> Quantised:
    """What a quantised checkpoint's `quantize.json` says."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=Quantised)


def _used(calibration: Calibration) -> TextUsed:
    sequences, length = calibration.tokens.shape
    return TextUsed(sequences=sequences, length=length, languages=calibration.languages, sha256=calibration.sha256)


def _begin(work: Path, key: str) -> None:
    """Keep what an attempt with this key left in `work`, and nothing else."""
    plan = work / _PLAN
    if not plan.exists() or plan.read_text(encoding="utf-8") != key:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_bytes(plan, key.encode())


def _fingerprint(source: Path) -> list[tuple[str, int, str]]:
    """Name, size and hash of each file with weights; beyond 10 GB in all the time of its last change."""
    found, left = [], _HASHED_BYTES
    for file in open_checkpoint(source).files:
        status = file.stat()
        left -= status.st_size
        mark = sha256_file(file).sha256 if left >= 0 else f"mtime {status.st_mtime_ns}"
        found.append((file.name, status.st_size, mark))
    return found


def _write(folder: Path, source: Path, layers: Layers, made: Quantised) -> dict[str, Digest]:
    config = to_config_json(layers.config, layers.dtype)
    left = [name for name, view in layers.views.items() if len(view.shape) == 2 and name not in layers.plan]
    if layers.config.tie_word_embeddings:
        left.append("lm_head.weight")  # a linear layer all the same, to those who load it
    config["quantization_config"] = config_of(layers.plan, [name for name in left if "embed" not in name])
    digests = {"config.json": write_json(folder / "config.json", config)}
    digests[RECORD] = write_json(folder / RECORD, msgspec.to_builtins(made))
    for name in _ALONG:
        if (source / name).is_file():
            digests[name] = write_bytes(folder / name, (source / name).read_bytes())
    return digests | write_sharded(folder, [tensor for tensor, _ in _tensors(layers)], SHARD_BYTES)


def _tensors(layers: Layers) -> Iterator[tuple[Tensor, int]]:
    """Every tensor as the writer takes it, with its bytes, in the order of the forward pass."""
    parts = {info.name: (part, info) for part in map(open_checkpoint, layers.parts()) for info in part.tensors.values()}
    for name, view in layers.views.items():
        if name not in layers.plan:
            narrow = cast(view, DTYPES[layers.dtype][0])
            size = 2
            for dimension in view.shape:
                size *= dimension
            yield written(narrow), size
            continue
        for end in (PACKED, SCALE, SHAPE):
            part, info = parts[name + end]
            yield _copied(part, info), info.end - info.begin


def _copied(part: Checkpoint, info: TensorInfo) -> Tensor:
    return info.name, info.dtype, info.shape, lambda: part.read(info.name)
