"""What calls cost: tokens and money of many calls, added up without ever taking unknown for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import reduce

from msgspec import Struct, field

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import CacheHit, Event, UsageRecorded

_NOTHING = Decimal(0)
_TOKEN_FIELDS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "uncached_tokens", "output_tokens")


class Totals(Struct, frozen=True, kw_only=True):
    """The sum over some calls. ``a + b`` is the sum of both; ``Totals()`` is the sum over none.

    ``calls`` were answered by a provider, ``hits`` by the response cache. Tokens are sums over the calls
    that report them, ``unknown`` counts for each field the calls that did not: a sum is complete only where
    its field is not in there. ``cost`` and ``uncached_cost`` are US dollars; ``savings`` compares the two
    over the calls where both are known, and is negative where writes were never read again.
    """

    calls: int = 0
    hits: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_by_ttl: Mapping[str, int] = field(default_factory=dict)
    uncached_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = _NOTHING
    uncached_cost: Decimal = _NOTHING
    savings: Decimal = _NOTHING
    unknown: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_call(cls, usage: Usage, cost: Decimal | None = None, uncached_cost: Decimal | None = None) -> Totals:
        """Return the totals of one call to a provider."""
        tokens = {name: getattr(usage, name) for name in _TOKEN_FIELDS}
        money = {"cost": cost, "uncached_cost": uncached_cost}
        known = {name: value for name, value in (tokens | money).items() if value is not None}
        return cls(
            calls=1,
            cache_write_by_ttl=dict(usage.cache_write_by_ttl or {}),
            savings=uncached_cost - cost if cost is not None and uncached_cost is not None else _NOTHING,
            unknown=dict.fromkeys((tokens | money).keys() - known.keys(), 1),
            **known,
        )

    @classmethod
    def of_hit(cls) -> Totals:
        """Return the totals of one answer out of the response cache: no call, no tokens, no cost."""
        return cls(hits=1)

    @property
    def read_share(self) -> float | None:
        """The share of the input tokens that was read from the provider's cache; ``None`` without any input."""
        return self.cache_read_tokens / self.input_tokens if self.input_tokens else None

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            calls=self.calls + other.calls,
            hits=self.hits + other.hits,
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_by_ttl=_added(self.cache_write_by_ttl, other.cache_write_by_ttl),
            uncached_tokens=self.uncached_tokens + other.uncached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
            uncached_cost=self.uncached_cost + other.uncached_cost,
            savings=self.savings + other.savings,
            unknown=_added(self.unknown, other.unknown),
        )


def total(events: Iterable[Event]) -> Totals:
    """Add up the calls and hits among ``events``; other events say nothing about tokens."""
    return reduce(Totals.__add__, map(_totals_of, events), Totals())


def _totals_of(event: Event) -> Totals:
    match event:
        case UsageRecorded():
            return Totals.of_call(event.usage, event.cost, event.uncached_cost)
        case CacheHit():
            return Totals.of_hit()
        case _:
            return Totals()


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in sorted({*left, *right})}
