"""The report's section on chat: what the questions come to as turns, before and after tuning, and some real replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhen.formats.record import Figure
from zhen.pages.charts import Line, line_chart
from zhen.pages.languages import language
from zhen.pages.parts import Excerpt, Fold, Part, Table, Text, Words
from zhen.release.report_names import model_name, question_title
from zhen.release.summary import NEVER_ASKED, Run, dialogues

NOWHERE = "unstated"
"""Kind of the questions about what no page states."""

RIGHT, WRONG = 3, 2
"""Dialogues of a language that are shown: so many whose reply is right, so many where it is not."""

BEGINNING = 160
"""Characters of a reply that are shown."""

WHOLE = {
    "stops": Words("ends its reply by itself", "回答自行结束"),
    "language": Words("replies in the language of the question", "用提问的语言回答"),
    "repeats": Words("says the same over and over", "重复自己的话"),
}
"""Figures over all questions."""

Row = Mapping[str, Any]


def chat(run: Run) -> Iterator[Part]:
    """Nothing where the released model was not asked in chat form."""
    rows = [row for row in run.json("evaluate", "results.json").get("dialogue", []) if row["metric"] == "right"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    if run.model not in models:
        return
    yield Text(
        Words(
            "The same questions as turns of a chat, in the template that comes with the release. Right is a reply that "
            "names the answer, no other answer of that kind, and ends by itself; a program judges. ± is one standard "
            "error, clustered by fact. The dialogues that it was tuned on ask about other facts.",
            "同样的问题，以对话的形式提出，用发布中附带的模板。回答说出了正确答案、没有说出同类的别的答案、并且自行结束，才算对；"
            "由程序判定。± 为一个标准误，按事实聚类。微调所用的对话问的是别的事实。",
        )
    )
    columns = (Words("share of replies", "占回答的比例"), *(model_name(model, run.model) for model in models))
    yield Table(columns, [*_rights(rows, models), *_whole(run, models)])
    yield from _cost(run, models)
    yield from _dialogues(run, models)
    yield from _loss(run)


def _rights(rows: Sequence[Row], models: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each kind of question and language, what was never asked first."""
    groups = dict.fromkeys((row["kind"], row["set"], row["lang"]) for row in rows)
    for kind, name, lang in sorted(groups, key=lambda group: group[0] != NEVER_ASKED):
        own = {row["model"]: row for row in rows if (row["kind"], row["set"], row["lang"]) == (kind, name, lang)}
        title, tongue = question_title(kind, name), language(lang)
        label = Words(f"right: {title}, in {tongue}", f"答对：{title.zh}，用{tongue.zh}问")
        yield (label, *(_share(own[model]["score"], own[model]["stderr"]) for model in models))


def _whole(run: Run, models: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for name, label in WHOLE.items():
        yield (label, *(_figure_share(run, f"dialogue.{name}", model, models) for model in models))


def _figure_share(run: Run, name: str, model: str, models: Sequence[str]) -> str:
    figure = _figure(run, name if model == models[-1] else f"{name}.{model}")
    return "–" if figure is None else _share(float(figure.value or 0), figure.stderr)


def _figure(run: Run, name: str) -> Figure | None:
    record = run.records.get("evaluate")
    return record.figures.get(name) if record else None


def _share(score: float, error: float | None) -> str:
    return f"{100 * score:.1f} %" + (f" ± {100 * error:.1f}" if error else "")


def _cost(run: Run, models: Sequence[str]) -> Iterator[Part]:
    """What the model has forgotten: held-out text, and the questions as the pages put them."""
    rows: list[tuple[str, ...]] = []
    for lang in run.bits(run.model or ""):
        found = [run.bits(model).get(lang) for model in models]
        tongue = language(lang)
        label = Words(f"bits per byte of held-out text, {tongue}", f"留出文本每字节的比特数，{tongue.zh}")
        rows.append((label, *("–" if value is None else f"{value:.3f}" for value in found)))
    exact = [row for row in run.questions() if (row["kind"], row["metric"]) == (NEVER_ASKED, "exact")]
    for name, lang in dict.fromkeys((row["set"], row["lang"]) for row in exact):
        own = {row["model"]: row for row in exact if (row["set"], row["lang"]) == (name, lang)}
        tongue, title = language(lang), question_title(NEVER_ASKED, name)
        label = Words(
            f"exact: {title}, in {tongue}, as pages ask", f"答案完全一致：{title.zh}，用{tongue.zh}，按网页的问法"
        )
        rows.append((label, *(_share(own[m]["score"], own[m]["stderr"]) if m in own else "–" for m in models)))
    if len(models) < 2 or not rows:
        return
    yield Text(Words("What tuning costs: what the model could do before.", "微调的代价：模型原来会的，现在如何。"))
    yield Table(("", *(model_name(model, run.model) for model in models)), rows)


def _dialogues(run: Run, models: Sequence[str]) -> Iterator[Part]:
    """Real replies, chosen by lot: a right one of each language, the others in a fold, the wrong ones too."""
    items = {model: {_place(item): item for item in dialogues(run, model)} for model in models}
    own = list(items[run.model or ""].values())
    shown: list[Row] = []
    for lang in sorted({item["lang"] for item in own}):
        for kind, right, most in ((NEVER_ASKED, True, RIGHT), (NEVER_ASKED, False, WRONG), (NOWHERE, False, 1)):
            wanted = (lang, kind, right)
            shown += [item for item in own if (item["lang"], item["kind"], item["right"]) == wanted][:most]
    if not shown:
        return
    yield Text(
        Words(
            "Real dialogues, chosen by lot; the model had never been asked this:",
            "真实的对话，随机抽取；这些从未问过模型：",
        )
    )
    first = {item["lang"]: item for item in reversed(shown) if item["right"]}
    opened = [first[lang] for lang in sorted(first)]
    yield from (_excerpt(run, item, items) for item in opened)
    rest = [item for item in shown if item not in opened]
    if rest:
        yield Fold(
            Words(
                "More of them: right ones, wrong ones, and what no page states",
                "更多：答对的、答错的，以及网页没有说过的",
            ),
            [_excerpt(run, item, items) for item in rest],
        )


def _excerpt(run: Run, item: Row, items: Mapping[str, Mapping[tuple[str, str], Row]]) -> Excerpt:
    said = {model: " ".join(own[_place(item)]["reply"].split()) for model, own in items.items()}
    texts = [
        (model_name(model, run.model), f"{reply[:BEGINNING]}{'…' if len(reply) > BEGINNING else ''}" or "–")
        for model, reply in said.items()
    ]
    due = item["answer"]
    if item["kind"] == NOWHERE:
        due = Words(f"{due} (no page says so)", f"{due}（网页没有说过）")
    return Excerpt(item["question"], [*texts, (Words("right answer", "正确答案"), due)], item["lang"])


def _place(item: Row) -> tuple[str, str]:
    return item["task"], item["id"]


def _loss(run: Run) -> Iterator[Part]:
    """The loss of tuning over its steps."""
    rows = [row for row in run.rows("tune", "metrics.jsonl") if row["kind"] == "train"]
    if not rows:
        return
    share = run.records["tune"].sections["tune"].get("text_share") or 0
    text = Words("", "")
    if share:
        text = Words(f"; {100 * share:g} % of the sequences are text", f"；其中 {100 * share:g} % 的序列是文本")
    yield line_chart(
        [Line(Words("loss of tuning", "微调的损失"), [(row["step"], row["loss"]) for row in rows], colour=4)],
        x=Words("steps of tuning", "微调步数"),
        y=Words("nats per token", "每词元的奈特数"),
        caption=Words(
            f"Loss of each step on what it learns: the assistant's words and the ends of its turns{text}.",
            f"每一步在所学词元上的损失：助手说的话与轮次的结尾{text.zh}。",
        ),
    )
