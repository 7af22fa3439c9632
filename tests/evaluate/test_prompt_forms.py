"""The form that a task's questions have in common, for chats with the model."""

from __future__ import annotations

import json

import pytest

from zhen.evaluate.questions import Question, Task, form_figures, prompt_forms


def task(*prompts: tuple[str, str]) -> Task:
    return Task("t", "t", [Question(prompt=prompt, answer="x", lang=lang) for lang, prompt in prompts])


@pytest.mark.parametrize(
    ("prompts", "forms"),
    [
        ([("en", "Question: Who?\nAnswer:"), ("en", "Question: Why?\nAnswer:")], {"en": "Question: {}\nAnswer:"}),
        ([("zh", "问：谁？\n答："), ("zh", "问：谁来？\n答："), ("en", "a"), ("en", "b")], {"zh": "问：{}\n答："}),
        ([("en", "Q: a\nA:"), ("en", "a and b are")], {}),
        ([("en", "Q: a\n\nA:"), ("en", "Q: b\n\nA:")], {"en": "Q: {}\n\nA:"}),
        ([("en", "Question: only one\nAnswer:")], {}),
    ],
)  # fmt: skip
def test_a_form_is_what_all_prompts_of_a_language_share(prompts: list[tuple[str, str]], forms: dict[str, str]) -> None:
    assert prompt_forms([task(*prompts)]) == forms


def test_a_form_is_a_json_string_that_no_table_breaks_at() -> None:
    (figure,) = form_figures([task(("en", "<|q|>: a\nA:"), ("en", "<|q|>: b\nA:"))]).values()
    assert isinstance(figure.value, str)
    assert json.loads(figure.value) == "<|q|>: {}\nA:"
    assert not set(figure.value) & set("|<\n")
