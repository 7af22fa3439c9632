"""What each tensor is under a naming that no scheme knows: all maps to LLaMA's names that fit, and what decides."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from zhen.checkpoint.by_weights import Balance
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.templates import Template, templates
from zhen.errors import ZhenError

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_LAYER = "model.layers.N."
_Q, _K, _V, _O = (f"{_LAYER}self_attn.{part}_proj.weight" for part in "qkvo")
_GATE, _UP, _DOWN = (f"{_LAYER}mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
_MATRICES = (_Q, _K, _V, _O, _GATE, _UP, _DOWN)
NORMS = (f"{_LAYER}input_layernorm.weight", f"{_LAYER}post_attention_layernorm.weight")

CONFIRMED = 5.0
"""Standard errors by which the weights must speak for the order of the norms."""
SHOWN = 4
"""Maps that are listed where nothing decides between them."""

Map = Mapping[str, str]
"""LLaMA's name, N being the layer's number -> the template that is it."""


class Losses(Protocol):
    """What the loss says; see by_loss.TextLosses, which needs torch."""

    def judge(self, found: Shapes) -> tuple[list[Map], str]:
        """The maps, best first, that the loss doesn't rule out, and what to say; none where it tells nothing."""
        ...


class Evidence(msgspec.Struct, frozen=True):
    """What was decided, by what, and how sure that is."""

    by: str
    """"shape", "words", "loss" or "weights"."""
    text: str


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """The maps that remain, best first. `certain`: there is one, and each choice in it was decided by evidence."""

    certain: bool
    maps: list[dict[str, str]]
    """Tensor's name -> LLaMA's name, for all tensors; at most SHOWN of them."""
    remaining: int
    """How many maps remain in all."""
    evidence: list[Evidence]
    open: list[str]
    """Choices that nothing decided: "gate_proj or up_proj: a.N.x, a.N.y"."""
    choices: list[dict[str, str]]
    """Of each of `maps` what is open: template -> LLaMA's name, N for the layer's number in both."""


class Shapes(NamedTuple):
    """All maps that names and shapes allow, and the templates that they are made of."""

    maps: list[Map]
    by_name: dict[str, Template]
    layers: int


def infer(checkpoint: Checkpoint, losses: Losses | None = None, given: Mapping[str, str] | None = None) -> Inference:
    """What the tensors of `checkpoint` are, by templates, shapes, config, the words in the names and, where `losses` is
    given, by the loss on text under each map that fits and by the weights. `given`: LLaMA's names of tensors that are
    known.

    Words may lie, so the loss is asked about all maps that fit and must agree. The norms change places with little
    loss, so the weights must agree with it. Raises ZhenError, with the tensors listed, where they can't be a LLaMA
    decoder's under other names.
    """
    found = by_shapes(checkpoint)
    if given:
        found = _with(found, given, checkpoint)
    maps, words = by_words(found.maps)
    evidence = [Evidence("shape", _said(found)), *words]
    if losses is not None:
        left, said = losses.judge(found)
        evidence.append(Evidence("loss", said))
        if left:
            left, said = _confirmed(left, Balance(checkpoint, found.by_name))
            evidence.append(Evidence("weights", said))
            both = [each for each in left if each in maps]
            if not both:
                evidence.append(Evidence("words", "contradicted by the loss or the weights"))
            maps = both or [*left, *(each for each in maps if each not in left)]
    return Inference(
        certain=len(maps) == 1,
        maps=[full_map(each, found.by_name) for each in maps[:SHOWN]],
        remaining=len(maps),
        evidence=evidence,
        open=[f"{' or '.join(map(short, roles))}: {', '.join(names)}" for roles, names in _choices(maps)],
        choices=[{each[role]: role for roles, _ in _choices(maps) for role in roles} for each in maps[:SHOWN]],
    )


def _with(found: Shapes, given: Mapping[str, str], checkpoint: Checkpoint) -> Shapes:
    """The maps under which the tensors in `given` are what it says."""
    template = {member: each.name for each in found.by_name.values() for member in each.members}
    wanted = {_LAYERED.sub(r"\1.N.", llama): template[name] for name, llama in given.items() if name in template}
    maps = [each for each in found.maps if all(each.get(role) == name for role, name in wanted.items())]
    if not maps:
        listed = ", ".join(f"{name} is {role}" for role, name in wanted.items())
        raise ZhenError(listed, expected="what the shapes allow", file=checkpoint.folder, place="--map")
    return found._replace(maps=maps)


def _confirmed(maps: Sequence[Map], balance: Balance) -> tuple[list[Map], str]:
    """The maps with those beside them in which the two norms change places, unless the weights confirm the order."""
    found: list[Map] = []
    errors = [balance.errors(each) for each in maps]
    for each, error in zip(maps, errors, strict=True):
        other = {**each, NORMS[0]: each[NORMS[1]], NORMS[1]: each[NORMS[0]]}
        pair = [each] if error >= CONFIRMED else [each, other] if error >= 0 else [other, each]
        found += [one for one in pair if one not in found]
    verdict = "confirmed" if errors[0] >= CONFIRMED else "not confirmed"
    return found, f"the order of the norms is {verdict} by the columns that read them, {errors[0]:+.1f} standard errors"


def full_map(chosen: Map, by_name: Mapping[str, Template]) -> dict[str, str]:
    """Tensor's name -> LLaMA's name, for all tensors of the templates chosen."""
    return {
        member: llama.replace(".N.", f".{number}.")
        for llama, template in chosen.items()
        for number, member in enumerate(by_name[template].members)
    }


def by_shapes(checkpoint: Checkpoint) -> Shapes:
    """Every map that templates, shapes and the sizes in config.json allow. Raises ZhenError where there is none."""
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    parts, alone = templates(shapes)
    _complete(checkpoint, parts, alone)
    (width,) = next(each.shape for each in alone if len(each.shape) == 1)
    tables = [each.name for each in alone if len(each.shape) == 2]
    outside = [dict(zip((EMBEDDING, HEAD), order, strict=False)) for order in itertools.permutations(tables)]
    norms = [each.name for each in parts if len(each.shape) == 1]
    final = next(each.name for each in alone if len(each.shape) == 1)
    matrices = [each for each in parts if len(each.shape) == 2]
    maps: list[Map] = [
        {**outer, NORM: final, **dict(zip(NORMS, pair, strict=True)), **inner}
        for outer in outside
        for pair in itertools.permutations(norms)
        for inner in _matrices(matrices, width, checkpoint.config or {})
    ]
    if not maps:
        listed = ", ".join(f"{each.name} {list(each.shape)}" for each in matrices)
        raise ZhenError(f"no way to read {listed}", expected="LLaMA's seven matrices a layer", file=checkpoint.folder)
    return Shapes(maps, {each.name: each for each in (*parts, *alone)}, len(parts[0].members))


def _complete(checkpoint: Checkpoint, parts: list[Template], alone: list[Template]) -> None:
    """Nine parts a layer and two or three tensors outside, of LLaMA's numbers of dimensions; nothing else."""
    width = {each.shape for each in (*parts, *alone) if len(each.shape) == 1}
    found = [sum(len(each.shape) == size for each in group) for group in (parts, alone) for size in (1, 2)]
    vocabulary = {each.shape for each in alone if len(each.shape) == 2}
    one_each = len(width) == 1 and len(vocabulary) == 1 and len(parts) + len(alone) == sum(found)
    if one_each and found[:3] == [2, 7, 1] and found[3] in (1, 2):
        return
    if not parts:
        raise ZhenError(
            "no number in the tensors' names counts the layers", expected="a number a layer", file=checkpoint.folder
        )
    listed = ", ".join(f"{each.name} {list(each.shape)}" for each in (*parts, *alone))
    raise ZhenError(
        f"{len(parts)} tensors a layer and {len(alone)} outside: {listed}",
        expected="LLaMA's nine a layer, two or three outside",
        file=checkpoint.folder,
        hint="fused or further tensors: `zhen inspect` says what the names show; `zhen convert` splits known schemes",
    )


def _matrices(parts: Sequence[Template], width: int, config: Mapping[str, Any]) -> Iterator[Map]:
    """Every way in which seven matrices are LLaMA's, by shape; hidden size, feed-forward size, heads as config says."""
    ffn, heads, kv_heads = (
        config.get(key) for key in ("intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    for order in itertools.permutations(parts):
        q, k, v, o, gate, up, down = (each.shape for each in order)
        if q[1] != width or k != v or k[1] != width or o != (width, q[0]) or gate != up or gate[1] != width:
            continue
        if down != (width, gate[0]) or k[0] > q[0] or q[0] % k[0]:
            continue
        if isinstance(ffn, int) and gate[0] != ffn:
            continue
        if isinstance(heads, int) and isinstance(kv_heads, int) and q[0] * kv_heads != k[0] * heads:
            continue
        yield {llama: each.name for llama, each in zip(_MATRICES, order, strict=True)}


_LAYERED = re.compile(r"^(model\.layers)\.\d+\.")
_WORD = re.compile(r"[A-Z]?[a-z\d]+|[A-Z\d]+")
_WORDS: dict[str, frozenset[str]] = {
    _Q: frozenset({"q", "query", "wq", "queries"}),
    _K: frozenset({"k", "key", "wk", "keys"}),
    _V: frozenset({"v", "value", "wv", "values"}),
    _O: frozenset({"o", "out", "output", "wo", "dense"}),
    _GATE: frozenset({"gate"}),
    _UP: frozenset({"up"}),
    _DOWN: frozenset({"down"}),
    EMBEDDING: frozenset({"embed", "embedding", "embeddings", "emb", "embd", "wte", "tok", "embeds"}),
    HEAD: frozenset({"head", "output", "unembed", "unembedding", "logits"}),
    NORMS[0]: frozenset({"input", "attention", "attn", "pre", "ln1", "norm1"}),
    NORMS[1]: frozenset({"post", "ffn", "mlp", "feed", "ln2", "norm2"}),
}
"""Words by which people call the parts. w1 and w3 decide nothing: w1 is the gate to one, the other half to another."""


def by_words(maps: Sequence[Map]) -> tuple[list[Map], list[Evidence]]:
    """The maps that agree with the words in the names, wherever they tell all templates of a choice apart."""
    evidence = []
    for roles, names in _choices(maps):
        told = {name: {role for role in roles if _words(name, names) & _WORDS.get(role, frozenset())} for name in names}
        pairs = {next(iter(found)): name for name, found in told.items() if len(found) == 1}
        if len(pairs) != len(names) or any(len(found) != 1 for found in told.values()):
            continue
        agreeing = [each for each in maps if all(each[role] == name for role, name in pairs.items())]
        if agreeing:
            maps = agreeing
            evidence.append(Evidence("words", ", ".join(f"{name} is {short(role)}" for role, name in pairs.items())))
    return list(maps), evidence


def _words(name: str, names: Sequence[str]) -> set[str]:
    """The words of a name that not every name of the choice has."""
    sets = {each: {word.lower() for word in _WORD.findall(each)} for each in names}
    words = sets[name] - set[str].intersection(*sets.values())
    return words - {"attention", "attn"} if "post" in words else words  # the norm behind it is named after it too


def _choices(maps: Sequence[Map]) -> list[tuple[list[str], list[str]]]:
    """The roles, and the templates for them, between which maps differ: those that change places with each other."""
    taken: dict[str, set[str]] = defaultdict(set)
    for each in maps:
        for role, name in each.items():
            taken[role].add(name)
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for role, names in taken.items():
        if len(names) > 1:
            groups[frozenset(names)].append(role)
    return [(roles, sorted(names)) for names, roles in groups.items()]


def short(role: str) -> str:
    """The telling part of LLaMA's name."""
    return role.removesuffix(".weight").rsplit(".", 1)[-1]


def _said(found: Shapes) -> str:
    count = len(found.maps)
    fits = "one map fits" if count == 1 else f"{count} maps fit"
    return f"{found.layers} layers of nine tensors by the numbers in the names; by shape and config {fits}"
