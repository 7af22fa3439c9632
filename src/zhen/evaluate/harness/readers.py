"""Items of benchmarks as the documents that lm-evaluation-harness's tasks expect.

Fields are those of the published sets; questions unrolled to `query`, `choices`, `gold` are read too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from zhen.evaluate.harness.files import Doc

LETTERS = "ABCDEFGHIJ"


def mmlu(row: Doc) -> Doc:
    """Question, four choices, the answer as index."""
    choices = [row[f"choice{i}"] if f"choice{i}" in row else row[LETTERS[i]] for i in range(4)]
    answer = row["answer"].strip()
    gold = LETTERS.index(answer) if answer in LETTERS else int(answer)
    return {"question": row["question"], "choices": choices, "answer": gold}


def cmmlu(row: Doc) -> Doc:
    """As published, the row's number left out."""
    return {name: row[name] for name in ("Question", *"ABCD", "Answer")}


def ceval(row: Doc) -> Doc:
    """As published, without number and explanation."""
    return {name: row[name] for name in ("question", *"ABCD", "answer")}


def labelled(row: Doc) -> Doc:
    """ARC, OpenBookQA, CommonsenseQA: question, choices with letters, the right letter."""
    if "query" in row:
        return _labelled(_bare(row["query"]), row["choices"], row["gold"])
    # the question stands alone, or with its choices as in the authors' own files
    told = row["question"] if isinstance(row.get("question"), dict) else row
    choices = told["choices"]
    if isinstance(choices, list):
        choices = {name: [choice[name] for choice in choices] for name in ("text", "label")}
    stem = next(told[name] for name in ("stem", "question_stem", "question") if name in told)
    return _labelled(stem, choices["text"], choices["label"].index(row["answerKey"].strip()))


def _labelled(question: str, texts: list[str], gold: int) -> Doc:
    labels = list(LETTERS[: len(texts)])
    return {
        "question": question,
        "question_stem": question,
        "choices": {"text": texts, "label": labels},
        "answerKey": labels[gold],
    }


def _bare(query: str) -> str:
    """The question of an unrolled prompt."""
    return query.removeprefix("Question: ").removesuffix("\nAnswer:")


def hellaswag(row: Doc) -> Doc:
    """Beginning, four endings, the right one; brackets and titles of the raw files cleaned as the harness does."""
    if "query" in row:
        return {"query": row["query"], "choices": row["choices"], "label": str(row["gold"])}
    begin = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return {"query": _clean(begin), "choices": [_clean(end) for end in row["endings"]], "label": str(row["label"])}


def _clean(text: str) -> str:
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def fields(*names: str) -> Callable[[Doc], Doc]:
    """Some fields as they are."""
    return lambda row: {name: row[name] for name in names}


def boolq(row: Doc) -> Doc:
    """Passage, question without its mark, 1 for yes."""
    if "query" not in row:
        label = row["label"] if "label" in row else row["answer"]
        return {"passage": row["passage"], "question": row["question"], "label": int(label)}
    passage, _, rest = row["query"].rpartition("\nQuestion: ")
    question = rest.removesuffix("\nAnswer:").removesuffix("?")
    return {"passage": passage, "question": question, "label": int(row["choices"][row["gold"]] == "yes")}


def squad(row: Doc) -> Doc:
    """Title, passage, question, all right answers."""
    if "query" in row:
        context = re.search(r"Background: (.*)\nQuestion:", row["query"], re.DOTALL)
        question = row["query"].rpartition("\nQuestion: ")[2].removesuffix("\nAnswer:")
        passage = context.group(1) if context else ""
        return {"title": row["title"], "context": passage, "question": question, "answers": row["answers_text"]}
    return {name: row[name] for name in ("title", "context", "question")} | {"answers": row["answers"]["text"]}


def lambada(row: Doc) -> Doc:
    """The whole passage; the last word is asked for."""
    return {"text": row["text"] if "text" in row else f"{row['query']} {row['answers_text'][0]}"}


def truthfulqa(row: Doc) -> Doc:
    """Question and two lists of choices with 1 for true; true ones come first, as in the published set."""
    doc: Doc = {"question": row["question"]}
    for name in ("mc1_targets", "mc2_targets"):
        told = row[name]
        pairs = zip(told["choices"], told["labels"], strict=True) if "choices" in told else told.items()
        ordered = sorted(pairs, key=lambda pair: -pair[1])
        doc[name] = {"choices": [text for text, _ in ordered], "labels": [label for _, label in ordered]}
    return doc


def agieval(row: Doc) -> Doc:
    """The zero-shot prompt of the authors (ruixiangcui/AGIEval, `convert_zero_shot`), the choices and the right one."""
    passage, question, options = row["passage"] or "", row["question"], row["options"]
    last, listed = LETTERS[len(options) - 1], " ".join(options)
    if any("\u4e00" <= letter <= "\u9fff" for letter in question + options[0]):
        query = f"{passage}问题：{question} 选项：{listed}\n答案：从A到{last}, 我们应选择"
    else:
        query = f"{passage}Q: {question} Answer Choices: {listed}\nA: Among A through {last}, the answer is"
    # some questions have several right answers: "A B D"
    gold = [LETTERS.index(letter) for letter in row["label"] if letter.isalpha()]
    return {"query": query, "choices": options, "gold": gold, "passage": passage}


def gaokao(row: Doc) -> list[Doc]:
    """GAOKAO-Bench's objective questions: an item for each question of a text, its choices being letters.

    Where several letters can be right (physics), the choices are all sets of them.
    """
    text, answers = row["question"].strip(), row["answer"]
    letters = sorted(set(re.findall(r"(?<![A-Za-z])([A-G])\s*[．.、]", text)) | set("ABCD"))
    several = any(len(answer) > 1 for answer in answers)
    choices = [letter for letter in letters if letter in "ABCD" or not several]
    if several:
        choices += ["AB", "AC", "AD", "BC", "BD", "CD", "ABC", "ABD", "ACD", "BCD", "ABCD"]
    first, items = _first_number(text, len(answers)), []
    for at, answer in enumerate(answers):
        end = "答案：" if len(answers) == 1 else f"第{first + at}题的答案："
        items.append({"query": f"{text}\n{end}", "choices": choices, "gold": choices.index(answer), "text": text})
    return items


def _first_number(text: str, count: int) -> int:
    """The number of the first of `count` questions in a text, by how they are numbered there; else 1."""
    heads = [int(number) for number in re.findall(r"(?m)^\s*(\d+)\s*[．.、]", text)]
    if len(heads) >= count and heads[-count:] == list(range(heads[-count], heads[-count] + count)):
        return heads[-count]
    there = {int(number) for number in re.findall(r"(?<!\d)\d{1,2}(?!\d)", text)}
    return max((k for k in there if all(k + at in there for at in range(count))), default=1)
