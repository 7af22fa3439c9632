"""What is this checkpoint? Family, naming, sizes and departures from LLaMA, from config and headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from zhen.checkpoint import license as licences
from zhen.checkpoint import names, strictjson, tokens
from zhen.checkpoint.configs import all_differences, as_llama, plain
from zhen.checkpoint.here import Here, look
from zhen.checkpoint.hub import in_cache
from zhen.checkpoint.schemes import LLAMA
from zhen.checkpoint.stored import readable
from zhen.checkpoint.tokens import TokenizerSummary
from zhen.errors import ZhenError
from zhen.model.architecture import Difference, Topic
from zhen.model.config import ModelConfig
from zhen.model.size import quantised_bytes, shapes

LENGTHS = (4096, 32_768, 200_000)
"""Tokens in the cache for which the memory to serve is given."""
WIDTHS = (16, 8, 4)
"""Bits of a weight for which it is given."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as it is stored; null where only an index is there."""

    dtype: str | None
    shape: list[int] | None
    file: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `zhen inspect`; null where the files don't say. Its JSON keys are a contract."""

    family: str
    """"llama" where it is that architecture under any name, else the nearest family or "unknown"."""
    naming: str
    """Scheme of the tensor names (`checkpoint/schemes.py`), or "unknown"."""
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
    """Dtype, as the format names it -> number of tensors."""
    remote_code: list[str]
    """Where code that comes with the checkpoint is named or lies; it is never run."""
    kv_bytes_per_token: int | None
    """Bytes that a cache in 16 bits grows by with each token."""
    notes: list[str]
    """What else is worth knowing, such as weights that are missing."""
    format: str
    """"safetensors", "torch", "gguf", "consolidated"; "index" or "config" where that is all there is."""
    files: int
    """Files with weights."""
    unmapped: list[str]
    """Tensors that have no place in LLaMA under the naming found."""
    embedding_parameters: int | None
    layer_parameters: int | None
    """Parameters of the first layer."""
    tokenizer: TokenizerSummary | None
    license: str | None
    """What README.md or the metadata states, or the name of a licence file."""
    serving_bytes: dict[str, dict[str, int]] | None
    """Tokens in the cache -> bits of a weight -> bytes of weights and cache, the cache in 16 bits."""


def inspect_checkpoint(path: str | Path) -> Summary:
    """Describe a checkpoint from config, index and headers alone: a folder, a file, an index or a config.

    A model's id (`org/name`) stands for its newest snapshot in the hub's cache. Code that comes with it is never run.
    Config or index without weights are described as far as they tell, and that is noted. Raises ZhenError where there
    is nothing to describe, and for damaged files.
    """
    return describe(path)[0]


def describe(path: str | Path) -> tuple[Summary, dict[str, Stored]]:
    """The summary of `inspect_checkpoint`, and every tensor as it is stored."""
    with readable(path):
        here = look(in_cache(Path(path)))
        kept = [name for name in here.names if not names.SKIPPED.fullmatch(name)]
        naming = names.detect(kept)
        config = plain(here.config)
        number = _Numbers({**config, **here.config} if config else _config_by_shapes(here, naming))
        by_names = _by_names(kept, naming, number.layers)
        found = all_differences(here.config, by_names, tensors=bool(kept))
        listed = {
            name: Stored(dtype=dtype or None, shape=list(here.shapes[name]) if here.shapes else None, file=file)
            for name, (dtype, file) in here.stored.items()
        }
        return _summary(here, config, naming, found, number), listed


def _summary(here: Here, config: Mapping[str, Any], naming: str, found: list[Difference], number: _Numbers) -> Summary:
    layers, heads, kv_heads, head_size = number.layers, number.heads, number.kv_heads, number.head_size
    family = _family(config, here, naming, found)
    rotary = config.get("rope_parameters") or config.get("rope_scaling")
    theta = config.get("rope_theta", rotary.get("rope_theta") if isinstance(rotary, dict) else None)
    if theta is None and family == "llama" and config:
        theta = 10_000.0
    model, notes = _as_llama(config, family)
    count = _Count(here, naming, model, config)
    per_token = 4 * layers * kv_heads * head_size if layers and kv_heads and head_size else None
    if here.metadata:
        tokenizer, unread = tokens.of_gguf(here.metadata, config), list[str]()
    else:
        tokenizer, unread = tokens.look(here.folder, config)
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
        tied_embeddings=_tied(config, here, naming),
        parameters=count.all,
        tensors=len(here.names),
        bytes=here.bytes,
        dtypes=here.dtypes,
        remote_code=[] if here.metadata else _remote_code(here),
        kv_bytes_per_token=per_token,
        notes=here.notes + _known_otherwise(here) + notes + count.notes + unread,
        format=here.kind,
        files=len(here.files),
        unmapped=names.unmapped(here.names, "llama" if naming == names.UNKNOWN else naming),
        embedding_parameters=count.embedding,
        layer_parameters=count.layer,
        tokenizer=tokenizer,
        license=_license(here),
        serving_bytes=_serving(count, per_token),
    )


class _Numbers:
    """The sizes in a config under LLaMA's keys; what isn't a number above 0 isn't said."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        def said(key: str) -> int | None:
            value = config.get(key)
            return value if type(value) is int and value > 0 else None

        self.layers = said("num_hidden_layers")
        self.hidden_size = said("hidden_size")
        self.heads = said("num_attention_heads")
        self.kv_heads = said("num_key_value_heads") or self.heads
        derived = self.hidden_size // self.heads if self.hidden_size and self.heads else None
        self.head_size = said("head_dim") or derived
        self.intermediate_size = said("intermediate_size")
        self.vocab_size = said("vocab_size")
        self.max_positions = said("max_position_embeddings")


def _config_by_shapes(here: Here, naming: str) -> dict[str, int]:
    """What the shapes alone say, for files without a config; how a layer is cut into heads they don't."""
    if naming == names.UNKNOWN or not here.shapes:
        return {}
    templates = {names.numbered(name): shape for name, shape in here.shapes.items()}
    found = {"num_hidden_layers": len({number for (template, number) in templates if ".N." in template})}
    first = {template: shape for (template, _), shape in reversed(templates.items())}
    for template, parts in names.held(naming).items():
        shape = first.get(template, ())
        if parts == ("model.embed_tokens.weight",):
            found |= dict(zip(("vocab_size", "hidden_size"), shape, strict=False))
        elif parts[0].endswith("gate_proj.weight") and shape:
            found |= {"intermediate_size": shape[0] // len(parts)}
    return found


def _family(config: Mapping[str, Any], here: Here, naming: str, found: list[Difference]) -> str:
    claimed = config.get("model_type")
    # without tensors the name alone can say that no custom code computes something else
    if not found and (naming != names.UNKNOWN or (not here.names and claimed in ("llama", "Yi"))):
        return "llama"
    if not isinstance(claimed, str) or claimed in ("", "llama", "Yi"):
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


def _by_names(stored: list[str], naming: str, layers: int | None) -> list[Difference]:
    """Departures that the tensor names show, each with the first tensor that shows it."""
    found = []
    known = naming != names.UNKNOWN
    shown = names.unmapped(stored, naming) if known else stored
    for pattern, topic, says, expected in _SIGNS[1:] if known else _SIGNS:  # what a known scheme joins can be cut
        if first := next((name for name in shown if re.search(pattern, name)), None):
            found.append(Difference(topic, first, says, expected))
    return found + (_norms_in_no_layer(stored, naming, layers) if known and not found else [])


def _norms_in_no_layer(stored: Iterable[str], naming: str, layers: int | None) -> list[Difference]:
    """Norms that LLaMA has and no layer of these, where tensors of all `layers` are stored (not one shard's)."""
    inside = [names.numbered(name) for name in stored]
    if len({number for template, number in inside if ".N." in template}) != layers:
        return []
    held = names.held(naming)
    present = {llama for template, _ in inside for llama in held.get(template, ())}
    norms = [llama for llama in LLAMA if ".N." in llama and "layernorm" in llama and llama not in present]
    return [
        Difference("normalisation", norm.partition(".N.")[2], "is in no layer", "two norms a layer") for norm in norms
    ]


def _scaling(rotary: Any) -> dict[str, Any] | None:
    if not isinstance(rotary, dict):
        return None
    scaling = {key: value for key, value in rotary.items() if key not in ("rope_theta", "type", "rope_type")}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    return None if kind == "default" else {"rope_type": kind, **scaling}


def _tied(config: Mapping[str, Any], here: Here, naming: str) -> bool | None:
    claimed = config.get("tie_word_embeddings")
    if isinstance(claimed, bool):
        return claimed
    if not here.names or naming == names.UNKNOWN:
        return None
    return names.SCHEMES[naming].places["lm_head.weight"].name not in here.names


def _known_otherwise(here: Here) -> list[str]:
    skipped = [name for name in here.names if names.SKIPPED.fullmatch(name)]
    kinds = sorted({names.numbered(name)[0].rpartition(".N.")[2] for name in skipped})
    notes = [f"{len(skipped)} computed constants are stored ({', '.join(kinds)}); loaders skip them"] if skipped else []
    if here.config.get("model_type") == "qwen":
        notes.append("Qwen's intermediate_size is that of gate and up together")
    if "dim" in here.config and "max_position_embeddings" not in here.config and "max_seq_len" not in here.config:
        notes.append("the config states no length; the context is what Llama 1, 2, 3 or 3.1 with such numbers has")
    return notes + ([] if here.config else ["no config.json: activation, heads and positions are unknown"])


def _as_llama(config: Mapping[str, Any], family: str) -> tuple[ModelConfig | None, list[str]]:
    """The config as a LLaMA's, whatever its name: its tensors are those, but for what is listed as a difference."""
    if not config:
        return None, []
    try:
        return as_llama(config), []
    except ZhenError as error:
        return None, [f"config.json: {error.text()}"] if family == "llama" else []


class _Count:
    """Parameters: all, of the embedding, of the first layer, of all layers; and where config disagrees."""

    def __init__(self, here: Here, naming: str, model: ModelConfig | None, config: Mapping[str, Any]) -> None:
        self.all: int | None = None
        self.embedding: int | None = None
        self.layer: int | None = None
        self.inside = 0
        self.notes: list[str] = []
        if here.shapes is not None:
            self._of({name: shape for name, shape in here.shapes.items() if not names.SKIPPED.fullmatch(name)}, naming)
            if model:
                self.notes = _against_config(here, naming, shapes(model))
        elif model:
            self._of(shapes(model), "llama")
            if names.unmapped(here.names, naming) if naming != names.UNKNOWN else here.names:
                self._by_bytes(here, config)
        elif here.bytes:
            self._by_bytes(here, config)

    def _of(self, stored: Mapping[str, tuple[int, ...]], naming: str) -> None:
        sizes = {name: prod(shape) for name, shape in stored.items()}
        numbers = {name: number for name in sizes if (number := names.numbered(name)[1])}
        self.all = sum(sizes.values())
        self.inside = sum(sizes[name] for name in numbers)
        if numbers:
            first = min(numbers.values(), key=int)
            self.layer = sum(sizes[name] for name, number in numbers.items() if number == first)
        place = names.SCHEMES[naming].places.get("model.embed_tokens.weight") if naming in names.SCHEMES else None
        self.embedding = sizes.get(place.name) if place else None

    def _by_bytes(self, here: Here, config: Mapping[str, Any]) -> None:
        """From an index's total and the width of a number: the config's dtype, or what makes it about a LLaMA's."""
        total, number = here.bytes or 0, _Numbers(config)
        width = {"F32": 4, "BF16": 2, "F16": 2}.get(next(iter(here.dtypes), ""))
        if width is None and self.all:
            width = next((width for width in (4, 2, 1) if abs(total / width / self.all - 1) < 0.02), None)
        self.all = self.embedding = self.layer = None
        if width is None or not total:
            return
        self.all = total // width
        self.notes.append(f"parameters: the index's {total:,} bytes, {width} a number")
        if not (number.vocab_size and number.hidden_size and number.layers):
            return
        self.embedding = number.vocab_size * number.hidden_size
        outside = [name for name in here.names if not names.numbered(name)[1]]
        vectors = [name for name in outside if re.search(r"norm|ln_f", name)]
        apart = (len(outside) - len(vectors)) * self.embedding + len(vectors) * number.hidden_size
        self.inside = self.all - apart
        self.layer = self.inside // number.layers if self.inside % number.layers == 0 else None


def _against_config(here: Here, naming: str, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Where the tensors that LLaMA has are others than config.json's."""
    if naming == names.UNKNOWN or here.shapes is None:
        return []
    places, held = names.SCHEMES[naming].places, names.held(naming)
    due: dict[str, tuple[int, ...]] = {}
    for llama, shape in expected.items():
        template, number = names.numbered(llama)
        if template in places:
            name = names.at_layer(places[template].name, number)
            due[name] = (due.get(name, (0,))[0] + shape[0], *shape[1:])
    found = {name: shape for name, shape in here.shapes.items() if names.numbered(name)[0] in held}
    notes = [
        f"{name} has shape {list(found[name])}, config.json says {list(shape)}"
        for name, shape in due.items()
        if name in found and found[name] != shape
    ]
    notes = notes[:3] + ([f"{len(notes) - 3} more shapes differ"] if len(notes) > 3 else [])
    for text, missing in (("missing", due.keys() - found.keys()), ("not in config.json", found.keys() - due.keys())):
        if missing:
            notes.append(f"{len(missing)} tensor{'s' * (len(missing) > 1)} {text}, the first {min(missing)}")
    return notes


def _serving(count: _Count, per_token: int | None) -> dict[str, dict[str, int]] | None:
    if count.all is None or per_token is None:
        return None
    inside = count.inside
    return {
        str(length): {
            str(bits): quantised_bytes(inside, count.all - inside, bits) + length * per_token for bits in WIDTHS
        }
        for length in LENGTHS
    }


def _license(here: Here) -> str | None:
    said = here.metadata.get("general.license")
    if here.metadata:
        return said if isinstance(said, str) else None
    if found := licences.stated(here.folder):
        return f"{found} (README.md)"
    return next((f"see {file.name}" for file in licences.files(here.folder)), None)


def _remote_code(here: Here) -> list[str]:
    """Each auto_map entry of the configs and each Python file: code that a loader with trust_remote_code would run."""
    tables: dict[str, Mapping[str, Any]] = {"config.json": here.config}
    tokenizer = here.folder / "tokenizer_config.json"
    if tokenizer.exists() and isinstance(value := strictjson.read(tokenizer), dict):
        tables[tokenizer.name] = value
    found = []
    for file, table in tables.items():
        mapped = table.get("auto_map")
        if isinstance(mapped, dict):
            found += [f"{file} auto_map {key}: {value}" for key, value in mapped.items()]
        elif mapped:
            found.append(f"{file} auto_map: {mapped}")
    return found + sorted(path.name for path in here.folder.glob("*.py"))
