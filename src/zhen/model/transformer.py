"""The decoder: LLaMA's forward pass and tensor names, and the one table of fresh weights.

Shapes: B batch, T tokens given, S tokens seen in all (cache included), H query heads, K key/value heads, D head_dim.
Norms and rotary positions are computed in float32 whatever the weights are.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.model.attention import Mask, Part, Piece, Together, attend, blocks_apart, mask_apart
from zhen.model.cache import Cache
from zhen.model.config import ModelConfig, check
from zhen.model.linear import Linear, Product, by_rows, product_of
from zhen.model.packed import Packed
from zhen.model.rope import Angles, Rotary, both_halves, rotate


class Embedding(nn.Embedding):
    """A vector a token, left unfilled like `Linear`."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self.weight.dtype

    def reset_parameters(self) -> None:
        """Draw nothing: fresh weights come from `initialise`, by name and seed."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight (arXiv 1910.07467), in float32.

    Under autocast the result comes in autocast's dtype, so that it is cast once and not by every matrix behind it.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        device = x.device.type
        cast = device != "meta" and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if cast else x.dtype
        if torch.compiler.is_compiling() and device == "cpu":
            return self._by_parts(x.float()).to(dtype)
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(dtype)

    def _by_parts(self, x: Tensor) -> Tensor:
        """The same, x [..., width] float32, with a view of the weight for every 32 rows: what is compiled for CPUs sums
        its gradient over the rows of all tokens column by column, out of cache, and over so few within it."""
        normed = F.rms_norm(x, self.weight.shape, None, self.eps)
        rows = normed.view(-1, math.gcd(x.shape[:-1].numel(), 32), x.shape[-1])
        return (rows * self.weight.float().expand(len(rows), 1, -1)).view(x.shape)


class Attention(nn.Module):
    """Causal attention with H query heads over K key/value heads (arXiv 2305.13245; K = H is MHA, K = 1 MQA)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim, self.key_heads = config.head_dim, config.num_key_value_heads
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = Linear(config.hidden_size, queries)
        self.k_proj = Linear(config.hidden_size, keys)
        self.v_proj = Linear(config.hidden_size, keys)
        self.o_proj = Linear(queries, config.hidden_size)
        self.product: Product | Packed | None = None

    def forward(self, x: Tensor, angles: Angles, mask: Mask | None, cache: Cache | Together | Part | None) -> Tensor:
        """x [B, T, hidden] -> [B, T, hidden]. `mask` [T, S] or [B, 1, T, T]: where not plainly causal."""
        B, T, _ = x.shape
        if self.product is not None:
            q, k, v = self._split(self.product(x).view(B, T, -1, self.head_dim), angles)
        else:
            q = rotate(self.q_proj(x).view(B, T, -1, self.head_dim), *angles).transpose(1, 2)  # [B, H, T, D], float32
            k = rotate(self.k_proj(x).view(B, T, -1, self.head_dim), *angles).transpose(1, 2)  # [B, K, T, D], float32
            v = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # [B, K, T, D]
        if isinstance(cache, (Together, Part)):
            y = cache.attend(self.layer, q, k, v)
        else:
            if cache is not None:
                k, v = cache.append(self.layer, k, v)  # [B, K, S, D]
            y = attend(q, k, v, mask, causal=mask is None and T > 1).transpose(1, 2).reshape(B, T, -1)
        out: Tensor = self.o_proj(y.to(x.dtype))
        return out

    def _split(self, heads: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v out of heads [B, T, H + 2 K, D], q and k rotated at once."""
        keys, queries = self.key_heads, heads.shape[2] - 2 * self.key_heads
        turned = rotate(heads[:, :, :-keys], *angles).transpose(1, 2)
        return turned[:, :queries], turned[:, queries:], heads[:, :, -keys:].transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)
        self.product: Product | Packed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] -> [B, T, hidden]."""
        if self.product is not None:
            gate, up = self.product(x).chunk(2, -1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Layer(nn.Module):
    """Attention, then feed-forward, each added to the residual stream; norms before them, or behind ("post")."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.post = config.norm_place == "post"
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, angles: Angles, mask: Mask | None, cache: Cache | Together | Part | None) -> Tensor:
        """[B, T, hidden] -> [B, T, hidden]."""
        if self.post:
            x = self.input_layernorm(x + self.self_attn(x, angles, mask, cache))
            x = self.post_attention_layernorm(x + self.mlp(x))
        else:
            x = x + self.self_attn(self.input_layernorm(x), angles, mask, cache)
            x = x + self.mlp(self.post_attention_layernorm(x))
        return x


class Decoder(nn.Module):
    """Everything but the head: `model.…` in the tensor names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class TiedHead:
    """The embedding matrix used as head. Not a module: a tied head has no tensor of its own."""

    rows: int | None = None
    """As `Product.rows`."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    @property
    def weight(self) -> Tensor:
        """[vocab, hidden], the embedding's own parameter."""
        return self._embedding.weight

    def __call__(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab]."""
        return by_rows(lambda part: F.linear(part, self.weight), x, self.rows)


class Transformer(nn.Module):
    """The LLaMA decoder. Its state_dict has LLaMA's tensor names; `lm_head.weight` is missing where tied.

    A new one is unfilled: call `initialise`, or load a checkpoint. `lm_head.weight` [vocab, hidden] is there either
    way. Build it under `torch.device("meta")` to look at its shapes for nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = check(config)
        self.model = Decoder(config)
        tied = config.tie_word_embeddings
        self.lm_head = TiedHead(self.model.embed_tokens) if tied else Linear(config.hidden_size, config.vocab_size)
        self._rotary = Rotary(config)

    @property
    def dtype(self) -> torch.dtype:
        """Of what is computed between the layers."""
        return self.model.embed_tokens.dtype

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.model.norm.weight.device

    @property
    def key_heads(self) -> int:
        """Key/value heads that are computed here: all of them, where they are not cut over processes."""
        first = self.model.layers[0].self_attn
        assert isinstance(first, Attention)
        return first.key_heads

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | Part | None = None,
        document_starts: Tensor | None = None,
        ending: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """tokens [B, T] int64 -> logits [B, T, vocab] for the token that follows each.

        Or what `ending` makes of hidden states [B, T, hidden] and the head's matrix [vocab, hidden].
        """
        hidden = self.hidden(tokens, cache, document_starts)
        if ending is not None:
            return ending(hidden, self.lm_head.weight)
        logits: Tensor = self.lm_head(hidden)
        return logits

    def hidden(
        self, tokens: Tensor, cache: Cache | Part | None = None, document_starts: Tensor | None = None
    ) -> Tensor:
        """tokens [B, T] int64 -> [B, T, hidden] after the final norm. `cache` holds what came before, and grows.

        `document_starts` [B, T] bool, without a cache: each document sees itself alone, at positions from 0 on.
        A `Part` instead of a cache: the tokens are these positions of their sequences, `document_starts` of the whole.
        """
        if isinstance(cache, Part):
            angles = cache.angles(self._rotary.tables(0, cache.length, tokens.device), document_starts)
            return self._layers(tokens, angles, None, cache)
        T = tokens.shape[1]
        start = 0 if cache is None else cache.length
        if cache is not None:
            cache.room_for(T)
        angles = self._rotary.tables(start, T, tokens.device)
        mask: Mask | None = None
        if start > 0 and T > 1:  # several tokens behind a cache: token i sees start + i + 1 positions
            mask = torch.ones(T, start + T, dtype=torch.bool, device=tokens.device).tril(start)
        if document_starts is not None:
            angles, mask = _apart(document_starts, angles)
        normed = self._layers(tokens, angles, mask, cache)
        if cache is not None:
            cache.advance(T)
        return normed

    def together(self, tokens: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """tokens [N] int64, those of `pieces` one behind the other -> [N, hidden] after the final norm.

        Tokens behind those of all pieces only fill the row up. Each piece's cache grows by its tokens.
        """
        row = Together(pieces, len(tokens), tokens.device)
        normed = self._layers(tokens[None], row.angles, None, row)
        row.advance()
        return normed[0]

    def positions(self, count: int, device: torch.device) -> Angles:
        """Cosine and sine of a text of `count` tokens, each [count, 1, D]: what `together` is given slices of.

        A text's own length, known beforehand, decides here on dynamic scaling, once for all its tokens.
        """
        return both_halves(self._rotary.tables(0, count, device))

    @torch.no_grad()
    def join(self) -> None:
        """Prepare for inference, once and for all: q, k, v and gate, up are computed by one `Product` each, the other
        matrices by one of their own. Memory stays the same, but the matrices are no longer in the state_dict, and
        nothing is trained any more. Matrices of another kind than `Linear` are left alone."""
        for module in list(self.modules()):
            if isinstance(module, Attention) and module.product is None:
                module.product = product_of((module.q_proj, module.k_proj, module.v_proj))
            elif isinstance(module, FeedForward) and module.product is None:
                module.product = product_of((module.gate_proj, module.up_proj))
        for module in self.modules():
            if type(module) is Linear and module.product is None and not module.weight.is_meta:
                module.product = Product((module,))
        self.requires_grad_(False)

    def _layers(
        self, tokens: Tensor, angles: Angles, mask: Mask | None, cache: Cache | Together | Part | None
    ) -> Tensor:
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, angles, mask, cache)
        normed: Tensor = self.model.norm(x)
        return normed


def _apart(starts: Tensor, angles: Angles) -> tuple[Angles, Mask]:
    """Documents packed into rows, kept apart: starts [B, T] -> angles [B, T, 1, D / 2] and where tokens look."""
    places = torch.arange(starts.shape[1], device=starts.device)
    begins = torch.where(starts, places, 0).cummax(dim=1).values  # [B, T]: where each token's document begins
    cosine, sine = (table[places - begins] for table in angles)
    return (cosine, sine), blocks_apart(begins) if begins.is_cuda else mask_apart(begins)


class Fresh(NamedTuple):
    """How tensors whose name matches `pattern` start: ones, or normal with mean 0 and initializer_range · scale."""

    pattern: str
    distribution: str
    scale: str


FRESH = (
    Fresh(r"model\.embed_tokens\.weight", "normal", "1"),
    Fresh(r"model\.layers\.\d+\.self_attn\.[qkv]_proj\.weight", "normal", "1"),
    Fresh(r"model\.layers\.\d+\.self_attn\.o_proj\.weight", "normal", "1/sqrt(2 layers)"),
    Fresh(r"model\.layers\.\d+\.mlp\.(gate|up)_proj\.weight", "normal", "1"),
    Fresh(r"model\.layers\.\d+\.mlp\.down_proj\.weight", "normal", "1/sqrt(2 layers)"),
    Fresh(r"model\.(layers\.\d+\.(input|post_attention)_layernorm|norm)\.weight", "ones", "1"),
    Fresh(r"lm_head\.weight", "normal", "1"),
)
"""The one table of fresh weights. What writes into the residual stream is scaled by 1/sqrt(2 layers), so that its sum
over the layers keeps its size (Radford et al. 2019, section 2.3)."""


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Fill every parameter with its `fresh` values, rounded to its dtype."""
    for name, parameter in model.named_parameters():
        parameter.copy_(fresh(model.config, name, parameter.shape, seed))


def fresh(config: ModelConfig, name: str, shape: Sequence[int], seed: int) -> Tensor:
    """The values that a parameter starts with, by the table FRESH. float32[shape].

    Each tensor has its own generator, seeded by seed and name: the values depend neither on the order of creation,
    nor on threads, processes, device or kind of CPU.
    """
    scales = {"1": 1.0, "1/sqrt(2 layers)": 1 / math.sqrt(2 * config.num_hidden_layers)}
    row = next(row for row in FRESH if re.fullmatch(row.pattern, name))
    if row.distribution == "ones":
        return torch.ones(shape)
    key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    values = generator.standard_normal(tuple(shape), dtype=np.float32)
    values *= np.float32(config.initializer_range * scales[row.scale])
    return torch.from_numpy(values)
