"""What a call consumed, in one vocabulary for all providers."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one call. Unknown is ``None``, never 0.

    ``input_tokens`` is inclusive: cache reads and writes are inside it, also where the provider reports
    them beside it (Claude). ``cache_read_tokens``, ``cache_write_tokens`` and ``uncached_tokens`` are
    disjoint and sum to it. ``cache_write_by_ttl`` splits the writes by lifetime ("5m", "1h", "30m",
    "12h") where the provider says. ``service_tier`` is the tier that was billed, as the provider spells it.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_by_ttl: Mapping[str, int] | None = None
    output_tokens: int | None = None
    service_tier: str | None = None

    @property
    def uncached_tokens(self) -> int | None:
        """Input tokens neither read from nor written to the cache; ``None`` unless input and reads are known.

        An unknown write counts as none written here: providers without a write fee do not report it.
        """
        if self.input_tokens is None or self.cache_read_tokens is None:
            return None
        return self.input_tokens - self.cache_read_tokens - (self.cache_write_tokens or 0)
