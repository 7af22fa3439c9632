"""Answers in a given form, checked by other parsers: from a random model, so that the form alone makes them so."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from zhen.checkpoint.load import save_model
from zhen.errors import ZhenError
from zhen.infer.engine import Engine, load_engine
from zhen.infer.requests import Grammar, Request
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

pytest.importorskip("llguidance", reason="the extra `serve` is not installed")

TEXT = ['{"name": "a town by the lake", "age": 12, "tags": ["x", "y"]} 湖边的小镇。 true false null -3.5 '] * 9
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["x", "yy", "镇"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["tokenizer.model", "tokenizer.json"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("checkpoint")
    learned = learn_model(TEXT, TokenizerSettings(vocab_size=330))
    for name, content in ({"tokenizer.model": learned} | export_files(learned)).items():
        (folder / name).write_bytes(content)
    # a vocabulary larger than the tokenizer's: the ids beyond are never allowed
    model = Transformer(
        msgspec.structs.replace(PRESETS["micro"], vocab_size=352, initializer_range=0.3, max_position_embeddings=512)
    )
    initialise(model, 1)
    save_model(model, folder, "float32", folder, 512)
    (folder / ("tokenizer.json" if request.param == "tokenizer.model" else "tokenizer.model")).unlink()
    return load_engine(folder)


def ask(engine: Engine, grammar: Grammar, seed: int, **more: Any) -> tuple[str, str]:
    request = Request(prompt=[5, 6], max_tokens=200, temperature=1.0, seed=seed, grammar=grammar, **more)
    (answer,) = engine.generate([request])
    return answer.text, answer.finish


def test_an_answer_keeps_to_a_json_schema(engine: Engine) -> None:
    for seed in range(4):
        text, finish = ask(engine, Grammar("json", json.dumps(SCHEMA)), seed, drafts=seed % 2 * 4)
        value = json.loads(text)
        assert finish == "stop"
        assert set(value) == {"name", "age", "tags"}
        assert len(value["name"]) <= 12
        assert 0 <= value["age"] <= 99
        assert set(value["tags"]) <= {"x", "yy", "镇"}


def test_an_answer_keeps_to_a_regular_expression(engine: Engine) -> None:
    pattern = "(town|湖边)-[0-9]{3}"
    for seed in range(4):
        text, finish = ask(engine, Grammar("regex", pattern), seed)
        assert re.fullmatch(pattern, text)
        assert finish == "stop"


def test_a_form_that_may_go_on_ends_where_the_model_ends_it(engine: Engine) -> None:
    (answer,) = engine.generate([Request(prompt=[5], max_tokens=9, grammar=Grammar("regex", "a*"), logit_bias={2: 99})])
    assert (answer.text, answer.finish) == ("", "stop")


@pytest.mark.parametrize(
    "grammar", [Grammar("json", "{"), Grammar("json", '{"type": "nothing"}'), Grammar("regex", "(")]
)
def test_what_is_no_grammar_is_refused(engine: Engine, grammar: Grammar) -> None:
    with pytest.raises(ZhenError, match="can be kept to"):
        engine.submit(Request(prompt=[5], max_tokens=9, grammar=grammar))
