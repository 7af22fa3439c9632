"""Attention, by whichever arithmetic is fastest for it; of several sequences at once; of a part of each sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from zhen.model.cache import Cache
from zhen.model.causal import causal_attention
from zhen.model.linear import product_dtype
from zhen.model.rope import Angles

Mask = Tensor | BlockMask
"""Where tokens look: bool or what is added to the scores, [T, S] or [B, 1, T, S]; or by blocks, for FlexAttention."""

SHORT = 256
"""Sequences up to this length are attended to in float32 where bfloat16 would be slower."""

LONG = 1024
"""Longer sequences are attended to by PyTorch's kernel where products are in float32, compiled or not: 195 ms against
235 for 2 × 8 heads of 64 over 2,048, forward and backward; over 512 it is 91 against 59 (8 × 8 heads; AVX-512)."""

HAS_AMX = bool(torch.cpu.get_capabilities().get("amx_tile", False))
"""Whether this CPU has a matrix unit for bfloat16."""

HAS_BFLOAT16 = product_dtype(torch.device("cpu")) == torch.bfloat16
"""Whether this CPU multiplies bfloat16 fast."""


def attends_in_float32(device: torch.device, count: int, trains: bool) -> bool:
    """Whether attention of `count` new tokens runs in float32 although keys and values are narrower.

    PyTorch's bfloat16 kernel for CPUs has a backward that is slow on short sequences: 28 ms against 7 for 16 × 4 heads
    of 32 over 128 tokens, 26 against 21 for 4 × 8 heads of 64 over 256 (AMX; without it 14 against 5 for the former);
    from 512 on the two are equal. Without AMX, its forward of one new token before 300 old ones is eight times slower
    too (184 µs against 24, 8 heads of 64).
    """
    return device.type == "cpu" and count <= SHORT and (trains or not HAS_AMX)


def _no_autocast(device: str) -> AbstractContextManager[object]:
    # the meta device, on which shapes and operations are counted, knows no autocast
    on = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, causal: bool) -> Tensor:
    """q [B, H, T, D] over k and v [B, K, S, D] -> [B, H, T, D], in float32 or the values' dtype.

    `causal`, without a mask: T = S, each at those before it.
    """
    # compiled, it is made of large products, in what this CPU multiplies fast
    own = causal and v.device.type == "cpu" and q.requires_grad and torch.compiler.is_compiling()
    if (own and not HAS_BFLOAT16) or (not own and attends_in_float32(v.device, q.shape[2], q.requires_grad)):
        v = v.float()
    with _no_autocast(v.device.type):
        if own and (v.dtype != torch.float32 or q.shape[2] <= LONG):
            return causal_attention(q.to(v.dtype), k.to(v.dtype), v)
        if isinstance(mask, BlockMask):
            return _by_blocks(q.to(v.dtype), k.to(v.dtype), v, mask)
        return F.scaled_dot_product_attention(
            q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
        )


def _by_blocks(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    attention: Callable[..., Any] = flex_attention
    if v.is_cuda and not torch.compiler.is_compiling():
        attention = _compiled(attention)  # as it is, it would make all scores
    found: Tensor = attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return found


def mask_apart(begins: Tensor) -> Tensor:
    """Each token over those of its document up to itself. bool[B, 1, T, T].

    begins int64[B, T]: the position at which each token's document begins.
    """
    return (begins[:, :, None] == begins[:, None, :]).tril()[:, None]


def blocks_apart(begins: Tensor) -> BlockMask:
    """The same for FlexAttention (arXiv 2412.05496): blocks in which nobody looks anywhere are never computed, and
    nothing of the size T² is kept."""

    def looks(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= begins[row, query])

    B, T = begins.shape
    make = _compiled(create_block_mask) if begins.is_cuda else create_block_mask
    made: BlockMask = make(looks, B, None, T, T, device=begins.device)
    return made


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def attend_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One token for inference: q [B, K, H / K, D] over k and v [B, K, S, D] -> like q, in float32 or their dtype.

    The query heads of a key head are computed as if they were so many tokens: keys and values are read once.
    """
    if attends_in_float32(v.device, 1, False):
        return F.scaled_dot_product_attention(q, k.float(), v.float())
    return F.scaled_dot_product_attention(q.to(v.dtype), k, v)


class Piece(NamedTuple):
    """Some tokens of one sequence, behind what its cache holds."""

    cache: Cache
    length: int
    angles: tuple[Tensor, Tensor]
    """Cosine and sine of their positions, each [length, 1, D] float32."""
    cut: int
    """So many tokens are attended to at a time: those up to the next multiple of it. By one at a time, each gets the
    very bits that it would get alone."""


class Together:
    """Several sequences in one row of tokens. What one is given depends on none of the others."""

    def __init__(self, pieces: Sequence[Piece], rows: int, device: torch.device) -> None:
        """`rows`: length of the row, at least the tokens of all pieces; what is behind them belongs to none."""
        self._pieces = pieces
        self._over = rows - sum(piece.length for piece in pieces)
        self._lengths = [piece.length for piece in pieces] + ([self._over] if self._over else [])
        self._cuts = [list(_cuts(piece, device)) for piece in pieces]
        for piece in pieces:
            piece.cache.room_for(piece.length)

    @property
    def angles(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the whole row, each [1, rows, 1, D]."""
        cosine, sine = (
            torch.cat([*(piece.angles[which] for piece in self._pieces), *self._filler(which)])[None]
            for which in (0, 1)
        )
        return cosine, sine

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [1, H, rows, D], k and v [1, K, rows, D] -> [1, rows, H · D]; the caches of `layer` take k and v in."""
        rows, width = q.shape[2], q.shape[1] * q.shape[3]
        ones = q.transpose(1, 2).reshape(rows, k.shape[1], -1, q.shape[3])
        found, at = [], 0
        # what is behind the pieces is left out by the shortest of what is zipped
        new = (torch.split(each, self._lengths, 2) for each in (k, v))
        for piece, cuts, its_k, its_v in zip(self._pieces, self._cuts, *new, strict=False):
            keys, values = piece.cache.append(layer, its_k, its_v)
            for count, seen, mask in cuts:
                if seen < keys.shape[2]:
                    before = keys.narrow(2, 0, seen), values.narrow(2, 0, seen)
                else:
                    before = keys, values
                if mask is None:
                    found.append(attend_one(ones.narrow(0, at, 1), *before).reshape(1, width))
                else:
                    y = attend(q.narrow(2, at, count), *before, mask, False)
                    found.append(y[0].transpose(0, 1).reshape(count, width))
                at += count
        if self._over:
            found.append(found[0].new_zeros(()).expand(self._over, width))
        return torch.cat(found)[None]

    def advance(self) -> None:
        """Count all tokens, appended in all layers, as seen."""
        for piece in self._pieces:
            piece.cache.advance(piece.length)

    def _filler(self, which: int) -> list[Tensor]:
        return [self._pieces[0].angles[which][:1].expand(self._over, -1, -1)] if self._over else []


class Part:
    """Some positions of every sequence, keys and values of the others being elsewhere (context parallelism).

    A sequence is cut into equal chunks; each chunk of queries attends by itself, to the keys up to its own end.
    """

    def __init__(
        self, chunks: Sequence[int], of: int, length: int, gather: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        """`chunks`: which `of` those of a sequence of `length` tokens are here, one behind the other.

        `gather` makes of their k and v, [B, K, T, D] each, those of the whole sequences in order, [B, K, length, D].
        """
        size = length // of
        self.length = length
        self._spans = [(chunk * size, (chunk + 1) * size) for chunk in chunks]
        self._gather = gather
        self._begins: Tensor | None = None
        self._biases: list[Tensor] = []

    def angles(self, tables: Angles, starts: Tensor | None) -> Angles:
        """Cosine and sine of these positions out of those of 0 … length - 1: [T, 1, D / 2] or [B, T, 1, D / 2].

        `starts` bool[B, length]: where documents begin that don't see each other, from now on.
        """
        places = torch.arange(self.length, device=tables[0].device)
        own = self._own(places)
        if starts is not None:
            self._begins = torch.where(starts, places, 0).cummax(dim=1).values  # [B, length]: of each token's document
            own = own - self._own(self._begins)
        cosine, sine = (table[own] for table in tables)
        return cosine, sine

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, H, T, D], k and v [B, K, T, D] of these positions -> [B, T, H · D]."""
        keys, values = self._gather(k, v)
        if not self._biases:  # one for all layers: it is the only thing here that grows with the square of the length
            self._biases = [self._bias(begin, end, keys) for begin, end in self._spans]
        found, at = [], 0
        for (begin, end), bias in zip(self._spans, self._biases, strict=True):
            own = q.narrow(2, at, end - begin)
            found.append(attend(own, keys[:, :, :end], values[:, :, :end], bias, False))
            at += end - begin
        return torch.cat(found, 2).transpose(1, 2).flatten(2)

    def _bias(self, begin: int, end: int, like: Tensor) -> Tensor:
        """What the scores of the queries begin … end - 1 are added to: 0 where they look, else -inf."""
        if self._begins is None and like.is_cuda:
            return causal_lower_right(end - begin, end)  # for which there is a kernel that needs no mask
        places = torch.arange(end, device=like.device)
        seen = places <= places[begin:, None]  # [T', S']
        if self._begins is not None:
            seen = (seen & (places >= self._begins[:, begin:end, None]))[:, None]  # [B, 1, T', S']
        return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -torch.inf)

    def _own(self, whole: Tensor) -> Tensor:
        """What belongs to the positions that are here, of [..., length]."""
        return torch.cat([whole[..., begin:end] for begin, end in self._spans], -1)


def _cuts(piece: Piece, device: torch.device) -> Iterator[tuple[int, int, Tensor | None]]:
    """A piece's tokens by parts: how many, how many the last of them sees, and a mask where they are several."""
    before, begin = piece.cache.length, 0
    while begin < piece.length:
        stop = min(piece.length, begin + piece.cut - (before + begin) % piece.cut)
        seen, rows = before + stop, stop - begin
        yield (
            rows,
            seen,
            torch.ones(rows, seen, dtype=torch.bool, device=device).tril(seen - rows) if rows > 1 else None,
        )
        begin = stop
