"""From the body of a request to what the engine is asked: prompts, turns in the model's template, sampling."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhen.checkpoint import strictjson
from zhen.checkpoint.load import end_ids
from zhen.infer.conversation import Conversation, open_conversation
from zhen.infer.engine import Engine
from zhen.infer.requests import Grammar, Request
from zhen.infer.server.forms import grammar_of
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.wire import ChatBody, CompletionBody, Message, Sampling, TokenizeBody, Tool
from zhen.infer.template import Turn

COMPLETION_TOKENS = 16
"""`max_tokens` of a completion that does not say, as OpenAI has it."""
GREEDY_BELOW = 1e-4
"""Temperatures beneath are as good as 0, and logits divided by them would leave what float32 can hold."""
LEAST_TOP_P = 1e-6
"""So little lets only the likeliest token through, and is not 0 in float32."""


@dataclass(frozen=True)
class Asked:
    """What the engine gets for one body, and how its answers are read."""

    requests: list[Request]
    prompt_tokens: int
    line: bool = False
    """The answer is a line, as in the form of question on record."""
    tools: bool = False
    """The model may call tools: calls are looked for in what it says."""


@dataclass
class Served:
    """A model as it is served."""

    name: str
    engine: Engine
    conversation: Conversation
    """How the model is talked with; its turns stay empty."""
    ends: frozenset[int]
    """Tokens that end an answer."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    """temperature, top_p, top_k where a request does not say."""

    def check_name(self, name: str | None) -> None:
        """Raises Refusal (404) for another model's name."""
        if name is not None and name != self.name:
            raise Refusal(404, f'no model "{name}" here; served: "{self.name}"', code="model_not_found", param="model")

    def completion(self, body: CompletionBody) -> Asked:
        """A request for each prompt and choice, the choices of a prompt together."""
        self.check_name(body.model)
        prompts = self._prompts(body.prompt)
        made = [
            request
            for number, prompt in enumerate(prompts)
            for request in self._requests(body, prompt, body.max_tokens or COMPLETION_TOKENS, number, {})
        ]
        return Asked(made, sum(map(len, prompts)))

    def chat(self, body: ChatBody) -> Asked:
        """The turns in the model's template; or one question in the form that its records name."""
        self.check_name(body.model)
        tools = None if body.tool_choice == "none" else body.tools
        grammar = grammar_of(body)
        prompt = self.chat_prompt(body.messages, tools)
        limit = body.max_completion_tokens or body.max_tokens or self.engine.longest
        in_form = self.conversation.template is None
        # in a form of question the answer is what the evaluation saw: the likeliest
        given = {"temperature": 0.0} if in_form else {}
        return Asked(
            self._requests(body, prompt, limit, 0, given, grammar),
            len(prompt),
            line=in_form and grammar is None,
            tools=bool(tools),
        )

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> list[int]:
        """The tokens of turns. Raises Refusal where the model cannot be talked with in this way."""
        tokenizer, template = self.engine.tokenizer, self.conversation.template
        if template is not None:
            schemas = [tool.model_dump(exclude_none=True) for tool in tools] if tools else None
            return template.encode([_turn(message) for message in messages], tokenizer, schemas)
        if not self.conversation.forms:
            raise Refusal(
                400,
                "this model has no chat template and no form of question on record; it serves /v1/completions",
                code="no_chat_template",
            )
        if len(messages) != 1 or messages[0].role != "user" or tools:
            raise Refusal(
                400,
                "this model has no chat template: it answers one message of the user at a time, without tools",
                code="no_chat_template",
                param="messages",
            )
        question = _text(messages[0].content)
        form = self.conversation.form(question) or "{}"
        return tokenizer.encode(form.replace("{}", question))

    def tokens(self, body: TokenizeBody) -> list[int]:
        """The tokens of a text or of turns."""
        self.check_name(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise Refusal(400, "expected either prompt or messages", code="invalid_value")
        if body.messages is not None:
            return self.chat_prompt(body.messages, body.tools)
        return self.engine.tokenizer.encode(body.prompt or "")

    def _prompts(self, prompt: str | list[str] | list[int] | list[list[int]]) -> list[list[int]]:
        tokenizer = self.engine.tokenizer
        if isinstance(prompt, str):
            prompt = [prompt]
        if all(isinstance(part, int) for part in prompt):
            return [[part for part in prompt if isinstance(part, int)]]
        return [
            # an empty text is the beginning of a document
            (tokenizer.encode(part) or [tokenizer.end_of_text]) if isinstance(part, str) else list(part)
            for part in prompt
            if not isinstance(part, int)
        ]

    def _requests(
        self,
        body: Sampling,
        prompt: list[int],
        limit: int,
        number: int,
        given: Mapping[str, float],
        grammar: Grammar | None = None,
    ) -> list[Request]:
        """The choices for one prompt; `number` is its place, `given` what goes before the model's own defaults."""
        room = self.engine.longest
        if len(prompt) > room:
            raise Refusal(
                400,
                f"a prompt of {len(prompt):,} tokens; the context takes {room:,}",
                code="context_length_exceeded",
                param="prompt",
            )
        values = {"temperature": 1.0, "top_p": 1.0, "top_k": 0} | dict(self.defaults) | dict(given)
        values |= {name: value for name in values if (value := getattr(body, name)) is not None}
        if values["temperature"] < GREEDY_BELOW:
            values["temperature"] = 0.0
        values["top_p"] = max(LEAST_TOP_P, values["top_p"])
        seed = secrets.randbits(62) if body.seed is None else body.seed
        return [
            Request(
                prompt=prompt,
                max_tokens=min(limit, room - len(prompt) + 1),
                stop_ids=self.ends,
                temperature=values["temperature"],
                top_p=values["top_p"],
                top_k=max(0, int(values["top_k"])),
                seed=_seed(seed, number + choice),
                grammar=grammar,
                **_options(body),
            )
            for choice in range(body.n or 1)
        ]


def open_served(folder: Path, engine: Engine, name: str) -> Served:
    """A checkpoint as it is served: its template or form, its ends, its own defaults of sampling."""
    conversation = open_conversation(engine, folder)
    ends = end_ids(folder) | {engine.tokenizer.end_of_text}
    if conversation.template is not None:
        ends |= conversation.template.ends
    return Served(name, engine, conversation, ends, sampling_defaults(folder / "generation_config.json"))


def sampling_defaults(file: Path) -> dict[str, float]:
    """What `generation_config.json` says of sampling, as far as it can be used."""
    stored = strictjson.read(file) if file.is_file() else None
    stored = stored if isinstance(stored, dict) else {}
    bounds = {"temperature": (0.0, 2.0), "top_p": (1e-6, 1.0), "top_k": (0, 1 << 31)}
    return {
        name: stored[name]
        for name, (least, most) in bounds.items()
        if type(stored.get(name)) in (int, float) and least <= stored[name] <= most
    }


def _options(body: Sampling) -> dict[str, Any]:
    """Options that are passed on as they are, under the engine's names."""
    values: dict[str, Any] = {
        "stop": (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        "min_p": body.min_p,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "repetition_penalty": body.repetition_penalty,
        "logit_bias": {_token(name): bias for name, bias in (body.logit_bias or {}).items()},
        "logprobs": _logprobs(body),
    }
    return {name: value for name, value in values.items() if value is not None}


def _logprobs(body: Sampling) -> int | None:
    if isinstance(body, CompletionBody):
        return body.logprobs
    if isinstance(body, ChatBody) and body.logprobs:
        return body.top_logprobs or 0
    if isinstance(body, ChatBody) and body.top_logprobs:
        raise Refusal(400, "top_logprobs without logprobs", code="invalid_value", param="top_logprobs")
    return None


def _token(name: str) -> int:
    if not (name.isascii() and name.isdigit()) or len(name) > 9:
        raise Refusal(400, f"token {name!r}: a token id is a number", code="invalid_value", param="logit_bias")
    return int(name)


def _seed(seed: int, choice: int) -> int:
    """The seed of a choice: its own, and inside what a generator takes."""
    return (seed + choice) % (1 << 63)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _turn(message: Message) -> Turn:
    """A message as templates know it: arguments of calls as values, not as JSON in a text."""
    role = "system" if message.role == "developer" else message.role
    turn: dict[str, Any] = {"role": role, "content": _text(message.content)}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return turn


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
