"""What a LLaMA decoder is made of: ModelConfig under config.json's own names, presets, and config.json both ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Literal

import msgspec

from zhen.errors import ManyErrors, ZhenError, did_you_mean
from zhen.model.architecture import differences, rope_type

DTYPES = ("float32", "bfloat16", "float16")
"""Number formats that config.json may name for the weights."""

_MODEL_TYPES = ("llama", "Yi")
_ARCHITECTURES = ("LlamaForCausalLM", "YiForCausalLM")


class RopeScaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How rotary positions are stretched beyond the trained length; the names are config.json's."""

    rope_type: Literal["linear", "dynamic", "yarn", "llama3"]
    """linear: positions divided (arXiv 2306.15595); dynamic: base grows with the length (NTK); yarn: by frequency
    (arXiv 2309.00071); llama3: by wavelength (Llama 3.1)."""
    factor: float
    """By how much the length grows, at least 1."""
    original_max_position_embeddings: int | None = None
    """Length in tokens that was trained before stretching; yarn and llama3 need it."""
    low_freq_factor: float | None = None
    """llama3: waves longer than the trained length divided by this are stretched in full."""
    high_freq_factor: float | None = None
    """llama3: waves shorter than the trained length divided by this stay as they are."""
    beta_fast: float | None = None
    """yarn: rotations in the trained length above which a frequency stays; 32 when left out (section 3.2)."""
    beta_slow: float | None = None
    """yarn: rotations below which a frequency is stretched in full; 1 when left out (section 3.2)."""
    attention_factor: float | None = None
    """yarn: cosine and sine are multiplied by it; 0.1 ln(factor) + 1 when left out (section 3.4)."""
    mscale: float | None = None
    """yarn: with mscale_all_dim, another way to say attention_factor."""
    mscale_all_dim: float | None = None
    """yarn: see mscale."""
    truncate: bool | None = None
    """yarn: whether the two bounds are rounded to whole dimensions; true when left out."""

    def problems(self, max_position_embeddings: int) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for each impossible value."""
        if not (math.isfinite(self.factor) and self.factor >= 1):
            yield "rope_scaling.factor", f"{self.factor}", "a finite number of at least 1"
        original = self.original_max_position_embeddings
        if self.rope_type in ("yarn", "llama3") and (original is None or not 0 < original <= max_position_embeddings):
            yield (
                "rope_scaling.original_max_position_embeddings",
                f"{original}",
                f"1 to max_position_embeddings ({max_position_embeddings}) for {self.rope_type}",
            )
        if self.rope_type == "llama3":
            low, high = self.low_freq_factor, self.high_freq_factor
            if low is None or high is None or not 0 < low < high:
                yield "rope_scaling.low_freq_factor", f"{low}, high_freq_factor {high}", "0 < low < high"
        if self.rope_type == "yarn" and (self.beta_fast or 32) < (self.beta_slow or 1):
            yield "rope_scaling.beta_fast", f"{self.beta_fast}", f"at least beta_slow ({self.beta_slow or 1})"


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a LLaMA decoder. Names, and what a missing field means, are those of config.json."""

    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward part (SwiGLU: gate, up and down have this width)."""
    num_hidden_layers: int
    """Decoder layers."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int = 0
    """Key/value heads, each shared by heads / kv heads query heads; 0: as many as query heads (MHA), 1 is MQA."""
    head_dim: int = 0
    """Width of a head; 0: hidden_size / num_attention_heads."""
    vocab_size: int = 0
    """Tokens of the vocabulary; 0 leaves it to the tokenizer (no model can be built yet)."""
    max_position_embeddings: int
    """Length in tokens for which the model is trained."""
    rms_norm_eps: float = 1e-5
    """Added to the mean square inside RMSNorm (Llama 2, Yi)."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths (LLaMA)."""
    rope_scaling: RopeScaling | None = None
    """How positions are stretched; none when left out."""
    tie_word_embeddings: bool = False
    """Whether embedding and head are one matrix."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights (LLaMA, Yi)."""
    norm_place: Literal["pre", "post"] = "pre"
    """RMSNorm before each part (LLaMA) or after the residual sum; "post" is for ablations and can't be released."""
    bos_token_id: int | None = 1
    """Token that starts a text."""
    eos_token_id: int | None = 2
    """Token that ends a text."""
    pad_token_id: int | None = 0
    """Token for padding; Yi's is its <unk>."""

    def __post_init__(self) -> None:
        if self.num_key_value_heads == 0:
            msgspec.structs.force_setattr(self, "num_key_value_heads", self.num_attention_heads)
        if self.head_dim == 0 and self.num_attention_heads > 0:
            msgspec.structs.force_setattr(self, "head_dim", self.hidden_size // self.num_attention_heads)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for each impossible value or combination."""
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)}", "at least 1"
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if kv_heads < 1 or heads % kv_heads:
            yield "num_key_value_heads", f"{kv_heads}", f"a divisor of num_attention_heads ({heads})"
        if heads > 0 and self.hidden_size % heads:
            yield "hidden_size", f"{self.hidden_size}", f"a multiple of num_attention_heads ({heads})"
        if self.head_dim < 2 or self.head_dim % 2:
            yield "head_dim", f"{self.head_dim}", "an even number of at least 2 (rotary pairs)"
        if self.max_position_embeddings < 1:
            yield "max_position_embeddings", f"{self.max_position_embeddings}", "at least 1"
        for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                yield name, f"{getattr(self, name)}", "a finite number above 0"
        if self.vocab_size < 0:
            yield "vocab_size", f"{self.vocab_size}", "at least 0 (0: the tokenizer's)"
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(self, name)
            if token is not None and (token < 0 or (self.vocab_size and token >= self.vocab_size)):
                yield name, f"{token}", f"a token id below vocab_size ({self.vocab_size})"
        if self.rope_scaling is not None:
            yield from self.rope_scaling.problems(self.max_position_embeddings)


def check(config: ModelConfig, file: str | PathLike[str] | None = None) -> ModelConfig:
    """`config` itself, if a model can be built of it. Raises ZhenError naming every impossible value."""
    problems = list(config.problems())
    if config.vocab_size == 0:
        problems.append(("vocab_size", "0", "the size of the tokenizer's vocabulary"))
    errors = [ZhenError(found, expected=expected, file=file, place=field) for field, found, expected in problems]
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return config


def preset(name: str) -> ModelConfig:
    """The preset called `name`. Raises ZhenError with the nearest name."""
    if name not in PRESETS:
        raise ZhenError(
            f'unknown preset "{name}"',
            expected="one of " + ", ".join(PRESETS),
            place="model.preset",
            hint=did_you_mean(name, PRESETS),
        )
    return PRESETS[name]


def to_config_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The config.json of `config` with weights stored as `dtype` ("float32", "bfloat16", "float16").

    Rotary settings and dtype stand in both spellings: `rope_theta`, `rope_scaling`, `torch_dtype` (transformers 4)
    and `rope_parameters`, `dtype` (transformers 5). Raises ZhenError for post-norm, which LLaMA doesn't have.
    """
    check(config)
    if config.norm_place != "pre":
        raise ZhenError(
            'norm_place "post" has no LLaMA checkpoint',
            expected='"pre"',
            place="model.norm_place",
            hint="post-norm is for ablations only; evaluate it from its training checkpoint",
        )
    if dtype not in DTYPES:
        raise ZhenError(f'dtype "{dtype}"', expected="one of " + ", ".join(DTYPES), hint=did_you_mean(dtype, DTYPES))
    scaling = msgspec.to_builtins(config.rope_scaling) if config.rope_scaling else None
    # older readers look for "type", newer for "rope_type"
    old = {"type": scaling["rope_type"], **scaling} if scaling else None
    new = {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})}
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "dtype": dtype,
        "eos_token_id": config.eos_token_id,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "pad_token_id": config.pad_token_id,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": new,
        "rope_scaling": old,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def from_config_json(data: Mapping[str, Any], file: str | PathLike[str] | None = None) -> ModelConfig:
    """The ModelConfig of a parsed config.json, either spelling; missing keys mean what transformers takes them for.

    Of several `eos_token_id` the first is kept. Raises ZhenError, naming key, found and expected, where the file
    says something that isn't the LLaMA decoder (Yi's first names are: it is the same decoder), or is malformed.
    """
    named = [("model_type", data.get("model_type"), _MODEL_TYPES)]
    listed = data.get("architectures") or []
    named += [("architectures", item, _ARCHITECTURES) for item in (listed if isinstance(listed, list) else [listed])]
    for key, value, known in named:
        if value not in known:
            raise ZhenError(repr(value), expected=" or ".join(known), file=file, place=key)
    others = [ZhenError(d.found, expected=d.expected, file=file, place=d.place) for d in differences(data)]
    if others:
        raise others[0] if len(others) == 1 else ManyErrors(others)
    values = {name: data[name] for name in _PLAIN if data.get(name) is not None}
    values = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "vocab_size": 32000, **values}
    for name, default in (("bos_token_id", 1), ("eos_token_id", 2), ("pad_token_id", None)):
        token = data.get(name, default)
        values[name] = token[0] if isinstance(token, list) and token else token
    if values["pad_token_id"] == -1:  # how the first LLaMA conversions said "none"
        values["pad_token_id"] = None
    values |= _rotary(data, values["max_position_embeddings"], file)
    return check(_convert(values, file), file)


_PLAIN = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "initializer_range",
)


def _convert(values: Mapping[str, Any], file: str | PathLike[str] | None) -> ModelConfig:
    try:
        return msgspec.convert(values, ModelConfig)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.hidden_size`"
        text, _, place = str(error).partition(" - at ")
        raise ZhenError(
            text[0].lower() + text[1:],
            expected="the numbers of a LLaMA config.json",
            file=file,
            place=place.strip("`").removeprefix("$.") or None,
        ) from error


def _rotary(data: Mapping[str, Any], max_positions: Any, file: str | PathLike[str] | None) -> dict[str, Any]:
    """rope_theta and rope_scaling out of either spelling; both may be there if they say the same."""
    new, old = data.get("rope_parameters"), data.get("rope_scaling")
    for key, table in (("rope_parameters", new), ("rope_scaling", old)):
        if table is not None and not isinstance(table, Mapping):
            raise ZhenError(repr(table), expected="a table or null", file=file, place=key)
    bases = [table["rope_theta"] for table in (data, new, old) if table and table.get("rope_theta") is not None]
    for base in bases:
        if not isinstance(base, int | float) or isinstance(base, bool):
            raise ZhenError(repr(base), expected="a number", file=file, place="rope_theta")
    thetas = {float(base) for base in bases}
    scalings = [_scaling(table, max_positions) for table in (new, old) if table]
    if len(thetas) > 1 or (len(scalings) == 2 and scalings[0] != scalings[1]):
        raise ZhenError(
            f"two rotary settings, {new} and {old} with rope_theta {data.get('rope_theta')}",
            expected="rope_parameters and rope_theta/rope_scaling that agree",
            file=file,
            place="rope_parameters",
        )
    found: dict[str, Any] = {"rope_theta": thetas.pop()} if thetas else {}
    if scalings and scalings[0]:
        found["rope_scaling"] = scalings[0]
    return found


def _scaling(table: Mapping[str, Any], max_positions: Any) -> dict[str, Any]:
    """The fields of RopeScaling in a rotary table, {} for no scaling."""
    kind = rope_type(table)
    if kind == "default":
        return {}
    known = {field: table[field] for field in RopeScaling.__struct_fields__ if table.get(field) is not None}
    if kind in ("yarn", "llama3"):
        known.setdefault("original_max_position_embeddings", max_positions)
    return {**known, "rope_type": kind}


def _shape(hidden: int, ffn: int, layers: int, heads: int, kv: int, positions: int, **more: Any) -> ModelConfig:
    return ModelConfig(
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        max_position_embeddings=positions,
        **more,
    )


_YI: dict[str, Any] = {"vocab_size": 64000, "rope_theta": 5e6}
_LLAMA_1: dict[str, Any] = {"vocab_size": 32000, "rms_norm_eps": 1e-6, "pad_token_id": None}
_LLAMA_2: dict[str, Any] = {"vocab_size": 32000, "pad_token_id": None}

PRESETS: dict[str, ModelConfig] = {
    # ours; the vocabulary is the tokenizer's
    "micro": _shape(32, 96, 2, 2, 1, 128, tie_word_embeddings=True),
    "tiny-1m": _shape(128, 352, 4, 4, 2, 256, tie_word_embeddings=True),
    "tiny-l": _shape(256, 704, 8, 8, 4, 512, tie_word_embeddings=True),
    "gpu-160m": _shape(768, 2048, 18, 12, 4, 2048, rope_theta=5e5),
    # arXiv 2403.04652 table 1; the first release's config.json
    "yi-6b": _shape(4096, 11008, 32, 32, 4, 4096, **_YI),
    "yi-6b-200k": _shape(4096, 11008, 32, 32, 4, 200_000, **{**_YI, "rope_theta": 1e7}),
    "yi-9b": _shape(4096, 11008, 48, 32, 4, 4096, vocab_size=64000, rope_theta=1e4, rms_norm_eps=1e-6),
    "yi-34b": _shape(7168, 20480, 60, 56, 8, 4096, **_YI),
    "yi-34b-200k": _shape(7168, 20480, 60, 56, 8, 200_000, **{**_YI, "rope_theta": 1e7}),
    # arXiv 2302.13971 table 2
    "llama-7b": _shape(4096, 11008, 32, 32, 32, 2048, **_LLAMA_1),
    "llama-13b": _shape(5120, 13824, 40, 40, 40, 2048, **_LLAMA_1),
    "llama-33b": _shape(6656, 17920, 60, 52, 52, 2048, **_LLAMA_1),
    "llama-65b": _shape(8192, 22016, 80, 64, 64, 2048, **{**_LLAMA_1, "rms_norm_eps": 1e-5}),
    # arXiv 2307.09288
    "llama-2-7b": _shape(4096, 11008, 32, 32, 32, 4096, **_LLAMA_2),
    "llama-2-13b": _shape(5120, 13824, 40, 40, 40, 4096, **_LLAMA_2),
    "llama-2-70b": _shape(8192, 28672, 80, 64, 8, 4096, **_LLAMA_2),
}
"""Published shapes and ours by name. Those of ours leave the vocabulary to the tokenizer."""
