"""Tensor names as data: a table a scheme, one-to-one with LLaMA's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from zhen.errors import ZhenError

_OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
_LAYER = (
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.v_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
)
_LLAMA = {f"model.layers.N.{part}": f"model.layers.N.{part}" for part in _LAYER} | {name: name for name in _OUTSIDE}

SCHEMES: dict[str, dict[str, str]] = {
    "llama": _LLAMA
    | {
        "model.layers.N.input_layernorm.weight": "model.layers.N.input_layernorm.weight",
        "model.layers.N.post_attention_layernorm.weight": "model.layers.N.post_attention_layernorm.weight",
    },
    # Yi's first release, November 2023: LLaMA's tensors with two norms renamed
    "yi": _LLAMA
    | {
        "model.layers.N.input_layernorm.weight": "model.layers.N.ln1.weight",
        "model.layers.N.post_attention_layernorm.weight": "model.layers.N.ln2.weight",
    },
}
"""Scheme -> LLaMA's name -> the scheme's name, N being the layer's number."""

UNKNOWN = "unknown"

SKIPPED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Computed constants that older files carry; loaders leave them out."""

_NUMBER = re.compile(r"(?<=\.)(0|[1-9]\d*)(?=\.)", re.ASCII)


def detect(names: Iterable[str]) -> str:
    """The scheme in which all of `names` are known, or "unknown". Names outside every scheme's table decide nothing."""
    shapes = {_numbered(name)[0] for name in names if not SKIPPED.fullmatch(name)}
    if not shapes:
        return UNKNOWN
    return next((scheme for scheme, table in SCHEMES.items() if shapes <= set(table.values())), UNKNOWN)


def to_llama(name: str, scheme: str) -> str:
    """LLaMA's name of the tensor that `scheme` calls `name`. Raises ZhenError if the scheme has no such name."""
    return rename([name], scheme, "llama")[name]


def from_llama(name: str, scheme: str) -> str:
    """What `scheme` calls the tensor that LLaMA calls `name`. Raises ZhenError if LLaMA has no such name."""
    return rename([name], "llama", scheme)[name]


def rename(names: Iterable[str], source: str, target: str) -> dict[str, str]:
    """Name in scheme `source` -> name in scheme `target`, for all of `names`. Raises ZhenError listing the unmapped."""
    for scheme in (source, target):
        if scheme not in SCHEMES:
            raise ZhenError(f'naming scheme "{scheme}"', expected="one of " + ", ".join(SCHEMES))
    back = {theirs: llama for llama, theirs in SCHEMES[source].items()}
    renamed, unmapped = {}, []
    for name in names:
        shape, number = _numbered(name)
        if shape in back:
            renamed[name] = SCHEMES[target][back[shape]].replace(".N.", f".{number}.")
        else:
            unmapped.append(name)
    if unmapped:
        listed = ", ".join(unmapped[:5]) + (", …" if len(unmapped) > 5 else "")
        raise ZhenError(f'{len(unmapped)} tensors without a name in "{source}": {listed}', expected="only known names")
    return renamed


def _numbered(name: str) -> tuple[str, str]:
    """`name` with its layer's number replaced by N, and the number."""
    found = _NUMBER.search(name)
    if found:
        return _NUMBER.sub("N", name, count=1), found[0]
    return ("" if ".N." in name else name), ""  # the letter itself stands for no layer
