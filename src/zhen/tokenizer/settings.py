"""The recipe section `[tokenizer]`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zhen.tokenizer.special import FIXED_PIECES


class TokenizerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the tokenizer is learnt. Not used where the recipe goes on from a checkpoint (`model.init`)."""

    vocab_size: int = 64_000
    """Pieces in all: 9 special, the newline, 256 bytes, then learnt ones. Default: Yi (technical report, 2.2)."""

    character_coverage: float = 0.9999
    """Share of the sample's characters that get a piece of their own; the rest fall back to bytes.
    Default: the value published with MAP-NEO's bilingual tokenizer, also of 64,000 pieces."""

    max_piece_length: int = 16
    """Characters of the longest piece. Default: Yi's longest piece."""

    sample_bytes: int = 100_000_000
    """UTF-8 bytes of text to learn from, shared equally between the sources (a small source gives all it has).
    Default: beyond this the pieces hardly change, and learning stays under a minute."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Impossible values, as (field, found, expected)."""
        if self.vocab_size <= FIXED_PIECES:
            yield (
                "vocab_size",
                f"{self.vocab_size:,}",
                f"more than {FIXED_PIECES} (special pieces, newline and bytes take {FIXED_PIECES})",
            )
        if self.vocab_size > 1 << 24:
            yield "vocab_size", f"{self.vocab_size:,}", f"at most {1 << 24:,}"
        if not 0.9 <= self.character_coverage <= 1:
            yield "character_coverage", f"{self.character_coverage:g}", "a share from 0.9 to 1"
        if not 1 <= self.max_piece_length <= 512:
            yield "max_piece_length", f"{self.max_piece_length:,}", "1 to 512 characters"
        if self.sample_bytes < 1:
            yield "sample_bytes", f"{self.sample_bytes:,}", "at least 1 byte"
