"""Answers by a model against transformers and the plain loop, by a model that was taught, and by the n-gram model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from zhen.checkpoint.load import load_model, save_model
from zhen.evaluate.answers import NgramAnswers, encode, first_line, line_ends, model_answers, most_tokens
from zhen.evaluate.kneser_ney import KneserNey
from zhen.evaluate.questions import Question
from zhen.evaluate.stage import evaluate
from zhen.formats.files import remove_leftovers
from zhen.formats.stage import Context
from zhen.infer.engine import load_engine
from zhen.model.generate import generate
from zhen.tokenizer.load import load_tokenizer

Make = Callable[..., Context]

FACTS = {"Mira": "pears", "Bero": "soup", "Tolin": "flag", "Yoli": "town"}


def asked(name: str, **more: Any) -> Question:
    choices = [f" {thing}" for thing in FACTS.values()]
    gold = list(FACTS).index(name)
    return Question(
        prompt=f"What of {name}?\nIt is:", answer=choices[gold], choices=choices, gold=gold, id=name, cluster=name,
        lang="en", kind="B", relation="thing", **more,
    )  # fmt: skip


QUESTIONS = [asked(name) for name in FACTS]


def write(path: Path, questions: list[Question]) -> Path:
    rows = [{name: getattr(question, name) for name in question.__struct_fields__} for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_equal_transformers_and_the_plain_loop(run: Path) -> None:
    folder = run / "pretrain" / "checkpoint"
    engine, tokenizer = load_engine(folder, "float32"), load_tokenizer(folder)
    other = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = encode(QUESTIONS, tokenizer)
    stops, longest = line_ends(tokenizer), most_tokens(encoded)
    answers = model_answers(engine, QUESTIONS, encoded, longest, lambda _: None)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert answer.logprobs is not None
        prompt = [tokenizer.end_of_text, *tokenizer.encode(question.prompt)]
        for choice, found in zip(question.choices, answer.logprobs, strict=True):
            whole = [tokenizer.end_of_text, *tokenizer.encode(question.prompt + choice)]
            assert whole[: len(prompt)] == prompt  # nothing joins over the end of these prompts
            with torch.no_grad():
                logs = torch.log_softmax(other(torch.tensor([whole])).logits[0].double(), dim=-1)
            wanted = sum(float(logs[i - 1, whole[i]]) for i in range(len(prompt), len(whole)))
            assert found == pytest.approx(wanted, abs=1e-4)
        made = generate(engine.model, prompt, longest, stops | {tokenizer.end_of_text})
        assert answer.output == tokenizer.decode(made).strip()


class Joining:
    """A tokenizer in which `:a` is one token."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[1 if part == ":a" else ord(part) for part in self._parts(text)] for text in texts]

    @staticmethod
    def _parts(text: str) -> list[str]:
        return [":a", *text[3:]] if text.startswith("?:a") else list(text[1:])


def test_choices_are_scored_from_where_all_still_have_the_prompts_tokens() -> None:
    question = Question(prompt="?:", answer="ab", choices=["ab", "cd"], gold=0)
    (encoded,) = encode([question], Joining())  # type: ignore[arg-type]
    assert encoded.context == []
    assert encoded.continuations == [[1, ord("b")], [ord(":"), ord("c"), ord("d")]]
    assert encoded.prompt == [ord(":")]


@pytest.fixture(scope="module")
def taught(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model, taught what is asked: three facts as they are, one wrongly."""
    folder = tmp_path_factory.mktemp("taught")
    model, tokenizer = load_model(run / "pretrain" / "checkpoint"), load_tokenizer(run / "tokenizer")
    said = FACTS | {"Yoli": "soup"}
    texts = [f"{question.prompt} {said[question.id]}\nand so on" for question in QUESTIONS]
    documents = [[tokenizer.end_of_text, *tokenizer.encode(text), tokenizer.end_of_text] for text in texts]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        losses = [torch.nn.functional.cross_entropy(model(torch.tensor([ids[:-1]]))[0], torch.tensor(ids[1:]))
                  for ids in documents]  # fmt: skip
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    save_model(model, folder / "checkpoint", "float32", run / "tokenizer", 32)
    return folder


def test_a_model_that_was_taught_answers_and_the_one_before_does_not(
    context: Make, run: Path, taught: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "checkpoint").symlink_to(taught / "checkpoint")
    (tmp_path / "models" / "checkpoint-0").symlink_to(run / "pretrain" / "checkpoint-0")
    task = write(tmp_path / "things.jsonl", QUESTIONS)
    made = context(of=["pretrain:0", "pretrain"], tasks=[str(task)])
    made.after = {**made.after, "pretrain": tmp_path / "models"}
    figures = evaluate(made)
    items = rows(made.folder / "items" / "pretrain" / "things.jsonl")
    assert [(item["output"], item["exact"], item["choice"]) for item in items] == [
        ("pears", True, True), ("soup", True, True), ("flag", True, True), ("soup", False, False),
    ]  # fmt: skip
    # three right of four, each a cluster: sqrt(3/16 / 3)
    for metric in ("exact", "choice"):
        figure = figures[f"questions.things.en.{metric}"]
        assert (figure.value, figure.n, figure.stderr) == (0.75, 4, pytest.approx(0.25))
        assert figures[f"questions.things.en.{metric}.chance"].value == 0.25
    assert figures["questions.things.en.exact.pretrain:0"].value == 0.0
    assert figures["questions.things.en.exact.most-frequent"].value == 0.25
    assert made.summary == ("2 models: exact answer to 75 % of 4 questions never asked (guessing: 25 %)")


def test_question_results_say_everything_and_every_file_is_declared(context: Make, tmp_path: Path) -> None:
    task = write(tmp_path / "things.jsonl", QUESTIONS)
    made = context(tasks=[str(task), "bits-per-byte", "samples"])
    evaluate(made)
    files = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()}
    assert files == set(made.outputs)
    results = json.loads((made.folder / "results.json").read_text())
    models = ["pretrain", "kneser-ney", "most-frequent", "chance"]
    assert [(row["model"], row["metric"]) for row in results["questions"]] == [
        (model, metric) for model in models for metric in ("exact", "choice")
    ]
    assert {row["task"] for row in results["questions"]} == {"things"}
    assert results["questions-in-training"][0]["questions"] == 0
    for model in ("pretrain", "kneser-ney", "most-frequent", "training"):
        assert len(rows(made.folder / results["items"][model]["things"])) == 4
    last = made.line.updates[-1]  # type: ignore[attr-defined]
    assert last[0] == last[1]


def test_a_kill_at_any_event_changes_no_answer(context: Make, tmp_path: Path) -> None:
    task = write(tmp_path / "things.jsonl", QUESTIONS)
    settings = {"of": ["pretrain:0", "pretrain"], "tasks": [str(task)]}

    def results(made: Context) -> dict[str, bytes]:
        outputs = {path for path, (kind, _) in made.outputs.items() if kind == "result"}
        return {path: (made.folder / path).read_bytes() for path in outputs}

    unkilled = context("unkilled", **settings)
    evaluate(unkilled)
    line: Any = type(unkilled.line)
    for kill_at in range(1, len(unkilled.line.updates) + 1):  # type: ignore[attr-defined]
        with pytest.raises(line.Killed):
            evaluate(context(f"killed-{kill_at}", line(kill_at), **settings))
        again = context(f"killed-{kill_at}", **settings)
        remove_leftovers(again.folder)
        evaluate(again)
        assert results(again) == results(unkilled)


def test_the_n_gram_model_answers_what_it_read(run: Path) -> None:
    tokenizer = load_tokenizer(run / "tokenizer")
    texts = [question.prompt + question.answer + "\nand so on" for question in QUESTIONS[:1] * 5]
    stream = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.end_of_text]]
    model = KneserNey(stream, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text)
    encoded = encode(QUESTIONS, tokenizer)
    answers = NgramAnswers(model, tokenizer, line_ends(tokenizer)).answer(QUESTIONS, encoded, most_tokens(encoded))
    # it sees four tokens back: to each question the one answer that it knows
    assert [answer.output for answer in answers] == ["pears"] * 4
    assert [answer.chosen for answer in answers] == [0] * 4
    for item, answer in zip(encoded, answers, strict=True):
        assert answer.logprobs is not None
        for ids, found in zip(item.continuations, answer.logprobs, strict=True):
            document = [*item.context, *ids]
            alone = model.logprobs(document)[len(item.context) :]
            assert found == pytest.approx(float(alone.sum()), abs=1e-5)


def test_an_answer_ends_with_its_line(run: Path) -> None:
    tokenizer = load_tokenizer(run / "tokenizer")
    ids = tokenizer.encode("Mira has a flag\nand soup")
    assert first_line([*ids, tokenizer.vocab_size], tokenizer) == "Mira has a flag"
    assert all("\n" in tokenizer.decode([token]) for token in line_ends(tokenizer))
    assert line_ends(tokenizer) & set(tokenizer.encode("a\nb"))


def test_a_distribution_is_what_scoring_says_of_every_token() -> None:
    random = np.random.default_rng(5)
    stream = random.integers(2, 9, size=400).tolist()
    model = KneserNey(stream, vocab_size=10, end_of_text=2)
    for length in range(7):
        for _ in range(4):
            document = random.integers(3, 9, size=length).tolist()
            found = model.distribution([2, *document])
            wanted = [model.logprobs([*document, token])[-1] for token in range(10)]
            np.testing.assert_allclose(np.log(found), wanted, rtol=1e-12)
            assert found.sum() == pytest.approx(1, abs=1e-12)
