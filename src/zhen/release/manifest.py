"""The manifest of a release, checked for `zhen verify`: the first file that is not the listed one is an error."""

from __future__ import annotations

from pathlib import Path

from zhen.audit.files import check_manifest as findings_of_manifest
from zhen.audit.folder import Folder, list_files
from zhen.audit.manifest import MANIFEST, read_manifest
from zhen.errors import ManyErrors, ZhenError

__all__ = ["MANIFEST", "check_manifest"]


def check_manifest(folder: Path) -> int:
    """The number of files that a release's manifest lists, all of them checked by size and SHA-256.

    Raises ZhenError naming every file that is missing, differs or is not listed.
    """
    files = Folder(folder, list_files(folder))
    found = findings_of_manifest(files)
    errors = [
        ZhenError(finding.evidence, file=folder / (finding.file or MANIFEST), hint=finding.fix)
        for finding in found
        if finding.verdict != "holds"
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return len(read_manifest(files.text(MANIFEST)))
