"""`zhen verify`: are the files of a run or a release still those that were recorded?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhen.console import out
from zhen.errors import DONE, ZhenError


def command(
    folder: Annotated[Path, typer.Argument(help="A run's or a release's folder.", show_default=False)],
) -> int:
    """Check that a run's or a release's files are still those recorded, by SHA-256.

    Example: zhen verify runs/tiny
    """
    from zhen.formats.outputs import check_hashes
    from zhen.release.manifest import MANIFEST, check_manifest
    from zhen.run import records_of

    if (folder / MANIFEST).is_file():
        count = check_manifest(folder)
        out.print(f"{count} files of {folder} are those of its manifest", markup=False)
        return DONE
    records = records_of(folder) if folder.is_dir() else {}
    if not records:
        raise ZhenError(
            "neither a run nor a release", file=folder, expected=f"links to stages with records, or a {MANIFEST}"
        )
    count = check_hashes({name: at for name, (at, _) in records.items()})
    out.print(f"{count} files of {len(records)} stages are those recorded", markup=False)
    return DONE
