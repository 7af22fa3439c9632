"""The run's report, `report.html` and `report.md` from the same parts: what came out, and where each number is from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zhen.formats.files import write_text
from zhen.formats.record import Record
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import Facts, Part, Section, Verdict, Words
from zhen.release.report_answers import answers
from zhen.release.report_data import data_report
from zhen.release.report_documents import open_documents
from zhen.release.report_funnel import funnel
from zhen.release.report_model import curves, held_out, samples_section
from zhen.release.report_records import audit, records
from zhen.release.report_trace import trace
from zhen.release.summary import Run, audit_sentence, samples, summary_rows

__all__ = ["samples", "summary_rows", "write_report"]


def write_report(run_folder: Path, stage_records: Mapping[str, Record], stages: Mapping[str, Path]) -> None:
    """Write both files into the run folder. Stages that the run does not have leave their section out."""
    run = Run(stage_records, stages)
    name = run_folder.resolve().name
    title = Words(f"{name}: from pages to a release", f"{name}：从网页到发布")
    lead = [_verdict(run), _facts(run)]
    documents = open_documents(run)
    sections = [
        Section(heading, parts)
        for heading, parts in (
            (Words("Funnel", "漏斗"), list(funnel(run, documents))),
            (Words("Data", "数据"), list(data_report(run, documents))),
            (Words("One fact", "一条事实"), list(trace(run))),
            (Words("Answers", "回答"), list(answers(run))),
            (Words("Loss curves", "损失曲线"), list(curves(run))),
            (Words("Held-out text", "留出文本"), list(held_out(run))),
            (Words("Samples", "样例"), list(samples_section(run))),
            (Words("Audit", "审查"), list(audit(run))),
            (Words("Records", "记录"), list(records(run))),
        )
        if parts
    ]
    footer = Words(
        "Every number here stands in a stage's record, or in a file that a record lists with its hash; the records "
        "also name the command and the versions.",
        "这里的每个数字都在某个阶段的记录中，或在记录以哈希值列出的文件中；记录还写明命令与版本。",
    )
    write_text(run_folder / "report.html", html_page(title, lead, sections, footer))
    write_text(run_folder / "report.md", markdown_page(title, lead, sections, footer))


def _verdict(run: Run) -> Verdict:
    if not (sentence := audit_sentence(run)):
        return Verdict(None, Words("This run has no release yet.", "这次运行还没有发布。"))
    text = Words(f"The release's audit: {sentence}.", f"发布的审查：{sentence.zh}。")
    return Verdict(bool(run.figure("release", "audit_passed")), text)


def _facts(run: Run) -> Part:
    # the audit has the verdict above
    return Facts([row for row in summary_rows(run.records, run.stages) if row[0] != "audit"])
