"""The special pieces: their names and ids, which are those of the Yi tokenizer, and the pieces every model holds."""

from __future__ import annotations

UNKNOWN = 0
START_OF_TEXT = 1
END_OF_TEXT = 2

SPECIAL = (
    "<unk>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<|Human|>",
    "<|Assistant|>",
    "<|System|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
)
"""Piece by id (0 to 8), as in Yi. All but `<unk>` are control pieces: no text ever encodes to one."""

NEWLINE = "\n"
"""A user-defined piece (id 9): SentencePiece learns from lines and so would never see one."""

BYTES = 256
"""Byte pieces `<0x00>` … `<0xFF>`, for characters without a piece of their own."""

FIXED_PIECES = len(SPECIAL) + 1 + BYTES
"""Pieces that are there before anything is learnt."""
