"""How big a model is, from its configuration alone: tensors, parameters, arithmetic, memory, bytes on disk."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from zhen.model.config import ModelConfig

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, in the order of the forward pass; `lm_head.weight` is missing where tied."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    layer = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for number in range(config.num_hidden_layers):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    found["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        found["lm_head.weight"] = (config.vocab_size, hidden)
    return found


def tensors(config: ModelConfig) -> int:
    """Number of tensors in a checkpoint."""
    return len(shapes(config))


@lru_cache(maxsize=64)
def parameters(config: ModelConfig) -> int:
    """Number of parameters; a tied head counts once."""
    return sum(prod(shape) for shape in shapes(config).values())


def flops_per_token(config: ModelConfig, sequence_length: int, causal: bool = True) -> int:
    """Floating-point operations to train on one token: forward and backward, without recomputation.

    6 per parameter that is multiplied (the head is, the embedding isn't) and 6 · layers · q · length for attention,
    q = heads · head_dim, or twice that where the whole square is counted (`causal=False`, as torchtitan, OLMo-core
    and nanochat do; arXiv 2204.02311 appendix B). Utilisation is quoted both ways.
    """
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    queries = config.num_attention_heads * config.head_dim
    attention = 6 * config.num_hidden_layers * queries * sequence_length * (1 if causal else 2)
    return 6 * (parameters(config) - looked_up) + attention


def products(config: ModelConfig) -> list[tuple[int, int]]:
    """(inputs, outputs) of the matrix products of a layer, in the order of the forward pass."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return [*attention, (hidden, ffn), (hidden, ffn), (ffn, hidden)]


def layer_parameters(config: ModelConfig) -> int:
    """Parameters of a layer."""
    return sum(inputs * outputs for inputs, outputs in products(config)) + 2 * config.hidden_size


def kept_bytes(config: ModelConfig, recompute: str = "none", *, compiled: bool = False, stream: int = 4) -> int:
    """Bytes a token that a layer keeps for its backward pass under flash attention; `stream`: bytes of a number of
    the residual stream, 4 under autocast, 2 where weights are gathered in bfloat16.

    Eager, in bfloat16 unless said: each norm's input in float32, its 1/root mean square, its output; q, k, v as they
    are attended, attention's output and its float32 logsumexp a head; gate, silu(gate), up, their product. Compiled,
    norms' outputs, silu(gate) and the product are made again. `selective` keeps the layer's input, attention's output
    and every second product's, as torchtitan does (q, v, gate, down); `full` the input alone (arXiv 1604.06174).
    """
    hidden, ffn, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    queries, keys = (n * config.head_dim for n in (heads, config.num_key_value_heads))
    attention = 4 * queries + 4 * keys + 4 * heads
    if recompute == "full":
        return stream * hidden
    if recompute == "selective":
        return (stream + 2) * hidden + 4 * queries + 2 * keys + 4 * heads + 2 * ffn
    if compiled:
        return 2 * stream * hidden + 8 + attention + 4 * ffn
    return 12 * hidden + 8 + attention + 8 * ffn


def kept_bytes_on_cpu(
    config: ModelConfig,
    sequence_length: int,
    float32_attention: bool,
    dtype: str = "bfloat16",
    *,
    compiled: bool = False,
) -> int:
    """The same where PyTorch runs on a CPU. Eager, norms keep their normalised input too; attention that runs in
    float32 (up to 256 tokens on CPUs without AMX) keeps twice as much and its output once more, and up to 128 tokens
    the probabilities. With products in float32 (`dtype`) norms' outputs, q, k, v, attention's output and the
    feed-forward part take twice as much.

    Compiled: the layer's input in float32; in the format of the products attention's output as it goes into the sum,
    both norms' outputs, q, k, v, what attention gives in two layouts, gate, up and silu(gate) · up.
    """
    hidden, ffn, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    queries, keys = (n * config.head_dim for n in (heads, config.num_key_value_heads))
    if compiled:
        width = 4 if dtype == "float32" else 2
        return 4 * hidden + width * (3 * hidden + 3 * queries + 2 * keys + 3 * ffn) + 4 * heads + 8
    kept = kept_bytes(config) + 8 * hidden
    if dtype == "float32":
        kept += 4 * hidden + 4 * queries + 4 * keys + 8 * ffn
    elif float32_attention:
        kept += 6 * queries + 4 * keys
    if sequence_length <= 128:
        width = 4 if float32_attention or dtype == "float32" else 2
        kept += heads * (width * sequence_length - 4)
    return kept


def training_memory(config: ModelConfig, sequences: int, sequence_length: int) -> dict[str, int]:
    """Bytes by part to train in one process, float32 weights under bfloat16 autocast with AdamW; `sequences` are run
    at a time. Logits: 6 bytes each (bfloat16 and float32). `zhen plan` has the rest: what is alive when, and layouts.
    """
    count, tokens = parameters(config), sequences * sequence_length
    return {
        "weights": 4 * count,
        "gradients": 4 * count,
        "optimizer": 8 * count,
        "bfloat16 copies": 2 * count,
        "activations": tokens * config.num_hidden_layers * kept_bytes(config),
        "logits": tokens * config.vocab_size * 6,
    }


def kv_bytes_per_token(config: ModelConfig, bytes: int = 2) -> int:
    """Bytes that the cache grows by with each token: keys and values of all layers, `bytes` a number."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * bytes


CACHE_GROUP = 64
"""Numbers of a head that share a scale in a cache of 8 bits, where that divides the head."""

WORKSPACE_TOKENS = 512
"""Tokens that a server reads of a prompt at a time; its workspace is for so many."""


def cache_group(config: ModelConfig) -> int:
    """Numbers of a head that share a scale in a cache of 8 bits."""
    return next(size for size in range(min(CACHE_GROUP, config.head_dim), 0, -1) if config.head_dim % size == 0)


def cache_bytes_per_token(config: ModelConfig, bits: int = 16) -> int:
    """Bytes that a cache of 16 bits, or of 8 with scales in 16, grows by with each token."""
    numbers = kv_bytes_per_token(config, bytes=1)
    return 2 * numbers if bits == 16 else numbers + 2 * numbers // cache_group(config)


def weight_group(columns: int, group: int) -> int:
    """Weights that share a scale in rows of `columns`: `group` where that divides them, else the largest multiple of 32
    below (with which the engine computes as it is), else the largest size of all."""
    sizes = [size for size in range(min(group, columns), 0, -1) if columns % size == 0]
    return next((size for size in sizes if size == group or size % 32 == 0), sizes[0])


def packed_bytes(shape: tuple[int, ...], bits: int, group: int) -> int:
    """Bytes of a matrix packed in `bits` with a scale of 16 bits for each `weight_group` of columns; of any tensor
    in 16 bits."""
    if bits == 16 or len(shape) < 2:
        return 2 * prod(shape)
    rows, columns = shape
    return rows * (4 * -(-columns * bits // 32) + 2 * columns // weight_group(columns, group))


def packed_weights(config: ModelConfig, bits: int, group: int, head_bits: int = 16, embedding_bits: int = 16) -> int:
    """Bytes of all weights as `zhen quantize` stores them (beside 16 bytes a packed matrix for its shape)."""
    outside = {"model.embed_tokens.weight": embedding_bits, "lm_head.weight": head_bits}
    return sum(packed_bytes(shape, outside.get(name, bits), group) for name, shape in shapes(config).items())


def workspace_bytes(
    config: ModelConfig, cached_tokens: int, cache_bits: int = 16, tokens: int = WORKSPACE_TOKENS
) -> int:
    """Bytes beside weights and cache while `tokens` of one sequence pass through the model in 16 bits, behind others.

    All the while there are the mask, cosine and sine. The most beside is alive in attention (the stream and its norm,
    queries in float32, keys while they are turned; with a cache of 8 bits float32 copies of the new keys, and the
    layer's keys and values in 16 bits) or in the feed-forward part (the stream before, now, and its norm; gate, its
    activation, up, their product). Logits are made of a last token alone.
    """
    queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    hidden = config.hidden_size
    if cache_bits == 8:
        attention = tokens * (4 * hidden + 4 * queries + 14 * keys) + 4 * keys * cached_tokens
    else:
        attention = tokens * (4 * hidden + 4 * queries + 10 * keys)
    feed_forward = tokens * (6 * hidden + 8 * config.intermediate_size)
    return max(attention, feed_forward) + tokens * (cached_tokens + 4 * config.head_dim)


def serving_memory(
    config: ModelConfig,
    cached_tokens: int,
    *,
    bits: int = 16,
    group: int = 128,
    head_bits: int = 16,
    embedding_bits: int = 16,
    cache_bits: int = 16,
) -> dict[str, int]:
    """Bytes by part to serve; `cached_tokens` are those of all sequences at once. What a CUDA context and a server's
    own buffers take comes on top."""
    return {
        "weights": packed_weights(config, bits, group, head_bits, embedding_bits),
        "cache": cached_tokens * cache_bytes_per_token(config, cache_bits),
        "workspace": workspace_bytes(config, cached_tokens, cache_bits),
    }


def quantised_bytes(inside: int, outside: int, bits: int) -> int:
    """Bytes of weights of which those inside the layers have `bits` each, all others 16.

    Below 16 bits each group of 128 has a scale of 16 bits and a zero point of `bits`, as AWQ and GPTQ store them
    (arXiv 2306.00978, 2210.17323): Yi-34B in 4 bits is 19 GB, as its model card says.
    """
    group = 16 * 128 if bits >= 16 else 128 * bits + 16 + bits
    return inside * group // (128 * 8) + 2 * outside


def checkpoint_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of a checkpoint's tensors stored as `dtype` (their files add a header of some kilobytes)."""
    return parameters(config) * _BYTES[dtype]
