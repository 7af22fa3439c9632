"""Zhen's engine as a model of lm-evaluation-harness: log-likelihoods, rolling log-likelihoods, greedy generation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from zhen.errors import ZhenError
from zhen.evaluate.harness.result import Bos
from zhen.infer.engine import Engine, Request
from zhen.infer.template import ChatTemplate

Progress = Callable[[int, int], None]
"""Requests done, of how many."""

TURNS = "\ue002"
"""In front of a context that is turns as JSON, to be put in the chat template."""

MAX_NEW_TOKENS = 256
"""Where a task doesn't say how long an answer may be; lm-evaluation-harness's own default."""


@dataclass(frozen=True)
class Seen:
    """What the model was given of a request."""

    context_tokens: int
    tokens: int
    """Of the continuation, or made."""
    truncated: bool
    """Whether the context lost its beginning."""


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm_eval is not typed
    """`engine` behind the harness's interface. `bos`: whether a start token stands before every context."""

    tokenizer_name = "zhen"

    def __init__(
        self,
        engine: Engine,
        bos: Bos = "none",
        progress: Progress = lambda done, total: None,
        template: ChatTemplate | None = None,
    ) -> None:
        super().__init__()
        self.engine, self.bos, self._progress, self._template = engine, bos, progress, template
        self.seen: dict[tuple[str, str], Seen] = {}
        """Context and continuation (generation: context and "") -> what was fed."""

    @property
    def eot_token_id(self) -> int:
        """The end of a text, from which a text without context is predicted."""
        return self.engine.tokenizer.end_of_text

    @property
    def max_length(self) -> int:
        """Most tokens fed at a time."""
        return self.engine.context_length

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids; with the start token in front where the BOS policy says so."""
        first = [self.engine.tokenizer.start_of_text] if self.bos == "add" and add_special_tokens is not False else []
        if string.startswith(TURNS) and self._template is not None:
            return self._template.encode(json.loads(string[len(TURNS) :]), self.engine.tokenizer)
        return first + self.engine.tokenizer.encode(string)

    def apply_chat_template(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns as JSON: their tokens are made later, so that nothing said in them is taken for a special token."""
        if not add_generation_prompt:
            raise ZhenError("the task begins the answer itself, which no chat template can go on from")
        return TURNS + json.dumps(list(chat_history), ensure_ascii=False)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context.startswith(TURNS):
            ids, rest = self.tok_encode(context), self.engine.tokenizer.encode(continuation)
            # the harness counts white space at a context's end to what follows, the line's end of a turn's head too
            while self.engine.tokenizer.decode(ids[-1:]).isspace():
                rest.insert(0, ids.pop())
            return ids, rest
        context_ids, continuation_ids = super()._encode_pair(context, continuation)
        return context_ids, continuation_ids

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, without the harness's own bar."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        for text, context, continuation in requests:
            if len(continuation) > self.max_length:
                raise ZhenError(
                    f"an answer of {len(continuation):,} tokens: {text[1][:60]!r}",
                    expected=f"at most {self.max_length:,}, the model's context length",
                    hint="leave the task out; no context would be left for the question",
                )
            truncated = len(context) + len(continuation) - 1 > self.max_length
            self.seen[text] = Seen(len(context), len(continuation), truncated)
        pairs = [(context, continuation) for _, context, continuation in requests]
        scores = self.engine.score(pairs, lambda done: self._progress(done, len(pairs)))
        return [(score.total, bool(score.greedy.all())) for score in scores]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, the windows of long ones not overlapping (as the harness's own models do)."""
        documents = [self.engine.tokenizer.encode(request.args[0]) for request in requests]
        scores = self.engine.score_documents(documents, self.max_length)
        self._progress(len(requests), len(requests))
        return [score.total for score in scores]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, cut before the first stop string."""
        answers = [""] * len(requests)
        asked = []
        for request in requests:
            context, settings = request.args
            settings = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
            new = min(settings["max_gen_toks"], self.max_length - 1)
            ids = self.tok_encode(context)
            fed = ids[-(self.max_length - new) :] or [self.eot_token_id]
            asked.append(Request(prompt=fed, max_tokens=new, stop=[stop for stop in settings["until"] if stop]))
            self.seen[context, ""] = Seen(len(ids), 0, len(fed) < len(ids))
        for done, (place, answer) in enumerate(self.engine.completed(asked), start=1):
            answers[place] = answer.text
            context = requests[place].args[0]
            self.seen[context, ""] = dataclasses.replace(self.seen[context, ""], tokens=len(answer.tokens))
            self._progress(done, len(requests))
        return answers
