"""Learning: SentencePiece BPE over lines of text, from memory to memory, the same bytes on every run."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece

from zhen.errors import ZhenError
from zhen.tokenizer.settings import TokenizerSettings
from zhen.tokenizer.special import END_OF_TEXT, FIXED_PIECES, NEWLINE, SPECIAL, START_OF_TEXT, UNKNOWN

LINE_CHARACTERS = 16_000
"""Longer lines are cut: SentencePiece would leave out, silently, what is longer than its limit in bytes."""

LINE_BYTES = 1 << 16

RESERVED = "\u2585"
"""SentencePiece marks unknown characters with it and leaves out, silently, every line that holds it."""

THREADS = 4
"""Constant, since the number is written into the model; the pieces do not depend on it (a test holds that)."""


def learnable_lines(texts: Iterable[str]) -> Iterator[str]:
    """The texts as SentencePiece may read them: line by line, none too long, none with its reserved character."""
    for text in texts:
        for line in re.split(f"[{NEWLINE}{RESERVED}\0]", text):
            for start in range(0, len(line), LINE_CHARACTERS):
                yield line[start : start + LINE_CHARACTERS]


def learn_model(texts: Sequence[str], settings: TokenizerSettings) -> bytes:
    """Learn from `texts`, in their order; returns the content of `tokenizer.model`.

    Byte-pair encoding (Sennrich et al. 2016) as in Yi's report, section 2.2: numbers split into digits, bytes for
    rare characters, text taken as it is (no normalisation, no space put before it). Raises ZhenError, with the
    numbers, where the vocabulary is too small for the characters or too large for the text.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=learnable_lines(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
            max_sentencepiece_length=settings.max_piece_length,
            max_sentence_length=LINE_BYTES,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            unk_id=UNKNOWN,
            bos_id=START_OF_TEXT,
            eos_id=END_OF_TEXT,
            pad_id=-1,
            unk_piece=SPECIAL[UNKNOWN],
            bos_piece=SPECIAL[START_OF_TEXT],
            eos_piece=SPECIAL[END_OF_TEXT],
            unk_surface="",
            control_symbols=list(SPECIAL[END_OF_TEXT + 1 :]),
            user_defined_symbols=[NEWLINE],
            num_threads=THREADS,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _explained(str(error), settings, texts) from error
    return model.getvalue()


def _explained(message: str, settings: TokenizerSettings, texts: Sequence[str]) -> ZhenError:
    """SentencePiece's complaint in our words, with what to change."""
    place = "tokenizer.vocab_size"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        needed = int(found[1])
        return ZhenError(
            f"{settings.vocab_size:,} pieces are too few: the text has {needed - FIXED_PIECES:,} characters "
            f"that need a piece at tokenizer.character_coverage = {settings.character_coverage:g}",
            expected=f"at least {needed:,}, and room to learn",
            place=place,
            hint=_more_pieces_or_lower_coverage(needed, settings, texts),
        )
    if found := re.search(r"too high \(\d+\)\. Please set it to a value <= (\d+)", message):
        return ZhenError(
            f"{settings.vocab_size:,} pieces are too many for this text",
            expected=f"at most {int(found[1]):,}",
            place=place,
            hint="lower it, or learn from more text",
        )
    if "sentences_.empty()" in message:
        return ZhenError("there is no text to learn a tokenizer from", hint="look at what data kept: zhen why")
    return ZhenError(f"SentencePiece could not learn: {message}", place="tokenizer")


def _more_pieces_or_lower_coverage(needed: int, settings: TokenizerSettings, texts: Iterable[str]) -> str:
    """Twice the pieces needed, or a coverage at which characters take at most half of those that are learnt."""
    more = f"take {max(2 * needed, 8192):,} pieces or more"
    counts = Counter[str]()
    for line in learnable_lines(texts):
        counts.update(line)
    ordered = [count for _, count in counts.most_common()]
    room = (settings.vocab_size - FIXED_PIECES) // 2
    for coverage in (0.9995, 0.999, 0.995, 0.99, 0.98, 0.95, 0.9):
        if coverage < settings.character_coverage and sum(ordered[:room]) >= coverage * sum(ordered):
            return f"{more}, or character_coverage = {coverage} (rarer characters become bytes; nothing is lost)"
    return more
