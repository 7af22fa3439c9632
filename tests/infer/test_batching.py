"""Many requests at a time: the same bits in any company, transformers' words, whatever is reused or guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from zhen.errors import ZhenError
from zhen.infer.engine import Engine
from zhen.infer.requests import Completion, Request
from zhen.infer.scheduler import BLOCK
from zhen.model.config import ModelConfig, RopeScaling
from zhen.model.transformer import Transformer, initialise

VOCAB = 211
CONTEXT = 512
NEVER: frozenset[int] = frozenset()
CONFIG = ModelConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=VOCAB,
    max_position_embeddings=CONTEXT,
    initializer_range=0.2,
)


class Letters:
    """A tokenizer in which id n is the character U+4E00 + n."""

    vocab_size = VOCAB
    end_of_text = 2

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(0x4E00 + token) for token in ids)


def model_of(dtype: torch.dtype, config: ModelConfig = CONFIG) -> Transformer:
    model = Transformer(config)
    initialise(model, seed=5)
    return model.to(dtype)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> Transformer:
    return model_of(request.param)


def engine_of(model: Transformer, **settings: Any) -> Engine:
    return Engine(model, Letters(), **({"batch": 16} | settings))  # type: ignore[arg-type]


def mixed(count: int, seed: int = 0) -> list[Request]:
    """Requests with prompts of 1 to 300 tokens, some with a beginning in common; greedy and not, logprobs of all."""
    random = np.random.default_rng(seed)
    shared = random.integers(3, VOCAB, 2 * BLOCK + 9).tolist()
    found = []
    for number in range(count):
        own = random.integers(3, VOCAB, int(random.choice([1, 2, 5, 40, 63, 64, 65, 130, 300]))).tolist()
        prompt = shared + own[:150] if number % 3 == 0 else own
        found.append(
            Request(
                prompt=prompt,
                max_tokens=int(random.integers(4, 24)),
                stop_ids=NEVER,
                temperature=0.9 if number % 4 == 1 else 0.0,
                seed=number,
                logprobs=2,
                drafts=3 if number % 5 == 2 else 0,
            )
        )
    return found


def test_the_same_bits_alone_and_among_fifteen_others(model: Transformer) -> None:
    requests = mixed(16)
    together = engine_of(model).generate(requests)
    for request, answer in zip(requests, together, strict=True):
        # tokens, log-probabilities and those of the others in each place, equal to the last bit
        assert engine_of(model).generate([request]) == [answer]


def test_the_same_bits_however_prompts_are_read(model: Transformer) -> None:
    requests = mixed(9, seed=1)
    wanted = engine_of(model, batch=1, prefix_tokens=0, prompt_tokens=1).generate(requests)
    engine = engine_of(model, batch=5, prompt_tokens=5 * BLOCK)
    assert engine.generate(requests) == wanted
    reused = engine.prefixes.reused
    assert reused >= 2 * 2 * BLOCK  # of three prompts with two blocks in common, two found them there
    assert engine.generate(requests[::-1]) == wanted[::-1]
    assert engine.prefixes.reused > 2 * reused


def test_the_same_bits_with_a_cache_in_8_bits(model: Transformer) -> None:
    requests = mixed(6, seed=4)
    together = engine_of(model, cache_bits=8).generate(requests)
    for request, answer in zip(requests, together, strict=True):
        assert engine_of(model, cache_bits=8).generate([request]) == [answer]
    assert engine_of(model).generate(requests) != together


def test_attention_may_lay_its_result_out_as_a_gpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # CUDA's kernels give [batch, heads, tokens, width] out of memory in the order [batch, tokens, heads, width]
    requests = mixed(6)
    expected = engine_of(model_of(torch.float32)).generate(requests)
    attention = torch.nn.functional.scaled_dot_product_attention

    def turned(*given: Any, **more: Any) -> torch.Tensor:
        return attention(*given, **more).transpose(1, 2).contiguous().transpose(1, 2)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", turned)
    assert engine_of(model_of(torch.float32)).generate(requests) == expected


def test_guesses_change_nothing(model: Transformer) -> None:
    random = np.random.default_rng(3)
    prompts = [random.integers(3, 9, 60).tolist() for _ in range(6)]  # few words: there is much to guess from
    settings: dict[str, Any] = {"max_tokens": 40, "stop_ids": NEVER, "logprobs": 1}
    for more in ({}, {"temperature": 0.7, "seed": 4}, {"repetition_penalty": 1.2, "frequency_penalty": 0.1}):
        plain = [Request(prompt=prompt, **settings, **more) for prompt in prompts]
        guessed = [Request(prompt=prompt, **settings, **more, drafts=7) for prompt in prompts]
        assert engine_of(model).generate(guessed) == engine_of(model).generate(plain)


def steps(engine: Engine, request: Request) -> int:
    engine.submit(request)
    count = 0
    while engine.step():
        count += 1
    return count


def test_guesses_save_steps() -> None:
    engine = engine_of(model_of(torch.float32))
    again = {"prompt": [5, 6], "max_tokens": 200, "stop_ids": NEVER, "logit_bias": {7: 1e4}}  # says one word for ever
    assert steps(engine, Request(**again)) == 200
    assert steps(engine, Request(**again, drafts=9)) <= 3 + 200 / 10


def theirs(model: Transformer) -> LlamaForCausalLM:
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    )  # fmt: skip
    other = LlamaForCausalLM(
        LlamaConfig(
            **{name: getattr(model.config, name) for name in names},
            rope_parameters={"rope_type": "default", "rope_theta": model.config.rope_theta},
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_greedy_equals_transformers_in_mixed_batches_with_reuse_and_guesses() -> None:
    model = model_of(torch.float32)
    other = theirs(model)
    requests = [
        Request(prompt=each.prompt, max_tokens=each.max_tokens, stop_ids=NEVER, drafts=each.drafts)
        for each in mixed(14, seed=2)
    ]
    engine = engine_of(model, batch=4, prompt_tokens=2 * BLOCK)
    answers = engine.generate(requests)
    assert engine.prefixes.reused > 0
    for request, answer in zip(requests, answers, strict=True):
        wanted = other.generate(
            torch.tensor([request.prompt]), attention_mask=torch.ones(1, len(request.prompt)),
            max_new_tokens=request.max_tokens, min_new_tokens=request.max_tokens, do_sample=False, eos_token_id=None,
        )  # fmt: skip
        assert answer.tokens == wanted[0, len(request.prompt) :].tolist()


def test_logprobs_are_the_models_own() -> None:
    model = model_of(torch.float32)
    other = theirs(model)
    asked = Request(prompt=[5, 6, 7], max_tokens=6, stop_ids=NEVER, temperature=1.5, seed=1, logprobs=3)
    (answer,) = engine_of(model).generate([asked])
    with torch.no_grad():
        logs = torch.log_softmax(other(torch.tensor([[5, 6, 7, *answer.tokens]])).logits[0].double(), -1)
    for place, (token, logprob, top) in enumerate(zip(answer.tokens, answer.logprobs, answer.top, strict=True)):
        own = logs[2 + place]
        assert logprob == pytest.approx(float(own[token]), abs=1e-5)
        assert [each.token for each in top] == own.topk(3).indices.tolist()


def pieces(engine: Engine, request: Request) -> tuple[list[str], Completion]:
    """The texts of the events, and the whole."""
    (whole,) = engine.generate([request])
    engine.submit(request)
    texts = []
    while events := engine.step():
        texts += [event.text for event in events]
    return texts, whole


def test_a_stop_text_is_never_shown_and_nothing_before_it_lost() -> None:
    engine = engine_of(model_of(torch.float32))
    free = engine.generate([Request(prompt=[5, 6], max_tokens=20, stop_ids=NEVER)])[0].text
    for begin in range(18):
        for size in (1, 2, 3):
            stop = free[begin : begin + size]
            # "x" never comes: it keeps its beginning held back as long as it may come
            texts, whole = pieces(
                engine, Request(prompt=[5, 6], max_tokens=20, stop_ids=NEVER, stop=(stop, free[begin] + "x"))
            )
            assert "".join(texts) == whole.text == free[: free.index(stop)]
            assert whole.finish == "stop"
    texts, whole = pieces(engine, Request(prompt=[5, 6], max_tokens=20, stop_ids=NEVER, stop=(free[-1] + "x",)))
    assert "".join(texts) == whole.text == free  # held back to the last, and shown at the end
    assert whole.finish == "length"


def test_dynamic_scaling_goes_by_the_longest_that_a_request_can_become() -> None:
    config = msgspec.structs.replace(
        CONFIG, max_position_embeddings=64, rope_scaling=RopeScaling(rope_type="dynamic", factor=4.0)
    )
    model = model_of(torch.float32, config)
    engine = engine_of(model)
    prompt = np.random.default_rng(1).integers(3, VOCAB, 150).tolist()
    (answer,) = engine.generate([Request(prompt=prompt, max_tokens=51, stop_ids=NEVER)])
    with torch.no_grad():  # all 200 tokens at once: dynamic scaling sees its full length there too
        logits = model(torch.tensor([[*prompt, *answer.tokens[:-1]]]))[0]
    assert answer.tokens == logits[149:].argmax(1).tolist()
    with pytest.raises(ZhenError, match="at most 256"):
        engine.submit(Request(prompt=[5] * 257, max_tokens=1))


def test_more_than_the_cache_holds_waits_or_is_refused() -> None:
    engine = engine_of(model_of(torch.float32), cache_tokens=40)
    with pytest.raises(ZhenError, match="at most 40"):
        engine.submit(Request(prompt=[5] * 30, max_tokens=12))
    for _ in range(3):
        engine.submit(Request(prompt=[5] * 10, max_tokens=11, stop_ids=NEVER))
    engine.step()
    assert (engine.running, engine.waiting) == (2, 1)
    while engine.step():
        pass
    assert (engine.running, engine.waiting) == (0, 0)
