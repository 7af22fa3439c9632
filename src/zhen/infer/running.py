"""One request while it is answered: what it is fed, what is chosen, what can be shown, when it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from zhen.infer.detokenize import Decoder, Detokenizer, Stops
from zhen.infer.grammar import Matcher
from zhen.infer.requests import Event, Finish, Logprob, Request
from zhen.infer.sampling import Sampler, likeliest
from zhen.infer.scheduler import BLOCK
from zhen.model.attention import Piece
from zhen.model.cache import Cache
from zhen.model.rope import Angles


class Running:
    """A request that has its cache."""

    def __init__(
        self,
        id: int,
        request: Request,
        *,
        cache: Cache,
        angles: Angles,
        keys: Sequence[bytes],
        stop_ids: frozenset[int],
        tokenizer: Decoder,
        matcher: Matcher | None,
    ) -> None:
        """`cache` has room for all that will be fed, `angles` its positions; `keys`: of the prompt's whole blocks."""
        self.id, self.request = id, request
        self.cache, self.angles, self.keys = cache, angles, keys
        self._stop_ids = stop_ids
        self._matcher = matcher
        self._sampler = Sampler(request)
        self._text = Detokenizer(tokenizer, request.prompt)
        self._stops = Stops(request.stop)
        self._lookup = Lookup(request.prompt) if request.drafts else None
        # the last token made is never fed back
        self._left = min(request.max_tokens, cache.capacity - len(request.prompt) + 1)
        self._feed: list[int] = []

    def prompt_piece(self, count: int) -> tuple[list[int], Piece]:
        """The next `count` tokens of the prompt, to be fed."""
        begin = self.cache.length
        return list(self.request.prompt[begin : begin + count]), self._piece(count, BLOCK)

    def answer_piece(self) -> tuple[list[int], Piece]:
        """The last token made, and behind it what may follow, to be fed."""
        if self._lookup is not None:
            self._feed = [self._feed[0], *self._lookup.guess(min(self.request.drafts, self._left - 1))]
        return self._feed, self._piece(len(self._feed), 1)

    def _piece(self, count: int, cut: int) -> Piece:
        begin = self.cache.length
        cosine, sine = self.angles
        return Piece(self.cache, count, (cosine[begin : begin + count], sine[begin : begin + count]), cut)

    def take(self, logits: Tensor) -> Iterator[Event]:
        """What follows from the logits [rows, vocab], float32 on the CPU, behind the tokens that were just fed."""
        guessed = self._feed[1:]
        fed = self.cache.length - len(guessed)
        for place, row in enumerate(logits):
            event = self._next(row)
            yield event
            if event.finish is not None:
                return
            right = place < len(guessed) and event.token == guessed[place]
            if not right:
                # what was guessed wrong is overwritten
                self.cache.length = fed + place
                return

    def _next(self, logits: Tensor) -> Event:
        token = self._sampler.choose(logits, self._matcher.allowed(self._stop_ids) if self._matcher else None)
        if token in self._stop_ids:
            return Event(self.id, None, self._last("")[0], "stop")
        self._sampler.took(token)
        self._feed = [token]
        if self._lookup is not None:
            self._lookup.add(token)
        self._left -= 1
        text, stopped = self._stops.add(self._text.add(token))
        stopped = stopped or (self._matcher is not None and self._matcher.ended(token))
        finish: Finish | None = "stop" if stopped else "length" if not self._left else None
        if finish is not None and not (stopped and self.request.stop):
            more, found = self._last(text)
            text, finish = more, "stop" if found else finish
        logprob: float | None = None
        top: tuple[Logprob, ...] = ()
        if self.request.logprobs is not None:
            logprob, top = likeliest(logits, token, self.request.logprobs)
        return Event(self.id, token, text, finish, logprob, top)

    def _last(self, text: str) -> tuple[str, bool]:
        """`text` and all that was held back behind it, and whether a stop text ends it."""
        more, found = self._stops.add(self._text.rest())
        return text + more + self._stops.rest(), found


class Lookup:
    """Guesses what comes next: what came when the last words stood earlier (prompt lookup, Saxena 2023)."""

    _LENGTHS = (3, 2)

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on with `token`."""
        for length in self._LENGTHS:
            if len(self._ids) >= length:
                self._after[tuple(self._ids[-length:])] = len(self._ids)
        self._ids.append(token)

    def guess(self, most: int) -> list[int]:
        """At most `most` tokens; none where the last words are new."""
        for length in self._LENGTHS:
            at = self._after.get(tuple(self._ids[-length:]))
            if at is not None:
                found: list[int] = []
                for place in range(at, at + most):  # what repeats itself goes on doing so
                    found.append(self._ids[place] if place < len(self._ids) else found[place - len(self._ids)])
                return found
        return []
