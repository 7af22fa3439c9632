"""The official client against the server: what it gets is what the engine gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from zhen.infer.engine import Request, load_engine
from zhen.infer.template import load_template

TURNS = [{"role": "user", "content": "Where is the town? 镇子在哪里？"}]


def expected(folder: Path, tokens: int, **options: Any) -> Any:
    engine, template = load_engine(folder), load_template(folder)
    assert template is not None
    prompt = template.encode(TURNS, engine.tokenizer)
    (answer,) = engine.generate([Request(prompt=prompt, max_tokens=tokens, **options)])
    return prompt, answer


def test_the_model_is_listed(chat: Any) -> None:
    assert [model.id for model in chat.client().models.list()] == ["tiny"]


def test_a_completion_is_the_engines(chat: Any, chat_model: Path) -> None:
    engine = load_engine(chat_model)
    prompt = engine.tokenizer.encode("The town")
    (answer,) = engine.generate([Request(prompt=prompt, max_tokens=12)])
    got = chat.client().completions.create(model="tiny", prompt="The town", max_tokens=12, temperature=0)
    assert got.choices[0].text == answer.text
    assert got.choices[0].finish_reason == answer.finish
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (len(prompt), len(answer.tokens))


def test_chat_is_the_engine_on_the_template(chat: Any, chat_model: Path) -> None:
    prompt, answer = expected(chat_model, 20)
    got = chat.client().chat.completions.create(model="tiny", messages=TURNS, max_tokens=20, temperature=0)
    assert got.choices[0].message.content == answer.text
    assert got.usage.prompt_tokens == len(prompt)


def test_a_stream_is_the_whole_in_pieces(chat: Any) -> None:
    asked = {"model": "tiny", "messages": TURNS, "max_tokens": 24, "temperature": 0.9, "seed": 5}
    whole = chat.client().chat.completions.create(**asked)
    chunks = list(chat.client().chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_choices_differ_and_come_again_with_their_seed(chat: Any) -> None:
    asked = {"model": "tiny", "prompt": ["The town", "湖边"], "n": 2, "max_tokens": 10, "temperature": 1.0, "seed": 1}
    first = chat.client().completions.create(**asked)
    again = chat.client().completions.create(**asked)
    texts = [choice.text for choice in first.choices]
    assert len(set(texts)) == 4
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in again.choices] == texts


@pytest.mark.parametrize(
    ("asked", "error", "param"),
    [
        ({"model": "other"}, openai.NotFoundError, "model"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"extra_body": {"beams": 4}}, openai.BadRequestError, "beams"),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, openai.BadRequestError, "prompt"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(chat: Any, asked: Any, error: Any, param: str) -> None:
    with pytest.raises(error) as refused:
        chat.client().chat.completions.create(**{"model": "tiny", "messages": TURNS} | asked)
    assert refused.value.param == param


def test_a_model_without_a_template_completes_and_refuses_to_chat(base_model: Path, serve: Any) -> None:
    with serve(base_model) as base:
        assert base.client().completions.create(model="tiny", prompt="The", max_tokens=4).usage.completion_tokens == 4
        with pytest.raises(openai.BadRequestError, match="no chat template") as refused:
            base.client().chat.completions.create(model="tiny", messages=TURNS)
    assert refused.value.code == "no_chat_template"


def test_log_probabilities_are_the_models(chat: Any, chat_model: Path) -> None:
    prompt, answer = expected(chat_model, 12, temperature=0.9, seed=4)
    asked = {"model": "tiny", "messages": TURNS, "max_tokens": 12, "temperature": 0.9, "seed": 4}
    options = {"logprobs": True, "top_logprobs": 3}
    got = chat.client().chat.completions.create(**asked, **options).choices[0].logprobs.content
    (score,) = load_engine(chat_model).score([(prompt, answer.tokens)])
    assert [each.logprob for each in got] == pytest.approx(score.logprobs.tolist(), abs=1e-4)
    assert all(len(each.top_logprobs) == 3 for each in got)
    assert b"".join(bytes(each.bytes) for each in got).decode("utf-8", "replace") == answer.text
    chunks = chat.client().chat.completions.create(**asked, **options, stream=True)
    streamed = [each for chunk in chunks if (found := chunk.choices[0].logprobs) for each in found.content]
    assert streamed == got


def test_a_completions_log_probabilities_have_places_in_its_text(chat: Any) -> None:
    asked = {"model": "tiny", "prompt": "The town", "max_tokens": 10, "seed": 2, "logprobs": 2}
    choice = chat.client().completions.create(**asked).choices[0]
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.text_offset) == len(found.top_logprobs)
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert not token.isalpha() or choice.text[offset : offset + len(token)] == token


def test_a_stop_text_ends_an_answer_and_never_shows(chat: Any) -> None:
    asked = {"model": "tiny", "prompt": "The town", "max_tokens": 60, "temperature": 0.8, "seed": 3}
    whole = chat.client().completions.create(**asked).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    for stream in (False, True):
        got = chat.client().completions.create(**asked, stop=[stop], stream=stream)
        choices = [chunk.choices[0] for chunk in got] if stream else got.choices
        assert "".join(choice.text for choice in choices) == whole[: whole.index(stop)]
        assert choices[-1].finish_reason == "stop"


def test_a_bias_makes_a_token_certain(chat: Any) -> None:
    asked = {"model": "tiny", "prompt": "The", "max_tokens": 5, "temperature": 0, "logprobs": 0}
    word = chat.client().completions.create(**asked, logit_bias={"300": 100}).choices[0].logprobs.tokens
    assert len(set(word)) == 1


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["溪桥", "Elmbrook"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def test_an_answer_keeps_to_its_schema(chat: Any) -> None:
    pytest.importorskip("llguidance", reason="the extra `serve` is not installed")
    form = {"type": "json_schema", "json_schema": {"name": "visit", "schema": SCHEMA, "strict": True}}
    asked = {"model": "tiny", "messages": TURNS, "temperature": 1.0, "max_tokens": 100, "response_format": form}
    for seed in range(5):
        said = chat.client().chat.completions.create(**asked, seed=seed).choices[0]
        value = json.loads(said.message.content)
        assert value["city"] in ("溪桥", "Elmbrook")
        assert 1 <= value["days"] <= 9
        assert said.finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_that_must_be_called_is_called_with_what_it_takes(chat: Any, choice: Any) -> None:
    pytest.importorskip("llguidance", reason="the extra `serve` is not installed")
    asked = {"model": "tiny", "messages": TURNS, "tools": [TOOL], "tool_choice": choice, "max_tokens": 150}
    got = chat.client().chat.completions.create(**asked, seed=1).choices[0]
    (call,) = got.message.tool_calls
    assert (got.finish_reason, got.message.content, call.function.name) == ("tool_calls", None, "weather")
    assert set(json.loads(call.function.arguments)) == {"city", "days"}
    chunks = list(chat.client().chat.completions.create(**asked, seed=1, stream=True))
    streamed = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [call.function.arguments for call in streamed] == [call.function.arguments]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_call_and_its_result_go_back_to_the_model(chat: Any) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "溪桥"}'}}
    turns = [
        *TURNS,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    asked = {"model": "tiny", "messages": turns, "tools": [TOOL], "max_tokens": 4}
    assert chat.client().chat.completions.create(**asked).usage.prompt_tokens > 60


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}])
def test_a_schema_that_is_none_is_refused(chat: Any, schema: Any) -> None:
    pytest.importorskip("llguidance", reason="the extra `serve` is not installed")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError):
        chat.client().chat.completions.create(model="tiny", messages=TURNS, response_format=form)
