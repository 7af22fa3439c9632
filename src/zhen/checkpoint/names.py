"""Naming schemes: where each of LLaMA's tensors lies in checkpoints of other names, and what is known of any name."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from zhen.checkpoint.schemes import SCHEMES as SCHEMES
from zhen.checkpoint.schemes import Scheme
from zhen.errors import ZhenError, did_you_mean

UNKNOWN = "unknown"

SKIPPED = re.compile(
    r"(model|gpt_neox)\.(layers\.\d+\.(self_attn|attention)\.)?rotary_emb\.inv_freq"
    r"|rope\.freqs|rope_freqs\.weight"
    r"|(gpt_neox\.layers\.\d+\.attention|transformer\.h\.\d+\.attn)\.(masked_)?bias"
)
"""Computed constants that older files carry: rotary frequencies, causal masks. Loaders leave them out."""

_NUMBER = re.compile(r"(?<=\.)(0|[1-9]\d*)(?=\.)", re.ASCII)


def detect(names: Iterable[str]) -> str:
    """The scheme that knows all of `names`, or "unknown". Computed constants decide nothing.

    Of several that do (one file of a model may hold just what two schemes name alike) it is the first of the table.
    """
    shapes = {numbered(name)[0] for name in names if not SKIPPED.fullmatch(name)}
    if not shapes:
        return UNKNOWN
    return next((scheme for scheme in SCHEMES if shapes <= known(scheme)), UNKNOWN)


@functools.cache
def known(scheme: str) -> frozenset[str]:
    """Every name of the scheme, N for the layer's number."""
    return scheme_of(scheme).others | held(scheme).keys()


@functools.cache
def held(scheme: str) -> Mapping[str, tuple[str, ...]]:
    """The scheme's name of each tensor that has a place -> LLaMA's names of what lies in it, in order."""
    return MappingProxyType(scheme_of(scheme).held())


def unmapped(names: Iterable[str], scheme: str) -> list[str]:
    """Those of `names` that have no place in LLaMA, in order; computed constants are left out."""
    places = held(scheme)
    return [name for name in names if numbered(name)[0] not in places and not SKIPPED.fullmatch(name)]


def rename(names: Iterable[str], source: str, target: str) -> dict[str, str]:
    """Name in scheme `source` -> name in scheme `target`, for all of `names`; computed constants keep theirs.

    Raises ZhenError listing the names without a place, and where more than names differs: tensors joined or cut, or
    the rows of queries and keys in another order.
    """
    names = list(names)
    refuse_unmapped(names, source)
    here = held(source)
    places = {parts: theirs for theirs, parts in held(target).items()}
    renamed = {}
    for name in names:
        shape, number = numbered(name)
        if shape not in here:
            renamed[name] = name
            continue
        parts = here[shape]
        if parts not in places or not same_rows(parts, source, target):
            why = f"tensors that differ in names only; {name} is joined, cut or ordered otherwise"
            hint = f"zhen convert CHECKPOINT --to {target} --out PATH"
            raise ZhenError(f"{source} to {target} is more than names", expected=why, hint=hint)
        renamed[name] = at_layer(places[parts], number)
    return renamed


def same_rows(parts: tuple[str, ...], source: str, target: str) -> bool:
    """Whether a tensor that holds `parts` of LLaMA's has its rows in the same order in both schemes."""
    one, other = scheme_of(source), scheme_of(target)
    rotated = any(part.endswith(("q_proj.weight", "k_proj.weight")) for part in parts)
    rules = {scheme.places[part].rule if part in scheme.places else None for scheme in (one, other) for part in parts}
    return len(rules) == 1 and (one.rotary == other.rotary or not rotated)


def refuse_unmapped(names: Iterable[str], scheme: str) -> None:
    """Raises ZhenError listing those of `names` that have no place in LLaMA."""
    if lost := unmapped(names, scheme):
        listed = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise ZhenError(f'{len(lost)} tensors without a name in "{scheme}": {listed}', expected="only known names")


def numbered(name: str) -> tuple[str, str]:
    """`name` with its layer's number replaced by N, an expert's by E, and the layer's number."""
    found = _NUMBER.search(name)
    if found:
        return _NUMBER.sub("E", _NUMBER.sub("N", name, count=1), count=1), found[0]
    return ("" if ".N." in name else name), ""  # the letter itself stands for no layer


def at_layer(template: str, number: str) -> str:
    """The name that `template` stands for in layer `number`."""
    return template.replace(".N.", f".{number}.")


def scheme_of(name: str) -> Scheme:
    """The scheme called `name`. Raises ZhenError with the nearest name."""
    if name not in SCHEMES:
        expected = "one of " + ", ".join(SCHEMES)
        raise ZhenError(f'naming scheme "{name}"', expected=expected, hint=did_you_mean(name, SCHEMES))
    return SCHEMES[name]
