"""Talking with a model: in its chat template, in the form of question that its records name, or by going on."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from pathlib import Path

from zhen.infer.engine import Engine
from zhen.infer.requests import Event, Request
from zhen.infer.template import ChatTemplate, Turn, load_template

RECORD = Path("records") / "evaluate.json"
FORM = "prompt_form."
"""How the figures begin that say, as a JSON string, how a question is put; the language follows."""

_HAN = ("\u3400", "\u9fff")


class Line:
    """The first line of a text that comes in pieces; blanks in front of it are left out."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, text: str) -> tuple[str, bool]:
        """What of `text` belongs to the line, and whether the line has ended."""
        piece = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(piece)
        line, end, _ = piece.partition("\n")
        return line, bool(end)


class Conversation:
    """A conversation with a checkpoint's model. Turns are remembered where it has a chat template, and only there."""

    def __init__(self, engine: Engine, template: ChatTemplate | None, forms: Mapping[str, str]) -> None:
        """`forms`: language -> a question's form, with `{}` where the question stands."""
        self.engine, self.template, self.forms = engine, template, dict(forms)
        self.turns: list[Turn] = []
        self.forgotten = 0
        """Turns that no longer fit in the model's context."""

    @property
    def manner(self) -> str:
        """A sentence on how the model is asked."""
        if self.template:
            return "turns are put in the model's chat template and remembered"
        if self.forms:
            forms = " or ".join(repr(form) for form in self.forms.values())
            return f"no chat template: a question is put as {forms}, as in its evaluation, one turn at a time"
        return "no chat template and no form of question on record: the text is just gone on with, one turn at a time"

    def reset(self) -> None:
        """Forget the turns."""
        self.turns, self.forgotten = [], 0

    def answer(self, text: str, max_tokens: int, temperature: float, seed: int) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece; closing the iterator stops it. Raises ZhenError as `submit` does."""
        self.turns = [*self.turns, {"role": "user", "content": text}] if self.template else []
        said: list[str] = []
        try:
            for piece in self._pieces(self._prompt(text, max_tokens), max_tokens, temperature, seed):
                said.append(piece)
                yield piece
        finally:
            if self.template:
                self.turns = [*self.turns, {"role": "assistant", "content": "".join(said)}]

    def _pieces(self, prompt: list[int], max_tokens: int, temperature: float, seed: int) -> Generator[str, None, None]:
        request = Request(prompt=prompt, max_tokens=max_tokens, temperature=temperature, top_p=0.95, seed=seed)
        number = self.engine.submit(request)
        # in a form of question the answer is a line; blanks in front of it belong to the form
        first = Line() if self.forms and self.template is None else None
        try:
            while True:
                for event in self.engine.step():
                    line, end = first.add(event.text) if first else (event.text, False)
                    if line and not self._ends(event):
                        yield line
                    if end or event.finish or self._ends(event):
                        return
        finally:
            self.engine.cancel(number)
            self.engine.step()

    def _ends(self, event: Event) -> bool:
        return self.template is not None and event.token in self.template.ends

    def _prompt(self, text: str, max_tokens: int) -> list[int]:
        tokenizer = self.engine.tokenizer
        if self.template is None:
            form = self.form(text)
            ids = tokenizer.encode(form.replace("{}", text) if form else text)
            return ids or [tokenizer.end_of_text]
        room = max(1, self.engine.context_length - min(max_tokens, self.engine.context_length // 4))
        while len(ids := self.template.encode(self.turns, tokenizer)) > room and len(self.turns) > 1:
            self.turns = self.turns[2:]
            self.forgotten += 2
        return ids

    def form(self, question: str) -> str | None:
        """The form for a question, by its language: Chinese where a quarter of its characters are Han."""
        han = sum(_HAN[0] <= char <= _HAN[1] for char in question)
        lang = "zh" if han and 4 * han >= len("".join(question.split())) else "en"
        return self.forms.get(lang) or next(iter(self.forms.values()), None)


def open_conversation(engine: Engine, folder: Path) -> Conversation:
    """The conversation that a checkpoint's folder asks for. Raises ZhenError for a damaged template."""
    return Conversation(engine, load_template(folder), prompt_forms(folder / RECORD))


def prompt_forms(record: Path) -> dict[str, str]:
    """Language -> form of question, from the record of an evaluation; empty where it names none."""
    try:
        figures = json.loads(record.read_bytes())["figures"].items()
        values = {name.removeprefix(FORM): json.loads(each["value"]) for name, each in figures if name.startswith(FORM)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {lang: form for lang, form in values.items() if isinstance(form, str) and "{}" in form}
