"""Checks of the weights' headers: LLaMA's names, the shapes that config.json asks for, one number format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from zhen.audit.adapter import CONFIG, WEIGHTS
from zhen.audit.finding import Finding, Severity, counted, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.checkpoint.names import SKIPPED, UNKNOWN, detect, rename, unmapped
from zhen.checkpoint.packed import packed, whole_tensors
from zhen.checkpoint.reader import INDEX
from zhen.checkpoint.stored import Checkpoint
from zhen.errors import ZhenError
from zhen.model.size import shapes

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""config.json's name of a number format -> safetensors' name."""

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

SHOWN = 4
"""So many tensors of one kind of fault are named; the rest is counted."""

_FETCH = "config.json and weights are of different models: fetch both from one place"
_NAMES = "every tensor bears LLaMA's name"
_SHAPES = "the tensors are those that config.json asks for, in its shapes"
OTHER_WEIGHTS = (".safetensors", ".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".npz", "adapter_config.json")
"""Ends of names of files with weights, or of adapters, which loaders put on top of the weights unasked."""

_ONE_SET = "the weights that were checked are the only ones here"
_PACKED = "packed matrices have all their parts, and these fit each other"
_DTYPE = "every tensor is stored in the number format that config.json names"
_CONFIG = "config.json describes a LLaMA decoder without code of its own"


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
    try:
        whole = whole_tensors(folder.checkpoint)
    except ZhenError as error:
        yield fails("weights.packed", _PACKED, error.text(), fix=_FETCH)
        return
    tensors = {name: info for name, info in whole.items() if not SKIPPED.fullmatch(name)}
    scheme = detect(tensors)
    others = [name for name in tensors if detect([name]) != "llama"]
    names = _by_llama_name(tensors, scheme)
    if scheme == "llama":
        yield holds("weights.names", _NAMES, f"{len(tensors)} tensors")
    elif scheme == UNKNOWN or unmapped(tensors, scheme):
        evidence = f"{len(others)} not LLaMA's: {_some(others)}"
        yield fails("weights.names", _NAMES, evidence, fix="give the tensors LLaMA's names")
    else:
        evidence = f"{len(others)} have {scheme}'s names: {_some(others)}"
        verb = "rename" if names else "convert"
        yield fails("weights.names", _NAMES, evidence, fix=f"zhen {verb} FOLDER --to llama")
    if folder.config is None:
        yield unchecked("weights.shapes", _SHAPES, "config.json is missing or not LLaMA's", severity="error")
        return
    if folder.config.num_hidden_layers > len(tensors):
        evidence = f"config.json asks for {folder.config.num_hidden_layers:,} layers; there are {len(tensors)} tensors"
        yield fails("weights.missing", _SHAPES, evidence, fix=_FETCH)
        return
    known = names or {name: name for name in tensors if name not in others}
    found = {llama: tuple(tensors[name].shape) for name, llama in known.items()}
    if folder.config.tie_word_embeddings and HEAD in found and _head_is_embedding(folder.checkpoint):
        del found[HEAD]
    yield from _compare(shapes(folder.config), found, whole=names is not None)
    yield from _dtype(folder)


def _by_llama_name(tensors: Iterable[str], scheme: str) -> dict[str, str] | None:
    """Name -> LLaMA's name; None where some have none, or are other tensors than LLaMA's."""
    try:
        return None if scheme == UNKNOWN else rename(tensors, scheme, "llama")
    except ZhenError:
        return None


def check_one_set(folder: Folder) -> Iterator[Finding]:
    """No second set of weights, no adapter, no shard beside the index: some loader would take what no check saw.

    A release's own adapter in a folder of its own is none of them: `check_adapter` and the record speak for it.
    """
    if folder.checkpoint is None or not folder.root.is_dir():
        return
    used = {file.name for file in folder.checkpoint.files}
    apart = {WEIGHTS, CONFIG} if folder.is_release else set[str]()
    others = [name for name in folder.files if name.lower().endswith(OTHER_WEIGHTS) and name not in used | apart]
    severity: Severity = "error" if folder.is_release else "warning"
    if others:
        evidence = f"{len(others)} more: {_some(others)}"
        yield fails("weights.only", _ONE_SET, evidence, fix="remove them", file=others[0], severity=severity)
    if stated := [note for note in folder.checkpoint.notes if "total_size" in note]:
        yield fails("weights.only", _ONE_SET, stated[0], fix="write the index again", file=INDEX, severity=severity)
    if not others and not stated:
        yield holds("weights.only", _ONE_SET, counted(len(used), "file"))


def _head_is_embedding(checkpoint: Checkpoint) -> bool:
    """Some writers store a tied head beside the embedding; equal, it says nothing new."""
    return EMBEDDING in checkpoint.tensors and checkpoint.read(HEAD) == checkpoint.read(EMBEDDING)


def _compare(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, whole: bool
) -> Iterator[Finding]:
    """Without `whole` (some tensors have unknown names) only the shapes of those that are there are judged."""
    missing = [name for name in expected if name not in found] if whole else []
    extra = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing:
        yield fails("weights.missing", _SHAPES, f"{len(missing)} missing: {_some(missing)}", fix=_FETCH)
    if extra:
        yield fails("weights.extra", _SHAPES, f"{len(extra)} not asked for: {_some(extra)}", fix=_FETCH)
    if wrong:
        texts = [f"{name} is {list(found[name])} where {list(expected[name])} is due" for name in wrong]
        yield fails("weights.shapes", _SHAPES, f"{len(wrong)} of another shape: {_some(texts)}", fix=_FETCH)
    if missing or extra or wrong:
        return
    if whole:
        yield holds("weights.shapes", _SHAPES, f"{len(expected)} tensors, none missing, none more")
    else:
        yield unchecked("weights.shapes", _SHAPES, "tensors of unknown names can't be compared", severity="error")


def _dtype(folder: Folder) -> Iterator[Finding]:
    assert folder.checkpoint is not None  # the caller looked
    try:
        config = folder.object("config.json")
    except ZhenError as error:
        yield unchecked("weights.dtype", _DTYPE, error.text())
        return
    named = {str(config[key]) for key in ("dtype", "torch_dtype") if config.get(key) is not None}
    stored: dict[str, int] = {}
    for info in whole_tensors(folder.checkpoint).values():
        stored[info.dtype] = stored.get(info.dtype, 0) + 1
    seen = ", ".join(f"{count} in {name}" for name, count in sorted(stored.items()))
    if found := packed(folder.checkpoint):
        kinds = ", ".join(sorted({item.kind for item in found.values()}))
        seen += f", {len(found)} of them packed as {kinds}"
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
