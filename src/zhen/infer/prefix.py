"""Beginnings that were read before: keys and values of blocks of tokens, by hashes over all tokens up to their ends."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from zhen.infer.scheduler import BLOCK
from zhen.model.cache import Cache


def block_keys(ids: Sequence[int], salt: int = 0) -> list[bytes]:
    """A key for each whole block of `ids`: equal where the block and all before it are. `salt`: what else must be."""
    keys = []
    digest = hashlib.blake2b(salt.to_bytes(8, "little"), digest_size=16)
    tokens = np.asarray(ids, np.int64)
    for end in range(BLOCK, len(ids) + 1, BLOCK):
        digest.update(tokens[end - BLOCK : end].tobytes())
        keys.append(digest.digest())
    return keys


class Prefixes:
    """The blocks last used, up to a number of tokens. Only blocks read as prompts are kept: their bits depend on
    the tokens alone, so that an answer is the same whether its prompt was read or found here."""

    def __init__(self, tokens: int) -> None:
        """`tokens`: most tokens kept; 0 for none."""
        self._most = tokens // BLOCK
        self._blocks: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self.reused = 0
        """Tokens that did not have to be read."""

    def find(self, cache: Cache, keys: Sequence[bytes], prompt: int) -> int:
        """Put what is known of a prompt's next blocks into its cache; returns how many tokens that is.

        `keys`: of the prompt's whole blocks. At least the last of its `prompt` tokens is left to be read.
        """
        begin = cache.length
        while cache.length + BLOCK < prompt and (found := self._blocks.get(keys[cache.length // BLOCK])) is not None:
            self._blocks.move_to_end(keys[cache.length // BLOCK])
            cache.put(cache.length, found)
            cache.advance(BLOCK)
        self.reused += cache.length - begin
        return cache.length - begin

    def keep(self, cache: Cache, keys: Sequence[bytes], begin: int) -> None:
        """Keep the blocks of a prompt from token `begin` on that its cache has now."""
        if not self._most:
            return
        for place in range(begin // BLOCK, min(len(keys), cache.length // BLOCK)):
            if keys[place] not in self._blocks:
                self._blocks[keys[place]] = cache.copy(place * BLOCK, (place + 1) * BLOCK)
            self._blocks.move_to_end(keys[place])
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
