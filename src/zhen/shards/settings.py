"""The recipe section `[shards]`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class ShardsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokenised files are cut."""

    tokens_per_shard: int = 50_000_000
    """Tokens after which a shard ends (with the document that reaches it). Default: 100 to 200 MB a file, which is
    also what is kept in memory and redone at most after a stop."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Impossible values, as (field, found, expected)."""
        if self.tokens_per_shard < 1:
            yield "tokens_per_shard", f"{self.tokens_per_shard:,}", "at least 1 token"
