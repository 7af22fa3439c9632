"""The run's report: `report.html` in two languages, `report.md` and `report.zh.md`, all from the same parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from zhen.evaluate.longcontext.pictures import long_context
from zhen.evaluate.short_text import short_text_table
from zhen.formats.files import write_text
from zhen.formats.record import Record
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import Facts, Part, Section, Text, Verdict, Words, join, translated
from zhen.release.report_answers import answers
from zhen.release.report_chat import chat
from zhen.release.report_data import data_report
from zhen.release.report_documents import open_documents
from zhen.release.report_funnel import funnel
from zhen.release.report_model import curves, held_out, samples_section
from zhen.release.report_names import model_name
from zhen.release.report_records import audit, records
from zhen.release.report_trace import trace
from zhen.release.summary import Run, audit_sentence, samples, summary_rows

__all__ = ["HTML", "MARKDOWN", "samples", "summary_rows", "write_report"]

HTML = "report.html"
MARKDOWN = Words("report.md", "report.zh.md")
"""The Markdown of each language; each begins with a link to the other."""


def write_report(run_folder: Path, stage_records: Mapping[str, Record], stages: Mapping[str, Path]) -> None:
    """Write HTML and MARKDOWN into the run folder. Stages that the run does not have leave their section out."""
    run = Run(stage_records, stages)
    name = run_folder.resolve().name
    title = Words(f"{name}: from pages to a release", f"{name}：从网页到发布")
    lead = [*_introduction(run), _verdict(run), _facts(run)]
    documents = open_documents(run)
    sections = [
        Section(heading, parts)
        for heading, parts in (
            (Words("Funnel", "漏斗"), list(funnel(run, documents))),
            (Words("Data", "数据"), list(data_report(run, documents))),
            (Words("One fact", "一条事实"), list(trace(run))),
            (Words("Answers", "回答"), list(answers(run))),
            (Words("Chat", "对话"), list(chat(run))),
            (Words("Loss curves", "损失曲线"), list(curves(run))),
            (Words("Held-out text", "留出文本"), list(held_out(run))),
            (Words("Long context", "长文本"), list(_long_context(run))),
            (Words("Samples", "样例"), list(samples_section(run))),
            (Words("Audit", "审计"), list(audit(run))),
            (Words("Records", "记录"), list(records(run))),
        )
        if parts
    ]
    footer = Words(
        "Every number here stands in a stage's record, or in a file that a record lists with its hash; the records "
        "also name the command and the versions.",
        "这里的每个数字都在某个阶段的记录中，或在记录以哈希值列出的文件中；记录还写明命令与版本。",
    )
    write_text(run_folder / HTML, html_page(title, lead, sections, footer))
    write_text(run_folder / MARKDOWN, markdown_page(title, lead, sections, footer, f"[中文]({MARKDOWN.zh})"))
    chinese = {"lead": translated(lead), "sections": translated(sections), "footer": footer.zh}
    write_text(run_folder / MARKDOWN.zh, markdown_page(title.zh, **chinese, link=f"[English]({MARKDOWN})"))


def _long_context(run: Run) -> Iterator[Part]:
    """The tasks on long texts, and what became of short ones where the context was made longer."""
    yield from long_context(run.long_context(), partial(model_name, released=run.model))
    if rows := run.short_text():
        yield Text(
            Words(
                "Held-out documents that the shorter context holds, read by both models: what the longer one costs "
                "there. The change has the standard error of the differences, document by document.",
                "较短的上下文容得下的留出文档，由两个模型各读一遍：看较长的上下文在这里付出什么。变化的标准误按逐篇的差计算。",
            )
        )
        yield short_text_table(rows)


def _introduction(run: Run) -> Iterator[Part]:
    """What a newcomer must know first: what was done, and whether the pages are real."""
    record = run.records.get("pretrain")
    if not record or not run.funnel() or "release" not in run.records:
        return
    text = Words(
        "Pages were read and the bad ones left out; a tokenizer was learnt from the rest, and a language model was "
        "trained on it from random weights, measured on text set apart, and released with its records.",
        "读入网页，去掉不好的；用其余的学习词表，从随机权重开始训练一个语言模型，在另外留出的文本上测量，最后连同记录发布。",
    )
    if record.sections.get("model.init"):
        text = Words(
            "Pages were read and the bad ones left out; on the rest the training of a given model went on, which was "
            "measured on text set apart, and released with its records.",
            "读入网页，去掉不好的；用其余的继续训练一个已有的模型，在另外留出的文本上测量，最后连同记录发布。",
        )
    if "tune" in run.records:
        tuned = Words(
            "Then it was tuned on dialogues, so that it chats.",
            "然后用对话微调，使它能够对话。",
        )
        text = join(Words(" ", ""), [text, tuned])
    if "sampleweb" in run.records:
        made_up = Words(
            "The pages are made up: a generator wrote them, with faults planted in them, about people and towns that "
            "do not exist, so that whatever the model knows of these it has learnt here.",
            "这些网页是虚构的：由程序生成，掺入了各种缺陷，写的是不存在的人和城镇；所以模型对它们的了解都是在这里学来的。",
        )
        text = join(Words(" ", ""), [text, made_up])
    yield Text(text)


def _verdict(run: Run) -> Verdict:
    if not (sentence := audit_sentence(run)):
        return Verdict(None, Words("This run has no release yet.", "这次运行还没有发布。"))
    passed = bool(run.figure("release", "audit_passed"))
    listed = Words(sentence.partition(": ")[2], sentence.zh.partition("：")[2])
    english = "The release passes its audit" if passed else "The release does not pass its audit"
    chinese = "发布通过了审计" if passed else "发布没有通过审计"
    return Verdict(passed, Words(f"{english}: {listed}.", f"{chinese}：{listed.zh}。"))


def _facts(run: Run) -> Part:
    # the audit has the verdict above
    return Facts([row for row in summary_rows(run.records, run.stages) if row[0] != "audit"])
