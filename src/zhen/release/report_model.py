"""The report's sections on the model: curves, held-out text, samples as training went on."""

from __future__ import annotations

from collections.abc import Iterator

from zhen.formats.record import Figure
from zhen.pages.charts import Line, line_chart
from zhen.pages.languages import language
from zhen.pages.parts import Excerpt, Fold, Part, Table, Text, Words
from zhen.release.report_names import KNESER_NEY, XZ, model_name
from zhen.release.summary import MARGIN, Run

TITLE = 50
"""Characters of a prompt in the line that opens it."""

MOMENTS = 5
"""Steps of training whose samples are shown."""


def curves(run: Run) -> Iterator[Part]:
    """Held-out bits per byte beside the references, and the loss, over tokens."""
    rows = run.rows(run.trained, "metrics.jsonl")
    updates = [row for row in rows if row["kind"] == "train"]
    measured = [row for row in rows if row["kind"] == "held-out"]
    if not updates:
        return
    per_step = updates[-1]["tokens"] / updates[-1]["step"]
    end = updates[-1]["tokens"]
    langs = list(dict.fromkeys(lang for row in measured for lang in row["bits_per_byte"]))
    lines = []
    for colour, lang in enumerate(langs):
        name = language(lang)
        found = [
            (row["step"] * per_step, row["bits_per_byte"][lang]) for row in measured if lang in row["bits_per_byte"]
        ]
        lines.append(Line(name, found, colour=colour % 4))
        if (value := run.bits(run.trained or "").get(lang)) is not None:
            text = Words(f"finished, {name}", f"训练完，{name.zh}")
            lines.append(Line(text, [(end, value)], colour=colour % 4))
        for reference in (KNESER_NEY, XZ):
            if (value := run.bits(reference).get(lang)) is not None:
                label = {KNESER_NEY: Words("5-gram", "五元模型"), XZ: Words("xz -9", "xz -9")}[reference]
                text = Words(f"{label}, {name}", f"{label.zh}，{name.zh}")
                lines.append(Line(text, [(0, value), (end, value)], colour=colour % 4, dashed=True))
    tokens = Words("tokens trained on", "训练过的词元")
    if lines:
        yield line_chart(
            lines,
            x=tokens,
            y=Words("bits per byte", "每字节比特数"),
            caption=Words(
                "Bits per byte of documents that training never sees; lower is better. The curves are taken on a part "
                "of the held-out documents; the finished model (dots) and the references (broken lines) on all of "
                "them, so compare the dots with the broken lines.",
                "训练从未见过的文档，每字节所需的比特数；越低越好。曲线取自留出集的一部分；训练完的模型（圆点）与参照"
                "（虚线）取自整个留出集，应当拿圆点与虚线相比。",
            ),
        )
    yield line_chart(
        [Line(Words("training loss", "训练损失"), [(row["tokens"], row["loss"]) for row in updates], colour=4)],
        x=tokens,
        y=Words("nats per token", "每词元的奈特数"),
        caption=Words("Loss of each update on its own tokens.", "每次更新在其自身词元上的损失。"),
    )


def held_out(run: Run) -> Iterator[Part]:
    """The table of bits per byte."""
    record = run.records.get("evaluate")
    models = run.models()
    if record is None or not models:
        return
    langs = list(dict.fromkeys(lang for model in models for lang in run.bits(model)))
    yield Text(
        Words(
            "Bits that are needed per byte of text that training never saw, over all held-out documents, ± standard "
            "error over documents; lower is better. A byte has 8 bits, so 8 would be knowing nothing.",
            "训练从未见过的文本，每字节所需的比特数，取自整个留出集，± 为文档间的标准误；越低越好。一个字节有 8 比特，"
            "所以 8 等于一无所知。",
        )
    )
    rows: list[tuple[str, ...]] = [
        (model_name(model, run.model), *(_cell(record.figures.get(f"bits_per_byte.{model}.{lang}")) for lang in langs))
        for model in models
    ]
    margins = [record.figures.get(MARGIN + lang) for lang in langs]
    if any(margins):
        label = Words("fewer bits than the 5-gram model, % (below 0: more)", "比五元模型少的比特，%（负数：更多）")
        rows.append((label, *(_cell(margin, 1) for margin in margins)))
    yield Table(("", *(language(lang) for lang in langs)), rows)
    if tokens := run.number("evaluate", "kneser_ney_tokens"):
        yield Text(
            Words(
                f"The 5-gram model reads the same token ids and learnt from {tokens:,.0f} tokens of the same corpus; "
                "xz -9 packs the documents without having learnt anything.",
                f"五元模型读同样的词元，学自同一语料的 {tokens:,.0f} 个词元；xz -9 什么也没有学过，直接压缩文档。",
            )
        )


def _cell(figure: Figure | None, decimals: int = 3) -> str:
    if figure is None or not isinstance(figure.value, int | float):
        return "–"
    error = f" ± {figure.stderr:.{decimals}f}" if figure.stderr is not None else ""
    return f"{figure.value:.{decimals}f}{error}"


def samples_section(run: Run) -> Iterator[Part]:
    """How the model went on from the same prompts at up to MOMENTS steps, and the finished model beside the truth."""
    rows = run.rows(run.trained, "samples.jsonl")
    steps = sorted({row["step"] for row in rows})
    chosen = steps
    if len(steps) > MOMENTS:
        chosen = [steps[round(index * (len(steps) - 1) / (MOMENTS - 1))] for index in range(MOMENTS)]
    prompts = list(dict.fromkeys((row["lang"], row["prompt"]) for row in rows))
    if prompts:
        yield Text(
            Words(
                "The beginnings of held-out documents, and how the model went on from them at several steps of its "
                "training, always with the likeliest token.",
                "留出文档的开头，以及模型在训练的不同时刻如何续写，每次取概率最大的词元。",
            )
        )
    shown: set[str] = set()
    for lang, prompt in prompts:
        own = [row for row in rows if (row["lang"], row["prompt"]) == (lang, prompt) and row["step"] in chosen]
        excerpt = Excerpt(prompt, [(_moment(row["step"], steps[-1]), row["continuation"]) for row in own], lang)
        yield Fold(_title(lang, prompt), [excerpt]) if lang in shown else excerpt
        shown.add(lang)
    finished = run.rows("evaluate", "items/pretrain/samples.jsonl")
    if finished:
        yield Text(
            Words("The finished model beside how the document itself goes on.", "训练完的模型与原文的下文对照。")
        )
    for row in finished:
        texts = [(Words("the model", "模型"), row["text"]), (Words("the document", "原文"), row["original"])]
        yield Fold(_title(row["lang"], row["prompt"]), [Excerpt(row["prompt"], texts, row["lang"])])


def _title(lang: str, prompt: str) -> Words:
    words = " ".join(prompt.split())
    short = f"{words[:TITLE]}{'…' if len(words) > TITLE else ''}"
    name = language(lang)
    return Words(f"{name}: {short}", f"{name.zh}：{short}")


def _moment(step: int, last: int) -> Words:
    share = f" ({100 * step / last:.0f} %)" if last else ""
    return Words(f"step {step:,}{share}", f"第 {step:,} 步{share}")
