"""The engine against transformers and the plain loop; and that company changes no answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from zhen.checkpoint.load import save_model
from zhen.errors import ZhenError
from zhen.infer.engine import Engine, load_engine
from zhen.infer.requests import Request, Score
from zhen.model.config import PRESETS, ModelConfig
from zhen.model.generate import generate
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

VOCAB = 96
CONTEXT = 48
EOT = 2
NEVER: frozenset[int] = frozenset()


class Letters:
    """A tokenizer in which id n is the character U+4E00 + n."""

    vocab_size = VOCAB
    end_of_text = EOT

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(0x4E00 + token) for token in ids)


def tiny_model() -> Transformer:
    config = ModelConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=VOCAB,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
    )
    model = Transformer(config)
    initialise(model, seed=3)
    return model


def theirs() -> LlamaForCausalLM:
    model = tiny_model()  # one that was given to no engine
    config = LlamaConfig(
        **{
            name: getattr(model.config, name)
            for name in (
                "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
            )
        },
        rope_parameters={"rope_type": "default", "rope_theta": model.config.rope_theta},
        bos_token_id=1, eos_token_id=EOT, pad_token_id=0,
    )  # fmt: skip
    other = LlamaForCausalLM(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny_model()


@pytest.fixture
def engine(model: Transformer) -> Engine:
    return Engine(model, Letters(), batch=4)  # type: ignore[arg-type]


def prompts(count: int, longest: int = 20) -> list[list[int]]:
    random = np.random.default_rng(7)
    return [random.integers(3, VOCAB, size=random.integers(1, longest + 1)).tolist() for _ in range(count)]


def their_logprobs(ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(theirs()(torch.tensor([ids])).logits[0].double(), dim=-1)


def test_greedy_text_equals_transformers_token_for_token(engine: Engine) -> None:
    other = theirs()
    for prompt in prompts(5):
        (answer,) = engine.generate([Request(prompt=prompt, max_tokens=16, stop_ids=NEVER)])
        wanted = other.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=16, min_new_tokens=16,
            do_sample=False, eos_token_id=None,
        )  # fmt: skip
        assert answer.tokens == wanted[0, len(prompt) :].tolist()
        assert answer.text == Letters().decode(answer.tokens)
        assert answer.finish == "length"


def test_company_changes_no_answer(engine: Engine, model: Transformer) -> None:
    together = engine.generate([Request(prompt=prompt, max_tokens=12) for prompt in prompts(11)])
    assert [answer.tokens for answer in together] == [generate(model, prompt, 12, {EOT}) for prompt in prompts(11)]


def test_sampling_depends_on_the_seed_alone(engine: Engine) -> None:
    def ask(seed: int, prompt: list[int]) -> Request:
        return Request(prompt=prompt, max_tokens=12, temperature=1.0, top_p=0.9, seed=seed, stop_ids=NEVER)

    alone = engine.generate([ask(5, [7, 8])])[0].tokens
    crowd = engine.generate([ask(9, prompt) for prompt in prompts(6)] + [ask(5, [7, 8])])
    assert crowd[-1].tokens == alone
    assert engine.generate([ask(6, [7, 8])])[0].tokens != alone


def test_stops_before_a_stop_token(engine: Engine, model: Transformer) -> None:
    free = generate(model, [5, 6], 10, set())
    (answer,) = engine.generate([Request(prompt=[5, 6], max_tokens=10, stop_ids=frozenset([free[4]]))])
    assert answer.tokens == free[: free.index(free[4])]
    assert answer.finish == "stop"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in bfloat16 with a tokenizer of its own."""
    made = tmp_path_factory.mktemp("checkpoint")
    (made / "tokenizer.model").write_bytes(learn_model(["a town by the lake. "] * 9, TokenizerSettings(vocab_size=300)))
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=300, initializer_range=0.3))
    initialise(model, 1)
    save_model(model, made, "bfloat16", made, 64)
    return made


def test_a_small_checkpoint_answers_in_float32_unless_told_otherwise(folder: Path) -> None:
    assert load_engine(folder).model.dtype == torch.float32
    assert load_engine(folder, "bfloat16").model.dtype == torch.bfloat16


def test_any_of_a_checkpoints_end_tokens_ends_the_answer(folder: Path) -> None:
    free = generate(load_engine(folder).model, [5, 6], 10, set())
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, free[4]]}))
    (answer,) = load_engine(folder).generate([Request(prompt=[5, 6], max_tokens=10)])
    assert (answer.tokens, answer.finish) == (free[: free.index(free[4])], "stop")


def test_stops_where_the_context_is_full(engine: Engine) -> None:
    (answer,) = engine.generate([Request(prompt=[5] * CONTEXT, max_tokens=9, stop_ids=NEVER)])
    assert len(answer.tokens) == 1
    assert answer.finish == "length"
    with pytest.raises(ZhenError, match="a prompt of 49 tokens; expected at most 48"):
        engine.submit(Request(prompt=[5] * (CONTEXT + 1), max_tokens=1))


def test_a_cancelled_request_ends_and_the_others_go_on(engine: Engine, model: Transformer) -> None:
    kept, given_up = (engine.submit(Request(prompt=[token], max_tokens=6, stop_ids=NEVER)) for token in (5, 6))
    waiting = [engine.submit(Request(prompt=[7], max_tokens=6)) for _ in range(4)][-1]
    events = engine.step()
    engine.cancel(given_up)
    engine.cancel(waiting)
    while more := engine.step():
        events += more
    ends = {event.id: event.finish for event in events if event.finish}
    assert ends[given_up] == ends[waiting] == "cancelled"
    assert [event.token for event in events if event.id == kept] == generate(model, [5], 6, set())


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [VOCAB]},
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_k": -1},
        {"seed": 1 << 64},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e-40},
    ],
)
def test_refuses_what_cannot_be_done(engine: Engine, change: dict[str, object]) -> None:
    with pytest.raises(ZhenError, match="expected"):
        engine.submit(Request(**({"prompt": [5], "max_tokens": 3} | change)))  # type: ignore[arg-type]


def test_damaged_weights_are_said() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    engine = Engine(model, Letters())  # type: ignore[arg-type]
    with pytest.raises(ZhenError, match="not finite"):
        engine.generate([Request(prompt=[5], max_tokens=1)])
    with pytest.raises(ZhenError, match="not finite"):
        engine.score([([5], [6])])


def check(score: Score, logs: torch.Tensor, tokens: list[int]) -> None:
    """`score` against log-probabilities [n, vocab] from elsewhere."""
    own = logs[range(len(tokens)), tokens]
    np.testing.assert_allclose(score.logprobs, own.numpy(), atol=2e-5)
    assert score.ranks.tolist() == (1 + (logs > own[:, None]).sum(1)).tolist()
    assert score.greedy.tolist() == (logs.argmax(1) == torch.tensor(tokens)).tolist()
    means = (logs.exp() * logs).sum(1)
    np.testing.assert_allclose(score.means, means.numpy(), atol=2e-5)
    np.testing.assert_allclose(score.variances, (logs.exp() * logs**2).sum(1) - means**2, atol=1e-4)
    assert score.total == pytest.approx(float(own.sum()), abs=1e-4)


def test_scores_equal_transformers(engine: Engine) -> None:
    pairs = list(zip(prompts(9), prompts(9, longest=15)[::-1], strict=True))
    for (context, continuation), score in zip(pairs, engine.score(pairs), strict=True):
        logs = their_logprobs(context + continuation)[len(context) - 1 : -1]
        check(score, logs, continuation)


def test_an_empty_context_is_the_beginning_of_a_document(engine: Engine) -> None:
    bare, said = engine.score([([], [5, 6]), ([EOT], [5, 6])])
    assert bare.logprobs.tolist() == said.logprobs.tolist()
    assert engine.score([([5], [])])[0].logprobs.size == 0


def test_a_long_context_loses_its_beginning(engine: Engine) -> None:
    context, continuation = list(range(3, 70)), [7, 8, 9]
    (score,) = engine.score([(context, continuation)])
    fed = (context + continuation)[:-1][-CONTEXT:]
    check(score, their_logprobs(fed)[-3:], continuation)
    with pytest.raises(ZhenError, match="a continuation of 49 tokens"):
        engine.score([([5], [6] * (CONTEXT + 1))])


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 3 * CONTEXT), stride=st.integers(1, CONTEXT))
def test_rolling_scores_every_token_once_and_from_enough_context(length: int, stride: int) -> None:
    model = tiny_model()
    engine = Engine(model, Letters(), batch=5)  # type: ignore[arg-type]
    ids = np.random.default_rng(length).integers(3, VOCAB, size=length).tolist()
    score = engine.score_rolling(ids, stride)
    assert score.logprobs.shape == (length,)
    whole = [EOT, *ids]
    for place in range(1, length + 1, 7):
        # the window that scores this token: the first one, or one that ends on a multiple of the stride
        end = 1 + CONTEXT if place <= CONTEXT else 1 + CONTEXT + -(-(place - CONTEXT) // stride) * stride
        begin = max(0, min(end, len(whole)) - 1 - CONTEXT)
        with torch.no_grad():
            logs = torch.log_softmax(model(torch.tensor([whole[begin:place]]))[0, -1], dim=-1)
        assert score.logprobs[place - 1] == pytest.approx(float(logs[whole[place]]), abs=2e-5)


def test_documents_score_as_they_do_alone(engine: Engine) -> None:
    documents = [*prompts(7, longest=2 * CONTEXT), []]
    for document, score in zip(documents, engine.score_documents(documents, stride=16), strict=True):
        np.testing.assert_allclose(score.logprobs, engine.score_rolling(document, 16).logprobs, atol=1e-5)
