"""A release of somebody's renamed checkpoint: origin, map, hashes and licence said, sealed, audited. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from zhen.audit.checks import audit_checkpoint
from zhen.audit.manifest import MANIFEST, render_manifest
from zhen.audit.report import Report
from zhen.checkpoint import names
from zhen.checkpoint.companions import others
from zhen.checkpoint.copying import building, refuse_taken
from zhen.checkpoint.provenance import RECORD, Provenance, read_provenance, step_of
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError
from zhen.formats.files import Digest, write_json, write_text
from zhen.release.collect import copy_file
from zhen.release.notice import CREDITS

CARD, SOURCE_CARD, NOTICE, AUDIT = "README.md", "README.source.md", "NOTICE", "audit.json"


def release_renamed(
    folder: Path, out: Path, name: str, report: Callable[[int, int, str], None] = lambda done, total, what: None
) -> Report:
    """Make the release `out` of the checkpoint in `folder`, which `zhen rename` left with its record.

    Weights and the files beside them are copied as they are; the source's card becomes README.source.md, for what it
    claims was not checked here. `out` gets its name last. Returns what the audit of it found. Raises ZhenError where
    there is no record, the names aren't LLaMA's, or the source states no licence.
    """
    checkpoint = open_checkpoint(folder)
    record = _record(folder)
    if (scheme := names.detect(checkpoint.tensors)) != "llama":
        hint = f"zhen rename {folder} --to llama"
        raise ZhenError(f"tensors under names of {scheme}", expected="LLaMA's", file=folder, hint=hint)
    refuse_taken(out)
    weights = [file.name for file in checkpoint.files]
    along, _ = others(folder, {*weights, CARD, MANIFEST, AUDIT})
    copied = {file: file for file in (*weights, *along)}
    if (folder / CARD).is_file():
        copied[CARD] = SOURCE_CARD
    with building(out) as made:
        digests = _copied(folder, made, copied, report)
        digests[CARD] = write_text(made / CARD, card(name, record, SOURCE_CARD in digests))
        if NOTICE not in digests:
            digests[NOTICE] = write_text(made / NOTICE, f"{name}\n\n{CREDITS}\n\n{_weights(record)}\n")
        write_text(made / MANIFEST, render_manifest(digests))
        audit = audit_checkpoint(made)
        write_json(made / AUDIT, audit.to_json())
    return audit


def _record(folder: Path) -> Provenance:
    record = read_provenance(folder)
    if record is None:
        hint = "`zhen rename` leaves one; a run of a recipe, [quantize] included, makes its own release"
        found = "is another verb's" if (folder / RECORD).exists() else "is not there"
        raise ZhenError(found, expected="the record of a rename", file=folder / RECORD, hint=hint)
    if any(step.converted is not None for step in record.steps):
        found = "the weights were converted: they are not the source's as they were"
        raise ZhenError(found, expected="renames alone", file=folder / RECORD)
    if not (record.license.stated or record.license.files):
        hint = "put the source's LICENSE beside its weights and rename it again"
        raise ZhenError("the source states no licence", expected="one", file=folder / RECORD, hint=hint)
    return record


def _copied(
    folder: Path, made: Path, copied: Mapping[str, str], report: Callable[[int, int, str], None]
) -> dict[str, Digest]:
    total = sum((folder / name).stat().st_size for name in copied)
    done = 0
    digests = {}
    for name, target in copied.items():
        (made / target).parent.mkdir(parents=True, exist_ok=True)
        digests[target] = copy_file(folder / name, made / target)
        done += digests[target].bytes
        report(done, total, target)
    return digests


def _weights(record: Provenance) -> str:
    steps = "; ".join(f"{step.source} to {step.target} by {step.tool}" for step in record.steps)
    return f"Weights: those of another's checkpoint, tensors renamed ({steps}); {RECORD} has the hash of each."


def card(name: str, record: Provenance, with_source: bool) -> str:
    """README.md, English and Chinese: what was renamed into what, under which licence, and how to check it."""
    stated = record.license.stated or "other"
    net = step_of(
        record.steps[0].source, record.steps[-1].target, {each.was: now for now, each in record.tensors.items()}
    )
    rows = net.map.items()
    table = ["| old name | new name |", "| --- | --- |", *(f"| `{old}` | `{new}` |" for old, new in rows)]
    files = ", ".join(f"`{file}`" for file in sorted(record.license.files))
    english_files, chinese_files = (f" ({files})", f"（{files}）") if files else ("", "")
    source = (
        f" Its own card is [{SOURCE_CARD}]({SOURCE_CARD}); what it claims was not checked here." if with_source else ""
    )
    original = f"其原有说明见 [{SOURCE_CARD}]({SOURCE_CARD})，其中的说法未经此处核验。" if with_source else ""
    return "\n".join([
        "---", f"license: {stated}", "library_name: transformers", "pipeline_tag: text-generation", "tags:", "- llama",
        "---", "", f"# {name}", "", "[English](#english) · [中文](#中文)", "", "## English", "",
        "Another's checkpoint of the LLaMA architecture under LLaMA's tensor names: it loads with the stock "
        f"`LlamaForCausalLM`, without code of its own. No weight was changed.{source}", "",
        *table, "",
        f"Every tensor's SHA-256 in the source stands in `{RECORD}`; `zhen audit` on this folder hashes them again, "
        f"`sha256sum -c {MANIFEST}` checks the files.", "",
        f"Licence: that of the source{english_files}; it stays in force.", "", "## 中文", "",
        "这是他人发布的 LLaMA 架构模型，张量已改回 LLaMA 的标准名称：可直接用标准的 `LlamaForCausalLM` 加载，"
        f"不带自有代码；权重未作任何改动。{original}", "",
        *table, "",
        f"源检查点中每个张量的 SHA-256 记录在 `{RECORD}`；对本目录运行 `zhen audit` 会重新计算并比对，"
        f"`sha256sum -c {MANIFEST}` 可校验文件。", "",
        f"许可证：沿用源检查点的许可证{chinese_files}，继续有效。", "",
    ])  # fmt: skip
