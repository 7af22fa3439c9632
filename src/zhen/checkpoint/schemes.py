"""The naming schemes as data: a table each, from LLaMA's names to the scheme's, one-to-one, with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Rule = Literal["rows", "groups", "heads"]
"""How several of LLaMA's tensors lie in a fused one, by rows:

- rows: one behind the other, in LLaMA's order (q, k, v or gate, up);
- groups: for each key/value head its query heads, then its key, then its value;
- heads: for each head its query, key and value; only where there are as many key/value heads as query heads.
"""


class Place(NamedTuple):
    """Where one of LLaMA's tensors lies: in the tensor `name`, alone (`rule` None) or with others by `rule`."""

    name: str
    rule: Rule | None = None


class Scheme(NamedTuple):
    """One naming scheme. In its names N stands for the layer's number, E for a second number (an expert's)."""

    says: str
    """What uses it, and where its names are read from."""
    places: Mapping[str, Place]
    """LLaMA's name -> place, in LLaMA's order; what the scheme has no place for is missing."""
    others: frozenset[str] = frozenset()
    """Names that belong to the scheme and have no place in LLaMA, such as biases: a checkpoint with them is known by
    them and can't be carried over."""
    rotary: Literal["halves", "neighbours"] = "halves"
    """Which rows of a query's or key's head are rotated together: i and i + width / 2, as LLaMA's in transformers, or
    2 i and 2 i + 1, as Meta's."""

    def held(self) -> dict[str, tuple[str, ...]]:
        """The scheme's name of each tensor that has a place -> LLaMA's names of what lies in it, in order."""
        found: dict[str, tuple[str, ...]] = {}
        for llama, place in self.places.items():
            found[place.name] = (*found.get(place.name, ()), llama)
        return found


LLAMA = (
    "model.embed_tokens.weight",
    "model.layers.N.input_layernorm.weight",
    "model.layers.N.self_attn.q_proj.weight",
    "model.layers.N.self_attn.k_proj.weight",
    "model.layers.N.self_attn.v_proj.weight",
    "model.layers.N.self_attn.o_proj.weight",
    "model.layers.N.post_attention_layernorm.weight",
    "model.layers.N.mlp.gate_proj.weight",
    "model.layers.N.mlp.up_proj.weight",
    "model.layers.N.mlp.down_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
)
"""The decoder's tensors as transformers' LlamaForCausalLM names them, in the order of the forward pass."""


def _places(layer: str, *names: str | Place | None) -> dict[str, Place]:
    """The table of a scheme: a name for each of LLAMA, `layer` before those inside a layer, None for no place."""
    found = {}
    for llama, name in zip(LLAMA, names, strict=True):
        if name is not None:
            place = Place(*name) if isinstance(name, Place) else Place(name)
            found[llama] = place._replace(name=layer + place.name) if ".N." in llama else place
    return found


def _like_llama(**changed: str | Place) -> dict[str, Place]:
    """LLaMA's table, but for the parts of a layer that are called otherwise."""
    found = {name: Place(name) for name in LLAMA}
    for part, name in changed.items():
        llama = next(item for item in LLAMA if f".{part}." in item)
        place = Place(*name) if isinstance(name, Place) else Place(name)
        found[llama] = place._replace(name="model.layers.N." + place.name)
    return found


def _biases(layer: str, *names: str) -> frozenset[str]:
    return frozenset(f"{layer}{name}.bias" for name in names)


_W_PACK = Place("self_attn.W_pack.weight", "rows")
_QKV_PROJ = Place("self_attn.qkv_proj.weight", "rows")
_GATE_UP = Place("mlp.gate_up_proj.weight", "rows")
_WQKV = Place("attention.wqkv.weight", "groups")
_BY_GROUP = Place("self_attention.query_key_value.weight", "groups")
_BY_HEAD = Place("attention.query_key_value.weight", "heads")
_C_ATTN = Place("attn.c_attn.weight", "rows")
_H_TO_4H = Place("mlp.dense_h_to_4h.weight", "rows")

SCHEMES: dict[str, Scheme] = {
    "llama": Scheme("LlamaForCausalLM of transformers; also Mistral and most that came later", _like_llama()),
    "yi": Scheme(
        "Yi's first release, November 2023: LLaMA's tensors with two norms renamed (01-ai/Yi; vLLM's yi.py)",
        _like_llama(input_layernorm="ln1.weight", post_attention_layernorm="ln2.weight"),
    ),
    "meta": Scheme(
        "Meta's consolidated files (meta-llama/llama, llama/model.py); llama2.c and its kin call them the same",
        _places(
            "layers.N.", "tok_embeddings.weight", "attention_norm.weight", "attention.wq.weight",
            "attention.wk.weight", "attention.wv.weight", "attention.wo.weight", "ffn_norm.weight",
            "feed_forward.w1.weight", "feed_forward.w3.weight", "feed_forward.w2.weight", "norm.weight",
            "output.weight",
        ),
        rotary="neighbours",
    ),
    "gguf": Scheme(
        "GGUF files (gguf.constants.TENSOR_NAMES), the order of architecture \"llama\"; those of architectures such as "
        "qwen2, phi3 and falcon have LLaMA's order (llama.cpp, llama_model_rope_type)",
        _places(
            "blk.N.", "token_embd.weight", "attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight",
            "attn_output.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight",
            "output_norm.weight", "output.weight",
        ),
        _biases("blk.N.", "attn_q", "attn_k", "attn_v", "attn_output"),
        rotary="neighbours",
    ),
    "internlm2": Scheme(
        "InternLM2 and 2.5 (modeling_internlm2.py: rows by key/value head, w1 gate, w3 up, w2 down)",
        _places(
            "model.layers.N.", "model.tok_embeddings.weight", "attention_norm.weight", _WQKV, _WQKV, _WQKV,
            "attention.wo.weight", "ffn_norm.weight", "feed_forward.w1.weight", "feed_forward.w3.weight",
            "feed_forward.w2.weight", "model.norm.weight", "output.weight",
        ),
        _biases("model.layers.N.", "attention.wqkv", "attention.wo"),
    ),
    "baichuan": Scheme(
        "Baichuan and Baichuan 2 (modeling_baichuan.py: W_pack holds q, k and v)",
        _like_llama(q_proj=_W_PACK, k_proj=_W_PACK, v_proj=_W_PACK),
    ),
    "phi3": Scheme(
        "Phi-3 and Phi-4 (transformers' modeling_phi3.py)",
        _like_llama(q_proj=_QKV_PROJ, k_proj=_QKV_PROJ, v_proj=_QKV_PROJ, gate_proj=_GATE_UP, up_proj=_GATE_UP),
    ),
    "megatron": Scheme(
        "Megatron-LM's GPT of the legacy kind, one rank's or merged, as its loader_llama_mistral.py fills it: rows by "
        "key/value head, gate before up",
        _places(
            "language_model.encoder.layers.N.", "language_model.embedding.word_embeddings.weight",
            "input_norm.weight", _BY_GROUP, _BY_GROUP, _BY_GROUP, "self_attention.dense.weight",
            "post_attention_norm.weight", _H_TO_4H, _H_TO_4H, "mlp.dense_4h_to_h.weight",
            "language_model.encoder.final_norm.weight", "language_model.output_layer.weight",
        ),
    ),
    "megatron-layernorm": Scheme(
        "the same with the norms' names of Megatron-LM before summer 2023",
        _places(
            "language_model.encoder.layers.N.", "language_model.embedding.word_embeddings.weight",
            "input_layernorm.weight", _BY_GROUP, _BY_GROUP, _BY_GROUP, "self_attention.dense.weight",
            "post_attention_layernorm.weight", _H_TO_4H, _H_TO_4H, "mlp.dense_4h_to_h.weight",
            "language_model.encoder.final_layernorm.weight", "language_model.output_layer.weight",
        ),
        _biases(
            "language_model.encoder.layers.N.", "input_layernorm", "self_attention.query_key_value",
            "self_attention.dense", "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
        )
        | {"language_model.encoder.final_layernorm.bias", "language_model.embedding.position_embeddings.weight"},
    ),
    "neox": Scheme(
        "GPT-NeoX and Pythia (transformers' modeling_gpt_neox.py); a LLaMA under these names has gate and up in "
        "dense_h_to_4h, and as many key/value heads as query heads",
        _places(
            "gpt_neox.layers.N.", "gpt_neox.embed_in.weight", "input_layernorm.weight", _BY_HEAD, _BY_HEAD, _BY_HEAD,
            "attention.dense.weight", "post_attention_layernorm.weight", _H_TO_4H, _H_TO_4H,
            "mlp.dense_4h_to_h.weight", "gpt_neox.final_layer_norm.weight", "embed_out.weight",
        ),
        _biases(
            "gpt_neox.layers.N.", "input_layernorm", "attention.query_key_value", "attention.dense",
            "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
        )
        | {"gpt_neox.final_layer_norm.bias"},
    ),
    "lit-llama": Scheme(
        "Lit-LLaMA, a LLaMA in nanoGPT's manner (Lightning-AI/lit-llama, scripts/convert_hf_checkpoint.py)",
        _places(
            "transformer.h.N.", "transformer.wte.weight", "rms_1.scale", _C_ATTN, _C_ATTN, _C_ATTN,
            "attn.c_proj.weight", "rms_2.scale", "mlp.c_fc1.weight", "mlp.c_fc2.weight", "mlp.c_proj.weight",
            "transformer.ln_f.scale", "lm_head.weight",
        ),
        rotary="neighbours",
    ),
    "qwen": Scheme(
        "Qwen of 2023 (modeling_qwen.py: w1 up, w2 gate)",
        _places(
            "transformer.h.N.", "transformer.wte.weight", "ln_1.weight", _C_ATTN, _C_ATTN, _C_ATTN,
            "attn.c_proj.weight", "ln_2.weight", "mlp.w2.weight", "mlp.w1.weight", "mlp.c_proj.weight",
            "transformer.ln_f.weight", "lm_head.weight",
        ),
        _biases("transformer.h.N.", "attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj"),
    ),
    "nanogpt": Scheme(
        "nanoGPT (karpathy/nanoGPT, model.py): its feed-forward part has no gate, its positions are learned",
        _places(
            "transformer.h.N.", "transformer.wte.weight", "ln_1.weight", _C_ATTN, _C_ATTN, _C_ATTN,
            "attn.c_proj.weight", "ln_2.weight", None, None, "mlp.c_proj.weight", "transformer.ln_f.weight",
            "lm_head.weight",
        ),
        _biases("transformer.h.N.", "ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
        | {"transformer.h.N.mlp.c_fc.weight", "transformer.wpe.weight", "transformer.ln_f.bias"},
    ),
    "falcon": Scheme(
        "Falcon (transformers' modeling_falcon.py): attention and a feed-forward part without gate side by side",
        _places(
            "transformer.h.N.", "transformer.word_embeddings.weight", "ln_attn.weight", _BY_GROUP, _BY_GROUP,
            _BY_GROUP, "self_attention.dense.weight", "ln_mlp.weight", None, None, "mlp.dense_4h_to_h.weight",
            "transformer.ln_f.weight", "lm_head.weight",
        ),
        _biases(
            "transformer.h.N.", "ln_attn", "ln_mlp", "input_layernorm", "post_attention_layernorm",
            "self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
        )
        | {
            "transformer.h.N.mlp.dense_h_to_4h.weight", "transformer.h.N.input_layernorm.weight",
            "transformer.h.N.post_attention_layernorm.weight", "transformer.ln_f.bias",
        },
    ),
    "qwen2": Scheme(
        "Qwen 2 and 2.5 (transformers' modeling_qwen2.py): LLaMA's names, biases on q, k and v",
        _like_llama(),
        _biases("model.layers.N.self_attn.", "q_proj", "k_proj", "v_proj"),
    ),
    "internlm": Scheme(
        "InternLM of 2023 (modeling_internlm.py), LLaMA with attention_bias: LLaMA's names, biases on q, k, v and o",
        _like_llama(),
        _biases("model.layers.N.self_attn.", "q_proj", "k_proj", "v_proj", "o_proj"),
    ),
    "mixtral": Scheme(
        "Mixtral (transformers' modeling_mixtral.py before 5): experts instead of one feed-forward part",
        {name: place for name, place in _like_llama().items() if ".mlp." not in name},
        frozenset(f"model.layers.N.block_sparse_moe.experts.E.{name}.weight" for name in ("w1", "w2", "w3"))
        | {"model.layers.N.block_sparse_moe.gate.weight"},
    ),
}  # fmt: skip
"""Name -> scheme. Where two know the same names, the first is taken."""
