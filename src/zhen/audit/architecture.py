"""Checks of the weights' headers: LLaMA's names, the shapes that config.json asks for, one number format."""

from __future__ import annotations

from collections.abc import Iterator

from zhen.audit.finding import Finding, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.checkpoint.names import detect, to_llama
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""config.json's name of a number format -> safetensors' name."""

SHOWN = 4
"""So many tensors of one kind of fault are named; the rest is counted."""

_NAMES = "every tensor bears LLaMA's name"
_SHAPES = "the tensors are those that config.json asks for, in its shapes"
_DTYPE = "every tensor is stored in the number format that config.json names"
_CONFIG = "config.json describes a LLaMA decoder without code of its own"


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a LLaMA decoder of that configuration with its shape, [out, in] for matrices."""
    width, ffn = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (ffn, width),
        "mlp.up_proj": (ffn, width),
        "mlp.down_proj": (width, ffn),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for number in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (width,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes


def check_config(folder: Folder) -> Iterator[Finding]:
    """config.json is there and is a LLaMA decoder's."""
    if folder.config is not None:
        shape = folder.config
        yield holds(
            "config.llama",
            _CONFIG,
            f"{shape.num_hidden_layers} layers, width {shape.hidden_size}, {shape.num_attention_heads} heads, "
            f"{shape.num_key_value_heads} for keys and values, vocabulary {shape.vocab_size:,}",
        )
    elif folder.config_error:
        yield fails(
            "config.llama",
            _CONFIG,
            folder.config_error,
            fix="write the config.json of the model that this is",
            file="config.json",
        )
    else:
        yield unchecked("config.llama", _CONFIG, "there is no config.json", severity="error")


def check_tensors(folder: Folder) -> Iterator[Finding]:
    """Names, shapes and number format of the tensors, against each other and config.json; no tensor is read."""
    if folder.checkpoint is None:
        return
    tensors = folder.checkpoint.tensors
    scheme = detect(tensors)
    if scheme == "llama":
        yield holds("weights.names", _NAMES, f"{len(tensors)} tensors")
    else:
        other = [name for name in tensors if scheme and to_llama(name, scheme) != name]
        evidence = f"the names are {scheme}'s, {_some(other)}" if scheme else f"unknown names, {_some(list(tensors))}"
        yield fails(
            "weights.names",
            _NAMES,
            evidence,
            fix="zhen rename FOLDER --to llama" if scheme else "rename the tensors to LLaMA's names",
        )
        if not scheme:
            yield unchecked("weights.shapes", _SHAPES, "the names are unknown", severity="error")
            return
    if folder.config is None:
        yield unchecked("weights.shapes", _SHAPES, "config.json is missing or not LLaMA's", severity="error")
        return
    found = {to_llama(name, scheme): tuple(info.shape) for name, info in tensors.items()}
    yield from _compare(folder.config, found)
    yield from _dtype(folder)


def _compare(config: ModelConfig, found: dict[str, tuple[int, ...]]) -> Iterator[Finding]:
    expected = expected_shapes(config)
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    fix = "config.json and weights are of different models: fetch both from one place"
    if missing:
        yield fails("weights.missing", _SHAPES, f"{len(missing)} missing: {_some(missing)}", fix=fix)
    if extra:
        yield fails("weights.extra", _SHAPES, f"{len(extra)} not asked for: {_some(extra)}", fix=fix)
    if wrong:
        texts = [f"{name} is {list(found[name])} where {list(expected[name])} is due" for name in wrong]
        yield fails("weights.shapes", _SHAPES, f"{len(wrong)} of another shape: {_some(texts)}", fix=fix)
    if not (missing or extra or wrong):
        yield holds("weights.shapes", _SHAPES, f"{len(expected)} tensors, none missing, none more")


def _dtype(folder: Folder) -> Iterator[Finding]:
    assert folder.checkpoint is not None  # the caller looked
    try:
        config = folder.object("config.json")
    except ZhenError as error:
        yield unchecked("weights.dtype", _DTYPE, error.text())
        return
    named = {str(config[key]) for key in ("dtype", "torch_dtype") if config.get(key) is not None}
    stored: dict[str, int] = {}
    for info in folder.checkpoint.tensors.values():
        stored[info.dtype] = stored.get(info.dtype, 0) + 1
    seen = ", ".join(f"{count} in {name}" for name, count in sorted(stored.items()))
    if not named:
        yield unchecked("weights.dtype", _DTYPE, f"config.json names none; stored are {seen}", severity="note")
    elif {DTYPES.get(name, name) for name in named} == set(stored):
        yield holds("weights.dtype", _DTYPE, seen)
    else:
        says = " and ".join(sorted(named))
        yield fails(
            "weights.dtype",
            _DTYPE,
            f"config.json says {says}; stored are {seen}",
            fix="set dtype in config.json to what is stored",
            file="config.json",
        )


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
