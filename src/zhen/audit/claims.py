"""Checks of what a release says in words: trained length, weights of the recorded run, licence, credit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zhen.audit.adapter import ADAPTER
from zhen.audit.finding import Finding, counted, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.audit.license import TEXTS, identify
from zhen.audit.manifest import MANIFEST, read_manifest
from zhen.errors import ZhenError
from zhen.evaluate.settings import PASSKEY_BAR, USED_LENGTH, used_length

MODEL_STAGES = ("quantize", "tune", "extend", "pretrain")
"""Stages that make a model, last first; the newest one's record speaks for the weights."""

LENGTHS = ("context_length", "sequence_length")
"""Settings of a stage that say which length its model may claim: what it shall claim, if set; what was trained."""

UNSET_LENGTH = 1 << 30
"""tokenizer_config.json's `model_max_length` above this means none was set (transformers writes 10^30)."""

LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
CREDIT_FILES = ("NOTICE", "NOTICE.txt", "NOTICE.md", "README.md")

_CONTEXT = "the context length claimed is one that was trained"
_USED = "the context length claimed is the longest at which the model was seen to find keys"
_WRITTEN = re.compile(r"long_context\.passkey\.[^.]+\.(\d{1,8})\.exact")
_WEIGHTS = "the weights are those that the record of their training names"
_OTHERS = "configuration and tokenizer are those that the record of the training names"
_LICENSE = "the licence file is there and is the licence that the card claims"
_NOTICE = "LLaMA is credited with the architecture"


def check_context(folder: Folder) -> Iterator[Finding]:
    """config.json, tokenizer and card against the sequence length in the record of training."""
    try:
        claims = _context_claims(folder)
        trained = _trained_length(folder)
    except ZhenError as error:
        yield unchecked("claims.context", _CONTEXT, error.text(), severity="error")
        return
    if not claims:
        yield unchecked("claims.context", _CONTEXT, "nothing says a context length")
        return
    said = ", ".join(f"{place} {length:,}" for place, length in claims.items())
    if trained is None:
        if len(set(claims.values())) > 1:
            yield fails(
                "claims.context", _CONTEXT, f"they contradict each other: {said}", fix="claim one length everywhere"
            )
        else:
            yield unchecked("claims.context", _CONTEXT, f"no record of training is here; claimed: {said}")
        return
    record, length = trained
    if set(claims.values()) == {length}:
        yield holds("claims.context", _CONTEXT, f"{length:,} tokens in {record} and in {', '.join(claims)}")
    else:
        evidence = f"to be claimed by {record}: {length:,} tokens; claimed: {said}"
        yield fails("claims.context", _CONTEXT, evidence, fix=f"claim {length:,} everywhere, or train for another")


def check_used_length(folder: Folder) -> Iterator[Finding]:
    """The context length that an extended model claims against the lengths at which it was seen to find keys."""
    if not folder.has("records/extend.json"):
        return
    try:
        claimed = max(_context_claims(folder).values(), default=0)
        found = folder.object("records/evaluate.json").get("figures") if folder.has("records/evaluate.json") else None
        figures = found if isinstance(found, dict) else {}
        written = list(_written(figures))
    except ZhenError as error:
        yield unchecked("claims.length", _USED, error.text(), severity="error")
        return
    if not written:
        why = "the evaluation has no passkey"
        yield unchecked("claims.length", _USED, why, fix='add "passkey" to evaluate.tasks')
        return
    length, figure = used_length(written), figures.get(USED_LENGTH)
    recorded = figure.get("value") if isinstance(figure, dict) else None
    tried = ", ".join(f"{each:,}" for each in sorted({each for each, _ in written}))
    evidence = (
        f"claimed: {claimed:,} tokens; {PASSKEY_BAR:.0%} of the keys are written up to {length:,} (tried: {tried})"
    )
    if recorded != length:
        fix = "evaluate again"
        yield fails("claims.length", _USED, f"{evidence}; recorded as {USED_LENGTH}: {recorded}", fix=fix)
    elif claimed == length:
        yield holds("claims.length", _USED, evidence)
    else:
        fix = "extend to a length at which keys are found, and evaluate at that length"
        yield fails("claims.length", _USED, evidence, fix=fix)


def _written(figures: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    """(length, share of the keys written) of each language, of the model that is released."""
    for name, figure in figures.items():
        if (at := _WRITTEN.fullmatch(name)) and isinstance(figure, dict):
            value = figure.get("value")
            if isinstance(value, int | float):
                yield int(at[1]), float(value)


def _context_claims(folder: Folder) -> dict[str, int]:
    claims = {}
    if folder.config is not None:
        claims["config.json"] = folder.config.max_position_embeddings
    length = folder.object("tokenizer_config.json").get("model_max_length")
    if isinstance(length, int | float) and 0 < length < UNSET_LENGTH:
        claims["tokenizer_config.json"] = int(length)
    if folder.has("README.md"):
        for found in re.findall(r"<!--=context_length-->([0-9][0-9,]{0,20})<!--/-->", folder.text("README.md")):
            claims["README.md"] = int(found.replace(",", ""))
    return claims


def _trained_length(folder: Folder) -> tuple[str, int] | None:
    """(record, tokens) of the stage that may claim the longest sequences: later ones may be shorter, and take nothing
    away."""
    found = []
    for stage in MODEL_STAGES:
        name = f"records/{stage}.json"
        sections = folder.object(name).get("sections")
        section: Any = sections.get(stage) if isinstance(sections, dict) else None
        lengths = [section.get(each) for each in LENGTHS] if isinstance(section, dict) else []
        if given := [length for length in lengths if isinstance(length, int)]:
            found.append((name, min(given)))
    return max(found, key=lambda each: each[1], default=None)


def check_weights(folder: Folder) -> Iterator[Finding]:
    """The manifest's hash of every file of the checkpoint against the one in the record of the stage that made it.

    The manifest stands for the files (`files.hash` compares these), so a damaged byte is one finding, not two.
    """
    record = next((f"records/{stage}.json" for stage in MODEL_STAGES if folder.has(f"records/{stage}.json")), None)
    if record is None or not folder.has(MANIFEST):
        yield unchecked("claims.weights", _WEIGHTS, "no record of training, or no manifest, is here")
        return
    try:
        listed = read_manifest(folder.text(MANIFEST))
        outputs = folder.object(record).get("outputs")
    except ZhenError as error:
        yield unchecked("claims.weights", _WEIGHTS, error.text(), severity="error")
        return
    made: dict[str, str] = {}
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict) and str(output.get("path", "")).startswith(("checkpoint/", ADAPTER)):
            made[str(output["path"]).removeprefix("checkpoint/")] = str(output.get("sha256"))
    has = {name: digest.sha256 for name, digest in listed.items()}
    weights = {name for name in (*has, *made) if name.endswith(".safetensors")}
    yield from _as_recorded("claims.weights", _WEIGHTS, sorted(weights), made, has, record)
    yield from _as_recorded("claims.checkpoint", _OTHERS, sorted(made.keys() - weights), made, has, record)


def _as_recorded(
    check: str, claim: str, names: list[str], made: Mapping[str, str], has: Mapping[str, str], record: str
) -> Iterator[Finding]:
    """Whether the files of those names have the hashes that the record gives."""
    if not names or not made:
        yield unchecked(check, claim, f"{record} or {MANIFEST} names none", severity="error")
        return
    others = [name for name in names if made.get(name) != has.get(name)]
    for name in others:
        found, due = (f"SHA-256 {side[name][:16]}…" if name in side else "nothing" for side in (has, made))
        evidence = f"{name}: {MANIFEST} has {found}, {record} has {due}"
        yield fails(check, claim, evidence, fix=f"release {name} of the recorded run", file=name)
    if not others:
        yield holds(check, claim, f"{counted(len(names), 'file')}, SHA-256 as in {record}")


def check_license(folder: Folder) -> Iterator[Finding]:
    """The licence in the card's head against the text of the licence file."""
    try:
        claimed = card_license(folder.text("README.md")) if folder.has("README.md") else None
        file = next((name for name in LICENSE_FILES if folder.has(name)), None)
        text = folder.text(file) if file else ""
    except ZhenError as error:
        yield fails("license.text", _LICENSE, error.text(), fix="write it as UTF-8 text", file=error.file)
        return
    if claimed is None:
        there = f"; {file} is {_named(text)}" if file else " and no licence file"
        yield unchecked("license.text", _LICENSE, f"no card claims a licence{there}")
    elif file is None:
        yield fails("license.text", _LICENSE, f"the card says {claimed}; no LICENSE is here", fix="add its text")
    elif claimed not in TEXTS:
        yield unchecked("license.text", _LICENSE, f"the card says {claimed}, whose text is not known here")
    else:
        found = identify(text)
        if found.license == claimed and found.same:
            yield holds("license.text", _LICENSE, f"{file} is the {TEXTS[claimed]}, word by word")
        else:
            evidence = f"the card says {claimed}; {file} is {_named(text)}"
            yield fails("license.text", _LICENSE, evidence, fix="make card and text one", file=file)


def card_license(card: str) -> str | None:
    """The `license:` of the YAML head of a model card, lower case; None where there is none."""
    head = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([\w.+-]+)", head[1], re.MULTILINE) if head else None
    return found[1].lower() if found else None


def _named(text: str) -> str:
    found = identify(text)
    if found.same:
        return f"the {TEXTS[found.license]}"
    if found.share < 0.5:
        return "none that is known here"
    return f"{found.share:.1%} of the {TEXTS[found.license]}, with words changed, missing or added"


def check_notice(folder: Folder) -> Iterator[Finding]:
    """Some file that a reader opens names LLaMA as the origin of the architecture."""
    present = [name for name in CREDIT_FILES if folder.has(name)]
    if not present:
        yield unchecked("license.notice", _NOTICE, "there is no NOTICE and no card")
        return
    for name in present:
        try:
            text = folder.text(name)
        except ZhenError:
            continue
        if re.search(r"\bllama\b", text, re.IGNORECASE):
            yield holds("license.notice", _NOTICE, f"{name} names it", confidence="likely")
            return
    yield fails(
        "license.notice",
        _NOTICE,
        f"{', '.join(present)} do not name LLaMA",
        fix="name in NOTICE where the architecture, its names and layout come from",
        severity="error" if folder.is_release else "warning",
        confidence="likely",
    )
