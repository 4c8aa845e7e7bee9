"""What a call consumed, in one vocabulary for all providers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace

UNTOLD = "untold"
"""A lifetime, tier or speed that is not told where the request left more than one open: it has no price."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one call. Unknown is ``None``, never 0.

    ``input_tokens`` is inclusive: cache reads and writes are inside it, also where the provider reports
    them beside it (Claude). ``cache_read_tokens``, ``cache_write_tokens`` and ``uncached_tokens`` are
    disjoint and sum to it. ``cache_write_by_ttl`` splits the writes by lifetime ("5m", "1h", "30m",
    "12h") where the provider says. ``service_tier`` is the tier that was billed, ``speed`` and ``region`` the speed and
    the place of the inference, all as the provider spells them, or `UNTOLD`.

    ``iterations`` are what the call was billed in, where the provider says so and names other models (Claude's
    compaction and advisor): their tokens are in the sums here, their prices are those of their models.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_by_ttl: Mapping[str, int] | None = None
    output_tokens: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    iterations: tuple[Iteration, ...] = ()

    @property
    def uncached_tokens(self) -> int | None:
        """Input tokens neither read from nor written to the cache; ``None`` unless input and reads are known.

        An unknown write counts as none written here: providers without a write fee do not report it.
        """
        if self.input_tokens is None or self.cache_read_tokens is None:
            return None
        return self.input_tokens - self.cache_read_tokens - (self.cache_write_tokens or 0)


class Iteration(Struct, frozen=True, kw_only=True):
    """One part of a call that is billed by itself; ``model`` is ``None`` for the model of the call."""

    model: str | None
    usage: Usage


def written_for(usage: Usage, lifetimes: Collection[str]) -> Usage:
    """Return ``usage`` with its writes for the one of ``lifetimes`` that was asked for, where it tells none.

    They are `UNTOLD` where several were, and left as they are where nobody knows of any.
    """
    if not lifetimes or not usage.cache_write_tokens or usage.cache_write_by_ttl:
        return usage
    lifetime = next(iter(lifetimes)) if len(lifetimes) == 1 else UNTOLD
    return replace(usage, cache_write_by_ttl={lifetime: usage.cache_write_tokens})
