"""The audit: every check over one checkpoint or release, in order, each on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path

from zhen.audit.adapter import check_adapter
from zhen.audit.architecture import check_config, check_one_set, check_tensors
from zhen.audit.claims import check_context, check_license, check_notice, check_used_length, check_weights
from zhen.audit.figures import check_figures
from zhen.audit.files import check_code, check_manifest, check_pickles
from zhen.audit.finding import Finding, fails, holds, unchecked
from zhen.audit.folder import Folder, list_files
from zhen.audit.origin import check_origin
from zhen.audit.report import Report, report
from zhen.audit.tokens import check_tokenizer
from zhen.audit.training import check_training
from zhen.checkpoint.journal import recover
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError
from zhen.model.config import from_config_json

CHECKS: tuple[Callable[[Folder], Iterator[Finding]], ...] = (
    check_manifest,
    check_code,
    check_pickles,
    check_config,
    check_tensors,
    check_one_set,
    check_adapter,
    check_tokenizer,
    check_context,
    check_used_length,
    check_weights,
    check_origin,
    check_figures,
    check_training,
    check_license,
    check_notice,
)
"""Files first, then weights, tokenizer, claims; each reads the folder and returns findings."""

OPENED = (".safetensors", ".json")
"""Files that the reader of checkpoints may open by itself."""

_READABLE = "the weights are safetensors files with a sound header"


def audit_checkpoint(path: str | PathLike[str]) -> Report:
    """Check a release, a checkpoint's folder or one safetensors file. Nothing of it is run or unpickled.

    Raises ZhenError where there is nothing at `path`; whatever is wrong inside becomes a finding.
    """
    root = Path(path)
    with suppress(ZhenError):  # what hinders it shows again when the weights are opened
        recover(root)
    if root.is_file():
        folder = Folder(root.parent, [root.name])
    elif root.is_dir():
        folder = Folder(root, list_files(root))
    else:
        raise ZhenError("is not there", expected="a checkpoint's folder or a safetensors file", file=path)
    findings = list(_open(folder, root))
    for check in CHECKS:
        findings += check(folder)
    return report(findings)


def _open(folder: Folder, root: Path) -> Iterator[Finding]:
    """Fill in the weights' headers and the configuration."""
    try:
        if folder.has("config.json"):
            folder.config = from_config_json(folder.object("config.json"), "config.json")
    except ZhenError as error:
        folder.config_error = error.text()
    if not any(name.endswith(".safetensors") for name in folder.files):
        yield unchecked("weights.readable", _READABLE, "there is no safetensors file", severity="error")
        return
    if elsewhere := [name for name in folder.files if name.endswith(OPENED) and not folder.inside(name)]:
        evidence = f"not opened: {elsewhere[0]} is a link out of the folder, or no file"
        yield unchecked("weights.readable", _READABLE, evidence, severity="error")
        return
    try:
        folder.checkpoint = open_checkpoint(root)
    except ZhenError as error:
        name = Path(error.file).name if error.file else None
        evidence = error.text().replace(f"{folder.root}/", "")
        yield fails("weights.readable", _READABLE, evidence, fix="fetch the file again", file=name)
        return
    yield holds("weights.readable", _READABLE, f"{len(folder.checkpoint.tensors)} tensors, headers checked")
