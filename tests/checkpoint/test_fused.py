"""Fused tensors and rotary orders: there and back bit for bit, against the models' own code and transformers'."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from zhen.checkpoint.fused import from_llama, to_llama
from zhen.checkpoint.names import SCHEMES, detect
from zhen.checkpoint.schemes import LLAMA
from zhen.checkpoint.views import View
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes

WHOLE = [name for name, scheme in SCHEMES.items() if len(scheme.places) == len(LLAMA)]


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    kv = draw(st.integers(1, 4))
    heads = kv * draw(st.integers(1, 3))
    return ModelConfig(
        hidden_size=heads * draw(st.sampled_from([2, 4])),
        intermediate_size=draw(st.integers(1, 7)),
        num_hidden_layers=draw(st.integers(1, 2)),
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=2 * draw(st.integers(1, 4)),
        vocab_size=draw(st.integers(3, 9)),
        max_position_embeddings=8,
        tie_word_embeddings=draw(st.booleans()),
    )


def filled(config: ModelConfig, dtype: str = "BF16") -> dict[str, View]:
    """A view of every tensor of the model, each number its own bits."""
    raw = {"BF16": np.uint16, "F32": np.uint32, "U8": np.uint8}[dtype]
    random = np.random.default_rng(0)
    found = {}
    for name, shape in shapes(config).items():
        data = random.integers(np.iinfo(raw).max, size=shape, dtype=raw)
        found[name] = View(name, dtype, shape, lambda data=data: data)  # type: ignore[misc]
    return found


@given(configs(), st.sampled_from(WHOLE), st.sampled_from(["BF16", "F32", "U8"]))
def test_there_and_back_is_the_same_bits(config: ModelConfig, scheme: str, dtype: str) -> None:
    ours = filled(config, dtype)
    if scheme == "neox" and config.num_key_value_heads != config.num_attention_heads:
        with pytest.raises(ZhenError, match="as many: the scheme joins q, k and v by head"):
            from_llama(ours, scheme, config)
        return
    theirs = {view.name: view for view in from_llama(ours, scheme, config)}
    assert detect(theirs) in (scheme, "llama" if scheme in ("qwen2", "internlm") else scheme)
    assert sum(np.prod(view.shape) for view in theirs.values()) == sum(np.prod(view.shape) for view in ours.values())
    back = to_llama(theirs, scheme, config)
    assert back.keys() == ours.keys()
    for name, view in back.items():
        assert (view.name, view.dtype, view.shape) == (name, dtype, ours[name].shape)
        assert np.array_equal(view.read(), ours[name].read())


SHAPE = ModelConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=60, max_position_embeddings=64, initializer_range=0.3,
)  # fmt: skip
MANY = ModelConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=60,
    max_position_embeddings=64, initializer_range=0.3,
)  # fmt: skip
TEXT = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(0))


def llama(config: ModelConfig) -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**to_config_json(config, "float32"))).eval()


def as_views(state: dict[str, torch.Tensor]) -> dict[str, View]:
    def view(name: str, tensor: torch.Tensor) -> View:
        return View(name, "F32", tuple(tensor.shape), lambda: tensor.detach().contiguous().numpy().view(np.uint32))

    return {name: view(name, tensor) for name, tensor in state.items()}


def as_tensors(views: Iterator[View] | list[View]) -> dict[str, torch.Tensor]:
    return {view.name: torch.from_numpy(np.array(view.read()).view(np.float32)) for view in views}


@torch.no_grad()
def test_phi3s_own_code_gives_the_same_logits() -> None:
    ours = llama(SHAPE)
    same = {key: value for key, value in to_config_json(SHAPE, "float32").items() if key != "model_type"}
    theirs = transformers.Phi3ForCausalLM(transformers.Phi3Config(**same)).eval()
    theirs.load_state_dict(as_tensors(from_llama(as_views(ours.state_dict()), "phi3", SHAPE)))
    torch.testing.assert_close(theirs(TEXT).logits, ours(TEXT).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [SHAPE, MANY], ids=["grouped", "as many"])
def test_metas_order_is_the_one_that_transformers_permutes(config: ModelConfig) -> None:
    def permute(w: torch.Tensor, heads: int) -> torch.Tensor:  # as convert_llama_weights_to_hf.py has it
        return w.view(heads, w.shape[0] // heads // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)

    meta = {
        view.name: torch.from_numpy(view.read().astype(np.int64)) for view in from_llama(filled(config), "meta", config)
    }
    ours = {name: torch.from_numpy(view.read().astype(np.int64)) for name, view in filled(config).items()}
    q, k = meta["layers.1.attention.wq.weight"], meta["layers.1.attention.wk.weight"]
    assert torch.equal(permute(q, config.num_attention_heads), ours["model.layers.1.self_attn.q_proj.weight"])
    assert torch.equal(permute(k, config.num_key_value_heads), ours["model.layers.1.self_attn.k_proj.weight"])
    assert torch.equal(meta["layers.1.attention.wv.weight"], ours["model.layers.1.self_attn.v_proj.weight"])
    assert torch.equal(meta["layers.0.feed_forward.w3.weight"], ours["model.layers.0.mlp.up_proj.weight"])


HIDDEN = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))


def parts(config: ModelConfig, scheme: str, fused: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The scheme's fused weight of layer 0 in float64; what LLaMA's q, k, v make of HIDDEN, [2, 9, heads, width]."""
    ours = filled(config)
    whole = next(view for view in from_llama(ours, scheme, config) if view.name.endswith(fused))
    made = [
        HIDDEN.double() @ torch.from_numpy(ours[f"model.layers.0.self_attn.{part}_proj.weight"].read() / 1e4).T
        for part in "qkv"
    ]
    return torch.from_numpy(whole.read() / 1e4), [part.view(2, 9, -1, config.head_dim) for part in made]


@torch.no_grad()
def test_falcons_own_code_splits_the_groups_alike() -> None:
    from transformers.models.falcon.modeling_falcon import FalconAttention

    config = transformers.FalconConfig(
        hidden_size=32, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True
    )
    fused, ours = parts(SHAPE, "megatron", "layers.0.self_attention.query_key_value.weight")
    theirs = FalconAttention(config, layer_idx=0)._split_heads(HIDDEN.double() @ fused.T)
    for made, split in zip(ours, theirs, strict=True):
        torch.testing.assert_close(split, made.repeat_interleave(4 // made.shape[2], dim=2))


@torch.no_grad()
def test_neoxs_own_code_attends_alike() -> None:
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    ours = llama(MANY)
    config = transformers.GPTNeoXConfig(
        hidden_size=32, num_attention_heads=4, attention_bias=False, attn_implementation="eager"
    )
    theirs = GPTNeoXAttention(config, layer_idx=0).eval()
    attention: LlamaAttention = ours.model.layers[0].self_attn
    fused = as_tensors(from_llama(as_views(ours.state_dict()), "neox", MANY))
    theirs.query_key_value.weight.copy_(fused["gpt_neox.layers.0.attention.query_key_value.weight"])
    theirs.dense.weight.copy_(fused["gpt_neox.layers.0.attention.dense.weight"])
    angles = LlamaRotaryEmbedding(ours.config)(HIDDEN, torch.arange(9)[None])
    mask = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    made = theirs(HIDDEN, attention_mask=mask, position_embeddings=angles)[0]
    torch.testing.assert_close(made, attention(HIDDEN, position_embeddings=angles, attention_mask=mask)[0])


def test_internlm2s_rows_are_cut_as_its_code_does() -> None:
    fused, (q, k, v) = parts(SHAPE, "internlm2", "layers.0.attention.wqkv.weight")
    states = (HIDDEN.double() @ fused.T).view(2, 9, 2, 2 + 2, 8)  # "b q (h gs d) -> b q h gs d", 2 key/value heads
    for made, cut in ((q, states[..., :2, :].reshape(2, 9, 4, 8)), (k, states[..., -2, :]), (v, states[..., -1, :])):
        torch.testing.assert_close(cut, made)


def test_baichuans_pack_is_thirds_and_qwens_gate_is_w2() -> None:
    ours = filled(MANY)
    packed = {view.name: view.read() for view in from_llama(ours, "baichuan", MANY)}
    thirds = np.split(packed["model.layers.1.self_attn.W_pack.weight"], 3)
    for part, third in zip("qkv", thirds, strict=True):
        assert np.array_equal(third, ours[f"model.layers.1.self_attn.{part}_proj.weight"].read())
    qwen = {view.name: view.read() for view in from_llama(ours, "qwen", MANY)}
    assert np.array_equal(qwen["transformer.h.1.mlp.w2.weight"], ours["model.layers.1.mlp.gate_proj.weight"].read())


def test_what_does_not_fit_is_named() -> None:
    ours = filled(SHAPE)
    with pytest.raises(ZhenError, match="no place for it"):
        from_llama(ours, "falcon", SHAPE)
    theirs = {view.name: view for view in from_llama(ours, "phi3", SHAPE)}
    with pytest.raises(ZhenError, match=r"qkv_proj.weight': shape \[64, 32\]; expected 96 rows"):
        to_llama(theirs, "phi3", MANY)
    lost = {**theirs, "model.layers.0.mlp.gate_up_proj.bias": ours["model.norm.weight"]}
    with pytest.raises(ZhenError, match=r"gate_up_proj\.bias"):
        to_llama(lost, "phi3", SHAPE)
    del ours["model.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(ZhenError, match=r"k_proj.weight': missing; expected all parts of .*qkv_proj"):
        from_llama(ours, "phi3", SHAPE)
