"""The tokenizer in a checkpoint's folder as its files describe it: tokens, scores, kinds, roles; no library needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zhen.checkpoint import sentencepiece_model as spm
from zhen.checkpoint import strictjson
from zhen.checkpoint.sentencepiece_model import Piece
from zhen.errors import ZhenError

FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""The files that belong to a tokenizer."""

ROLES = ("bos", "eos", "unk", "pad")

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_BYTES = ("ByteLevel", False)
CUTS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "gpt-2": (("ByteLevel", True),),
    "llama-bpe": (("Split", _WORDS), _BYTES),
    "smaug-bpe": (("Split", _WORDS), _BYTES),
    "qwen2": (("Split", _WORDS.replace("{1,3}", "")), _BYTES),
    "falcon": (("Punctuation", None), ("ByteLevel", True), ("Digits", False), ("Split", "[0-9][0-9][0-9]")),
}
"""llama.cpp's name for a way to cut text before merging -> the steps in tokenizer.json that it stands for. "llama-bpe"
and "smaug-bpe" differ in `ignore_merges` alone."""


class Tokenizer(NamedTuple):
    """What the files say, in GGUF's terms."""

    model: str
    """"llama" for SentencePiece's BPE, "gpt2" for byte-level BPE."""
    pieces: list[Piece]
    """By id; the score means something for "llama" alone."""
    merges: list[str]
    """For "gpt2": "left right"."""
    pre: str
    """How text is cut before merging, one of CUTS, "default" for "llama"."""
    special: dict[str, int]
    """Role, one of ROLES -> id."""
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool
    templates: dict[str, str]
    """Name -> chat template; "default" is the one."""
    notes: list[str]


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of `folder`, None where there are no files of one; `config` is config.json's table.

    Raises ZhenError for a kind that GGUF has no words for, and for files that aren't as transformers writes them.
    """
    try:
        return _read(folder, config)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        found = f"a tokenizer's files that don't fit ({type(error).__name__}: {error})"
        raise ZhenError(
            found, expected="tokenizer.json and its configs as transformers writes them", file=folder
        ) from error


def _read(folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
    settings, names = (_table(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    file, fast = folder / "tokenizer.model", folder / "tokenizer.json"
    table = _table(fast)
    if file.exists() and not _ranks(file):
        model = spm.parse(file.read_bytes(), file)
        made = Tokenizer(
            "llama", model.pieces, [], "default", model.special, True, False,
            _said(settings, "add_prefix_space", model.add_dummy_prefix), model.remove_extra_whitespaces, {}, [],
        )  # fmt: skip
        if model.normalises:
            made.notes.append("tokenizer.model changes characters before cutting them (its charsmap); llama.cpp won't")
        if model.remove_extra_whitespaces:
            made.notes.append("tokenizer.model joins spaces that follow each other; llama.cpp won't")
    elif table:
        made = _from_json(table, fast, settings)
    elif file.exists():
        expected = "a SentencePiece model, or tokenizer.json beside it"
        raise ZhenError("a list of ranks (tiktoken)", expected=expected, file=file)
    else:
        return None
    pieces = _with_added(made.pieces, settings, folder, table if made.model == "gpt2" or not file.exists() else {})
    return _with_roles(
        made._replace(pieces=pieces, templates=_templates(folder, settings)), settings, names, config, table
    )


def _from_json(table: Mapping[str, Any], file: Path, settings: Mapping[str, Any]) -> Tokenizer:
    model = table.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise ZhenError(f"a tokenizer of type {kind!r}", expected="BPE", file=file, place="model.type")
    vocab: dict[str, int] = model["vocab"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model.get("merges", [])]
    tokens = _by_id(vocab, file)
    if model.get("byte_fallback"):
        return _like_sentencepiece(table, tokens, merges, settings)
    pre = _cut(table.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    if pre is None:
        raise ZhenError(
            "text is cut before merging in a way that llama.cpp has no name for that is known here",
            expected="that of " + ", ".join(CUTS),
            file=file,
            place="pre_tokenizer",
        )
    if bad := next((merge for merge in merges if len(merge) != 2 or any(" " in half for half in merge)), None):
        raise ZhenError(f"merge {bad!r}", expected="two pieces without a space", file=file, place="model.merges")
    pieces = [Piece(text, 0.0, spm.NORMAL if text in vocab else spm.UNUSED) for text in tokens]
    joined = [" ".join(merge) for merge in merges]
    return Tokenizer("gpt2", pieces, joined, pre, {}, False, False, False, False, {}, [])


def _like_sentencepiece(
    table: Mapping[str, Any], tokens: list[str], merges: list[tuple[str, ...]], settings: Mapping[str, Any]
) -> Tokenizer:
    """A SentencePiece model that lies in tokenizer.json alone: a piece's score falls with the rank of its merge."""
    ranks: dict[str, int] = {}
    apart = set()
    last = ""
    for rank, merge in enumerate(merges):
        whole = "".join(merge)
        if whole in ranks and whole != last:
            apart.add(whole)
        ranks.setdefault(whole, rank)
        last = whole
    worst = float(-len(merges) - 1)
    pieces = []
    for text in tokens:
        byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        kind = spm.BYTE if byte else spm.UNKNOWN if text == table["model"].get("unk_token") else spm.NORMAL
        pieces.append(Piece(text, -float(ranks[text]) if text in ranks else 0.0 if kind > 1 else worst, kind))
    steps = (table.get("normalizer") or {}).get("normalizers", [table.get("normalizer") or {}])
    prefix = any(step.get("type") == "Prepend" for step in steps)
    notes = ["scores of pieces are the order of tokenizer.json's merges"]
    if apart:
        notes.append(f"{len(apart)} pieces have merges far apart in rank; a text with them may be cut otherwise")
    prefix = _said(settings, "add_prefix_space", prefix)
    return Tokenizer("llama", pieces, [], "default", {}, True, False, prefix, False, {}, notes)


def _cut(pre: Any, ignore_merges: bool) -> str | None:
    """llama.cpp's name for tokenizer.json's `pre_tokenizer`."""
    if not isinstance(pre, dict):
        return None
    steps = []
    for step in pre.get("pretokenizers", [pre]):
        kind = step.get("type")
        pattern = (step.get("pattern") or {}).get("Regex")
        detail = {"ByteLevel": step.get("use_regex", True), "Split": pattern, "Digits": step.get("individual_digits")}
        steps.append((kind, detail.get(kind)))
    found = [name for name, known in CUTS.items() if known == tuple(steps)]
    return "smaug-bpe" if "smaug-bpe" in found and not ignore_merges else found[0] if found else None


def _by_id(vocab: Mapping[str, int], file: Path) -> list[str]:
    """The tokens in the order of their ids; ids that nothing has get a name that no text has."""
    by_id = {index: text for text, index in vocab.items()}
    if len(by_id) < len(vocab) or any(type(index) is not int or not 0 <= index < 1 << 24 for index in by_id):
        raise ZhenError("an id twice, or no id", expected="an id of its own a token", file=file, place="model.vocab")
    return [by_id.get(index, f"[UNUSED{index}]") for index in range(max(by_id, default=-1) + 1)]


def _with_added(
    pieces: list[Piece], settings: Mapping[str, Any], folder: Path, table: Mapping[str, Any]
) -> list[Piece]:
    """The pieces with added tokens, which are cut out of a text first."""
    added: dict[int, tuple[str, bool]] = {
        index: (text, True) for text, index in _table(folder / "added_tokens.json").items() if type(index) is int
    }
    listed = [(item.get("id"), item) for item in table.get("added_tokens", [])]
    decoder = settings.get("added_tokens_decoder")
    listed += [(int(key), item) for key, item in (decoder or {}).items() if key.isdecimal()]
    added |= {
        index: (str(item.get("content")), bool(item.get("special")))
        for index, item in listed
        if type(index) is int and 0 <= index < 1 << 24
    }
    made = list(pieces)
    for index, (text, special) in sorted(added.items()):
        made += [Piece(f"[UNUSED{at}]", 0.0, spm.UNUSED) for at in range(len(made), index)]
        kind = spm.CONTROL if special else spm.USER_DEFINED
        if index == len(made):
            made.append(Piece(text, 0.0, kind))
        elif text != made[index].text or made[index].kind in (spm.NORMAL, spm.UNUSED):
            made[index] = Piece(text, made[index].score, kind)
    return made


def _with_roles(
    made: Tokenizer,
    settings: Mapping[str, Any],
    names: Mapping[str, Any],
    config: Mapping[str, Any],
    table: Mapping[str, Any],
) -> Tokenizer:
    ids = {piece.text: index for index, piece in reversed(list(enumerate(made.pieces)))}
    special = dict(made.special)
    for role in ROLES:
        name = settings.get(f"{role}_token") or names.get(f"{role}_token")
        name = name.get("content") if isinstance(name, dict) else name
        index = ids.get(name) if isinstance(name, str) else None
        if index is None and role not in special:
            index = config.get(f"{role}_token_id")
            index = index[0] if isinstance(index, list) and index else index
        if type(index) is int and 0 <= index < len(made.pieces):
            special[role] = index
    # LLaMA's tokenizer adds the start where nothing is said; others do what tokenizer.json's template says
    template = (table.get("post_processor") or {}) if made.model == "gpt2" else None
    starts = made.model == "llama" if template is None else _starts(template, made, special)
    add_bos = _said(settings, "add_bos_token", starts)
    notes = list(made.notes)
    if settings.get("add_bos_token") is None and made.model == "llama":
        notes.append("tokenizer_config.json doesn't state add_bos_token: true, as transformers takes it")
    return made._replace(special=special, add_bos=add_bos, add_eos=_said(settings, "add_eos_token", False), notes=notes)


def _starts(template: Mapping[str, Any], made: Tokenizer, special: Mapping[str, int]) -> bool:
    """Whether a post-processor of tokenizer.json puts the start of text before a text."""
    for step in template.get("processors", [template]):
        first = (step.get("single") or [{}])[0].get("SpecialToken", {}).get("id")
        if first is not None and "bos" in special and first == made.pieces[special["bos"]].text:
            return True
    return False


def _templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    file = folder / "chat_template.jinja"
    if file.exists():
        return {"default": file.read_text(encoding="utf-8")}
    value = settings.get("chat_template")
    if isinstance(value, str):
        return {"default": value}
    listed = value if isinstance(value, list) else []
    return {str(item.get("name")): str(item.get("template")) for item in listed if isinstance(item, dict)}


def _said(settings: Mapping[str, Any], key: str, otherwise: bool) -> bool:
    value = settings.get(key)
    return value if isinstance(value, bool) else otherwise


def _table(file: Path) -> dict[str, Any]:
    value = strictjson.read(file) if file.exists() else {}
    return value if isinstance(value, dict) else {}


def _ranks(file: Path) -> bool:
    """Whether the file is tiktoken's: lines of base64 and a rank."""
    with file.open("rb") as opened:
        first = opened.readline(200).split()
    return len(first) == 2 and first[1].isdigit()
