"""The decoder against transformers' LlamaForCausalLM: same weights, same logits, same text."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from zhen.errors import ZhenError
from zhen.model.attention import SHORT
from zhen.model.cache import Cache
from zhen.model.config import ModelConfig, RopeScaling, to_config_json
from zhen.model.generate import generate
from zhen.model.transformer import FRESH, Transformer, initialise

POSITIONS = 24
SCALINGS = {
    "none": None,
    "linear": RopeScaling(rope_type="linear", factor=2.0),
    "dynamic": RopeScaling(rope_type="dynamic", factor=3.0),
    "yarn": RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=12),
    "yarn, mscale": RopeScaling(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=6, mscale=0.7, mscale_all_dim=1.2, truncate=False
    ),
    "llama3": RopeScaling(
        rope_type="llama3", factor=8.0, original_max_position_embeddings=16, low_freq_factor=1.0, high_freq_factor=4.0
    ),
}


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    kv_heads, group, half = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 8))
    heads = kv_heads * group
    return ModelConfig(
        hidden_size=heads * draw(st.integers(2, 12)),
        intermediate_size=draw(st.integers(1, 70)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=2 * half,
        vocab_size=draw(st.integers(5, 90)),
        max_position_embeddings=POSITIONS,
        rms_norm_eps=draw(st.sampled_from([1e-5, 1e-6])),
        rope_theta=draw(st.sampled_from([1e4, 5e6])),
        rope_scaling=SCALINGS[draw(st.sampled_from(sorted(SCALINGS)))] if half > 1 else None,
        tie_word_embeddings=draw(st.booleans()),
        initializer_range=0.3,
        pad_token_id=None,
    )


def pair(config: ModelConfig, seed: int = 0) -> tuple[Transformer, LlamaForCausalLM]:
    ours = Transformer(config)
    initialise(ours, seed)
    theirs = LlamaForCausalLM(LlamaConfig(**to_config_json(config, "float32"))).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert set(missing) == ({"lm_head.weight"} if config.tie_word_embeddings else set())
    assert not unexpected
    return ours, theirs


def tokens(config: ModelConfig, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@settings(max_examples=150, deadline=None)
@given(configs(), st.integers(1, 3), st.integers(1, POSITIONS + 12))
def test_logits_are_those_of_transformers(config: ModelConfig, batch: int, length: int) -> None:
    ours, theirs = pair(config)
    text = tokens(config, batch, length)
    with torch.no_grad():
        assert close(ours(text), theirs(text, use_cache=False).logits)


@settings(max_examples=80, deadline=None)
@given(configs(), st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_cached_logits_are_those_of_transformers_cached(config: ModelConfig, pieces: list[int]) -> None:
    ours, theirs = pair(config)
    text = tokens(config, 2, sum(pieces))
    mine, other = Cache(config, 2, sum(pieces)), DynamicCache()
    with torch.no_grad():
        for piece in text.split(pieces, dim=1):
            assert close(ours(piece, mine), theirs(piece, cache=other, use_cache=True).logits)


@settings(max_examples=30, deadline=None)
@given(configs(), st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_cached_logits_are_those_of_the_full_pass_within_the_trained_length(
    config: ModelConfig, pieces: list[int]
) -> None:
    ours, _ = pair(config)
    text = tokens(config, 2, sum(pieces))
    cache = Cache(config, 2, POSITIONS)
    with torch.no_grad():
        full = ours(text)
        assert close(torch.cat([ours(piece, cache) for piece in text.split(pieces, dim=1)], dim=1), full)


def test_dynamic_scaling_in_the_full_pass_is_transformers_also_beyond_the_trained_length() -> None:
    config = example(rope_scaling=SCALINGS["dynamic"])
    ours, theirs = pair(config)
    for length in (POSITIONS, POSITIONS + 1, 4 * POSITIONS, POSITIONS - 1):
        text = tokens(config, 1, length)
        with torch.no_grad():  # a copy: transformers' rotary state depends on what was run before
            assert close(ours(text), copy.deepcopy(theirs)(text, use_cache=False).logits)


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("tied", [False, True])
def test_greedy_text_is_that_of_transformers(kind: str, tied: bool) -> None:
    config = example(rope_scaling=SCALINGS[kind], tie_word_embeddings=tied)
    ours, theirs = pair(config, seed=3)
    prompt = tokens(config, 1, 7, seed=5)
    made = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=POSITIONS - 7 + 12,  # some beyond the trained length
        do_sample=False,
        eos_token_id=None,
    )[0, 7:].tolist()
    assert generate(ours, prompt[0].tolist(), len(made), set()) == made


def test_generation_stops_before_an_end_token() -> None:
    ours, _ = pair(example())
    text = generate(ours, [5, 6], 10, set())
    end = text[4]
    assert generate(ours, [5, 6], 10, {end}) == text[: text.index(end)]


@pytest.mark.parametrize("ids", [[], [50], [-1]])
def test_a_prompt_that_is_empty_or_outside_the_vocabulary_is_refused(ids: list[int]) -> None:
    with pytest.raises(ZhenError):
        generate(pair(example())[0], ids, 1, set())


def test_gradients_are_those_of_transformers() -> None:
    config = example()
    ours, theirs = pair(config)
    text = tokens(config, 2, 20)
    for model in (ours(text), theirs(text, use_cache=False).logits):
        torch.nn.functional.cross_entropy(model[:, :-1].flatten(0, 1), text[:, 1:].flatten()).backward()
    other = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, other[name].grad, rtol=1e-4, atol=1e-6)


def test_backward_gives_the_same_bits_twice() -> None:
    config = example()
    text = tokens(config, 4, 20)

    def gradients() -> list[torch.Tensor]:
        ours, _ = pair(config)
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(ours(text).float().flatten(0, 1), text.flatten())
        loss.backward()
        return [p.grad for p in ours.parameters() if p.grad is not None]

    for first, second in zip(gradients(), gradients(), strict=True):
        assert torch.equal(first, second)


def test_norms_and_rotary_positions_stay_in_float32_under_bfloat16() -> None:
    config = example(num_hidden_layers=1)
    ours, _ = pair(config)
    text = tokens(config, 2, 20)
    with torch.no_grad():
        exact = ours(text)
        half = copy.deepcopy(ours).bfloat16()(text).float()
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("length", [20, SHORT + 1])
def test_short_sequences_under_autocast_attend_in_float32_and_agree_with_long_ones(length: int) -> None:
    config = example(num_hidden_layers=1)
    ours, _ = pair(config)
    text = tokens(config, 1, length)
    with torch.no_grad():
        exact = ours(text)
        with torch.autocast("cpu", torch.bfloat16):
            half = ours(text)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_generation_works_under_autocast_and_in_inference_mode_then_training_goes_on() -> None:
    config = example()
    ours, _ = pair(config)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert len(generate(ours, [5, 6, 7], 5, set())) == 5
        ours(tokens(config, 1, 9))
    ours(tokens(config, 1, 9)).sum().backward()


def test_fresh_weights_depend_on_seed_and_name_only() -> None:
    config = example()
    one, other = Transformer(config), Transformer(msgspec.structs.replace(config, num_hidden_layers=2))
    initialise(one, 1)
    torch.manual_seed(99)
    initialise(other, 1)
    for name in ("model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "lm_head.weight"):
        assert torch.equal(one.state_dict()[name], other.state_dict()[name])
    before = one.lm_head.weight.clone()
    initialise(one, 2)
    assert not torch.equal(one.lm_head.weight, before)


def test_fresh_weights_have_the_tables_spread() -> None:
    config = example(hidden_size=192, intermediate_size=200, initializer_range=0.02)
    model = Transformer(config)
    initialise(model, 1)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter))
            continue
        scale = 1 / (2 * config.num_hidden_layers) ** 0.5 if "o_proj" in name or "down_proj" in name else 1
        assert parameter.std().item() == pytest.approx(0.02 * scale, rel=0.05)
        assert abs(parameter.mean().item()) < 0.002
    assert len({row.pattern for row in FRESH}) == len(FRESH)


def test_post_norm_keeps_the_residual_stream_normal() -> None:
    config = example(norm_place="post")
    model = Transformer(config)
    initialise(model, 1)
    with torch.no_grad():
        x = model.model.layers[0](torch.randn(1, 5, config.hidden_size), model._rotary.tables(0, 5, CPU), None, None)
    assert torch.allclose(x.pow(2).mean(-1), torch.ones(1, 5), atol=1e-3)


def test_a_full_cache_says_so() -> None:
    config = example()
    ours, _ = pair(config)
    with pytest.raises(ZhenError, match="9 tokens; expected at most 8"):
        ours(tokens(config, 1, 9), Cache(config, 1, 8))


CPU = torch.device("cpu")


def example(**changes: Any) -> ModelConfig:
    config = ModelConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=50,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
        pad_token_id=None,
    )
    return msgspec.structs.replace(config, **({"head_dim": 0} | changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_made_ready_for_inference_computes_the_same(dtype: torch.dtype) -> None:
    model, _ = pair(example())
    model = model.to(dtype)
    ids = tokens(model.config, 2, 9)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    q, k, v = (getattr(model.model.layers[0].self_attn, name).weight.clone() for name in ("q_proj", "k_proj", "v_proj"))
    with torch.no_grad():
        apart = model(ids)
        model.join()
        model.join()  # done once
        torch.testing.assert_close(model(ids), apart, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0.02)
    assert torch.equal(model.model.layers[0].self_attn.product.dense(), torch.cat((q, k, v)))
    # names and shapes stay; the values are not there to be saved by mistake
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes
    with pytest.raises(RuntimeError, match="no data"):
        Transformer(model.config).load_state_dict(model.state_dict())
