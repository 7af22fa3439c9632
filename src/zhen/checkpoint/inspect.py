"""What is this checkpoint? Family, naming, sizes and departures from LLaMA, from config and headers alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zhen.checkpoint import names, strictjson
from zhen.checkpoint.journal import recover
from zhen.checkpoint.reader import INDEX, folder_of_index, open_checkpoint, weights
from zhen.checkpoint.schemes import LLAMA
from zhen.checkpoint.stored import Checkpoint, read_config, read_index, readable
from zhen.errors import ZhenError
from zhen.model.architecture import Difference, Topic, differences
from zhen.model.config import from_config_json
from zhen.model.size import parameters, shapes


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `zhen inspect`; null where the files don't say. Its JSON keys are a contract."""

    family: str
    """"llama" where it is that architecture under any name, else the nearest family or "unknown"."""
    naming: str
    """Scheme of the tensor names: "llama", "yi" or "unknown"."""
    differences: list[str]
    """Departures from the LLaMA decoder, each under attention, activation, normalisation or position."""
    layers: int | None
    hidden_size: int | None
    heads: int | None
    kv_heads: int | None
    head_size: int | None
    intermediate_size: int | None
    vocab_size: int | None
    max_positions: int | None
    rope_theta: float | None
    rope_scaling: dict[str, Any] | None
    tied_embeddings: bool | None
    parameters: int | None
    tensors: int
    """Tensors that are stored, constants of older files among them."""
    bytes: int | None
    """Bytes of the tensors."""
    dtypes: dict[str, int]
    """Dtype, as safetensors names it -> number of tensors."""
    remote_code: list[str]
    """Where code that comes with the checkpoint is named or lies; it is never run."""
    kv_bytes_per_token: int | None
    """Bytes that a cache in 16 bits grows by with each token."""
    notes: list[str]
    """What else is worth knowing, such as weights that are missing."""


def inspect_checkpoint(path: str | Path) -> Summary:
    """Describe a checkpoint folder, its index, or a `.safetensors` file, from config, index and headers alone.

    A config or index without weights is described as far as it tells, and that is noted. Raises ZhenError where there
    is neither, and for damaged files.
    """
    with readable(path):
        recover(Path(path))
        path = folder_of_index(Path(path))
        folder = path if path.is_dir() else path.parent
        config = read_config(folder) or {}
        stored = _stored(path, config)
        kept = [name for name in stored.names if not names.SKIPPED.fullmatch(name)]
        naming = names.detect(kept)
        found = differences(config) + _by_names(kept, naming, _Numbers(config).layers) + _by_custom(config)
        return _summary(config, stored, naming, found, _remote_code(folder, config))


class _Stored(NamedTuple):
    """What is known of the stored tensors; without weights names, and what index and config claim."""

    names: list[str]
    shapes: dict[str, tuple[int, ...]] | None
    bytes: int | None
    dtypes: dict[str, int]
    notes: list[str]


def _stored(path: Path, config: Mapping[str, Any]) -> _Stored:
    if path.is_dir():
        if index := _index_without_weights(path):
            return _from_index(index, config)
        if config and not weights(path) and not (path / INDEX).exists():
            note = "no weights that can be opened here: sizes are what config.json says"
            return _Stored(names=[], shapes=None, bytes=None, dtypes={}, notes=[note])
    return _from_headers(open_checkpoint(path))


def _summary(
    config: Mapping[str, Any], stored: _Stored, naming: str, found: list[Difference], remote_code: list[str]
) -> Summary:
    number = _Numbers(config or _config_by_shapes(stored, naming))
    layers, heads, kv_heads, head_size = number.layers, number.heads, number.kv_heads, number.head_size
    family = _family(config, stored, naming, found)
    rotary = config.get("rope_parameters") or config.get("rope_scaling")
    theta = config.get("rope_theta", rotary.get("rope_theta") if isinstance(rotary, dict) else None)
    if theta is None and family == "llama" and config:
        theta = 10_000.0
    count, notes = _count(config, stored, family)
    return Summary(
        family=family,
        naming=naming,
        differences=[str(difference) for difference in found],
        layers=layers,
        hidden_size=number.hidden_size,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        intermediate_size=number.intermediate_size,
        vocab_size=number.vocab_size,
        max_positions=number.max_positions,
        rope_theta=float(theta) if type(theta) in (int, float) else None,
        rope_scaling=_scaling(rotary),
        tied_embeddings=_tied(config, stored),
        parameters=count,
        tensors=len(stored.names),
        bytes=stored.bytes,
        dtypes=stored.dtypes,
        remote_code=remote_code,
        kv_bytes_per_token=4 * layers * kv_heads * head_size if layers and kv_heads and head_size else None,
        notes=stored.notes + notes,
    )


class _Numbers:
    """The sizes in a config.json, under whichever of the usual keys they stand."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.layers = self._first("num_hidden_layers", "n_layer", "num_layers", "n_layers")
        self.hidden_size = self._first("hidden_size", "n_embd", "d_model")
        self.heads = self._first("num_attention_heads", "n_head", "n_heads")
        one = 1 if config.get("multi_query") is True else None
        self.kv_heads = self._first("num_key_value_heads", "num_kv_heads", "n_head_kv") or one or self.heads
        derived = self.hidden_size // self.heads if self.hidden_size and self.heads else None
        self.head_size = self._first("head_dim", "kv_channels") or derived
        self.intermediate_size = self._first("intermediate_size", "ffn_hidden_size", "n_inner")
        self.vocab_size = self._first("vocab_size", "padded_vocab_size")
        self.max_positions = self._first("max_position_embeddings", "model_max_length", "seq_length", "n_positions")

    def _first(self, *keys: str) -> int | None:
        for key in keys:
            value = self._config.get(key)
            if type(value) is int and value > 0:
                return value
        return None


def _config_by_shapes(stored: _Stored, naming: str) -> dict[str, int]:
    """What the shapes alone say, for files without a config.json; how a layer is cut into heads they don't."""
    if naming == names.UNKNOWN or not stored.shapes:
        return {}
    found = {
        "num_hidden_layers": len({name.split(".")[2] for name in stored.names if name.startswith("model.layers.")})
    }
    for name, keys in (
        ("model.embed_tokens.weight", ("vocab_size", "hidden_size")),
        ("model.layers.0.mlp.up_proj.weight", ("intermediate_size", "hidden_size")),
    ):
        found |= dict(zip(keys, stored.shapes.get(name, ()), strict=False))
    return found


def _index_without_weights(folder: Path) -> Path | None:
    """The index file of a folder whose weights aren't there, or lie in pickles."""
    for index in (folder / INDEX, folder / "pytorch_model.bin.index.json"):
        if index.exists():
            shards = set(read_index(index, _suffix(index))[0].values())
            present = [shard for shard in shards if (folder / shard).exists()]
            if index.name == INDEX:
                return None if present else index
            if not weights(folder):
                return index
    return None


def _suffix(index: Path) -> str:
    return ".safetensors" if index.name == INDEX else ".bin"


def _from_headers(checkpoint: Checkpoint) -> _Stored:
    tensors = checkpoint.tensors
    return _Stored(
        names=list(tensors),
        shapes={name: tensor.shape for name, tensor in tensors.items()},
        bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
        dtypes=dict(Counter(tensor.dtype for tensor in tensors.values()).most_common()),
        notes=checkpoint.notes,
    )


_STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def _from_index(index: Path, config: Mapping[str, Any]) -> _Stored:
    weight_map, total = read_index(index, _suffix(index))
    present = any((index.parent / shard).exists() for shard in weight_map.values())
    where = "lie in pickles, which are never opened" if present else "are missing"
    note = f"the weights {where}: sizes are what {index.name} and config.json say"
    size = total if type(total) is int and total >= 0 else None
    claimed = config.get("dtype", config.get("torch_dtype"))
    dtypes = {_STORED[claimed]: len(weight_map)} if isinstance(claimed, str) and claimed in _STORED else {}
    return _Stored(names=list(weight_map), shapes=None, bytes=size, dtypes=dtypes, notes=[note])


_OURS = ("llama", "Yi")


def _family(config: Mapping[str, Any], stored: _Stored, naming: str, found: list[Difference]) -> str:
    claimed = config.get("model_type")
    # without tensors the name alone can say that no custom code computes something else
    if not found and (naming != names.UNKNOWN or (not stored.names and claimed in _OURS)):
        return "llama"
    if not isinstance(claimed, str) or claimed in ("", *_OURS):
        return names.UNKNOWN
    return claimed.lower()


_SIGNS: tuple[tuple[str, Topic, str, str], ...] = (
    (r"(W_pack|query_key_value|c_attn|qkv_proj|Wqkv|wqkv)\.", "attention", "joins q, k and v", "a matrix each"),
    (r"(q|k|query|key)_(norm|layernorm)\.", "attention", "normalises queries or keys", "no such norm"),
    (r"(attn|attention).*(?<!norm)(?<!ln_attn)\.bias$", "attention", "is a bias", "none"),
    (r"experts\.", "activation", "is one of several experts", "one feed-forward part a layer"),
    (r"(gate_up_proj|dense_h_to_4h|fc_in|c_fc)\.", "activation", "is the feed-forward part's", "gate and up apart"),
    (r"mlp\..*\.bias$", "activation", "is a bias", "none"),
    (r"(norm|ln_\w+|ln\d)\.bias$", "normalisation", "is a bias, so LayerNorm", "RMSNorm"),
    (r"(wpe|embed_positions|position_embeddings)\.", "position", "is a learned position", "rotary positions"),
)
"""(pattern of a tensor name, heading, what it says, what LLaMA has)."""


def _by_names(stored: Iterable[str], naming: str, layers: int | None) -> list[Difference]:
    """Departures that the tensor names show, each with the first tensor that shows it."""
    stored, found = list(stored), []
    known = naming != names.UNKNOWN
    for pattern, topic, says, expected in _SIGNS[1:] if known else _SIGNS:  # what a known scheme joins can be cut
        shown = names.unmapped(stored, naming) if known else stored
        if first := next((name for name in shown if re.search(pattern, name)), None):
            found.append(Difference(topic, first, says, expected))
    return found + (_norms_in_no_layer(stored, naming, layers) if known and not found else [])


def _norms_in_no_layer(stored: Iterable[str], naming: str, layers: int | None) -> list[Difference]:
    """Norms that LLaMA has and no layer of these, where tensors of all `layers` are stored (not one shard's)."""
    inside = [names.numbered(name) for name in stored]
    if len({number for shape, number in inside if ".N." in shape}) != layers:
        return []
    held = names.held(naming)
    present = {llama for shape, _ in inside for llama in held.get(shape, ())}
    norms = [llama for llama in LLAMA if ".N." in llama and "layernorm" in llama and llama not in present]
    return [
        Difference("normalisation", norm.partition(".N.")[2], "is in no layer", "two norms a layer") for norm in norms
    ]


_NEIGHBOURS = ("cohere", "cohere2", "ernie4_5", "helium")
"""Families that rotate neighbouring numbers; their tensors have LLaMA's names."""


def _by_custom(config: Mapping[str, Any]) -> list[Difference]:
    """Departures that a family's code makes and its config doesn't say."""
    family = config.get("model_type")
    if family == "baichuan":
        found = []
        if config.get("hidden_size") == 5120:
            found.append(Difference("position", "model_type", "'baichuan' of 13B adds ALiBi", "rotary positions"))
        if config.get("vocab_size") == 125696:
            says = "'baichuan' of version 2 normalises the head's rows"
            found.append(Difference("normalisation", "model_type", says, "the head as it is"))
        return found
    if family in _NEIGHBOURS:
        return [Difference("position", "model_type", f"{family!r} rotates neighbours", "halves of a head rotated")]
    return []


def _scaling(rotary: Any) -> dict[str, Any] | None:
    if not isinstance(rotary, dict):
        return None
    scaling = {key: value for key, value in rotary.items() if key not in ("rope_theta", "type", "rope_type")}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    return None if kind == "default" else {"rope_type": kind, **scaling}


def _tied(config: Mapping[str, Any], stored: _Stored) -> bool | None:
    claimed = config.get("tie_word_embeddings")
    if isinstance(claimed, bool):
        return claimed
    return "lm_head.weight" not in stored.names if stored.names else None


def _count(config: Mapping[str, Any], stored: _Stored, family: str) -> tuple[int | None, list[str]]:
    """Parameters, and where tensors and config.json disagree."""
    skipped = [name for name in stored.names if names.SKIPPED.fullmatch(name)]
    notes = [f"{len(skipped)} rotary_emb.inv_freq constants are stored; loaders skip them"] if skipped else []
    if not config:
        notes.append("no config.json: activation, heads and positions are unknown")
    expected = None
    if family == "llama" and config:
        try:
            # a copy under another name has LLaMA's keys: only the name is in the way
            expected = from_config_json({**config, "model_type": "llama", "architectures": []})
        except ZhenError as error:
            notes.append(f"config.json: {error.text()}")
    if stored.shapes is None:
        return (parameters(expected) if expected else None), notes
    kept = {name: shape for name, shape in stored.shapes.items() if name not in skipped}
    count = 0
    for shape in kept.values():
        elements = 1
        for dimension in shape:
            elements *= dimension
        count += elements
    if expected and names.detect(kept) in ("llama", "yi"):
        notes += _against_config(kept, shapes(expected))
    return count, notes


def _against_config(kept: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    scheme = names.detect(kept)
    renamed = names.rename(kept, scheme, "llama")
    found = {renamed[name]: shape for name, shape in kept.items()}
    notes = [
        f"{name} has shape {list(found[name])}, config.json says {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    notes = notes[:3] + ([f"{len(notes) - 3} more shapes differ"] if len(notes) > 3 else [])
    for text, missing in (
        ("missing", expected.keys() - found.keys()),
        ("not in config.json", found.keys() - expected.keys()),
    ):
        if missing:
            notes.append(f"{len(missing)} tensors {text}, the first {min(missing)}")
    return notes


def _remote_code(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Each auto_map entry of the configs and each Python file: code that a loader with trust_remote_code would run."""
    tokenizer = folder / "tokenizer_config.json"
    tables = {"config.json": config}
    if tokenizer.exists() and isinstance(value := strictjson.read(tokenizer), dict):
        tables[tokenizer.name] = value
    found = []
    for file, table in tables.items():
        mapped = table.get("auto_map")
        if isinstance(mapped, dict):
            found += [f"{file} auto_map {key}: {value}" for key, value in mapped.items()]
        elif mapped:
            found.append(f"{file} auto_map: {mapped}")
    return found + sorted(path.name for path in folder.glob("*.py"))
