"""What calls cost: tokens and money of many calls, added up without ever taking unknown for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, TypeAlias, cast

from msgspec import Struct, field

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import (
    CacheHit,
    CacheMiss,
    CallFailed,
    CallJoined,
    EntryEvicted,
    EntryRejected,
    EntryStored,
    Event,
    PrefixBroken,
    StoreDegraded,
    UsageRecorded,
)

_NOTHING = Decimal(0)
_TOKEN_FIELDS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "uncached_tokens", "output_tokens")

Amounts: TypeAlias = Mapping[str, int | Decimal]
"""What one event adds to `Totals`: by field, for a mapping's entry by ``field/name``."""


class Totals(Struct, frozen=True, kw_only=True):
    """The sum over some calls. ``a + b`` is the sum of both; ``Totals()`` is the sum over none.

    ``calls`` were answered by a provider, ``hits`` by the response cache, which had nothing for ``misses``;
    ``joined`` were answered by another caller's call of the same; ``failed`` ended in an error. Tokens are sums over
    the calls that report them, ``unknown`` counts for each field the calls that did not: a sum is complete only where
    its field is not in there. ``cost`` and ``uncached_cost`` are US dollars; ``savings`` compares the two over the
    calls where both are known, and is negative where writes were never read again. ``breaks`` are calls that read
    less than they could, by ``lost_tokens`` and ``lost_cost``. ``stored_bytes`` in ``stored`` entries were put into
    the response cache, ``rejected`` answers were not; ``evicted`` ones were pushed out of it to make room;
    ``store_errors`` are operations that a store failed.
    """

    calls: int = 0
    hits: int = 0
    joined: int = 0
    misses: int = 0
    failed: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_by_ttl: Mapping[str, int] = field(default_factory=dict)
    uncached_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = _NOTHING
    uncached_cost: Decimal = _NOTHING
    savings: Decimal = _NOTHING
    breaks: int = 0
    lost_tokens: int = 0
    lost_cost: Decimal = _NOTHING
    stored: int = 0
    stored_bytes: int = 0
    rejected: int = 0
    evicted: int = 0
    store_errors: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, amounts: Amounts) -> Totals:
        """Return the totals that ``amounts`` add up to."""
        fields: dict[str, Any] = {}
        for name, amount in amounts.items():
            mapping, _, entry = name.partition("/")
            if entry:
                fields.setdefault(mapping, {})[entry] = amount
            else:
                fields[name] = amount
        return cls(**fields)

    @classmethod
    def of_call(cls, usage: Usage, cost: Decimal | None = None, uncached_cost: Decimal | None = None) -> Totals:
        """Return the totals of one call to a provider."""
        return cls.of(_call_amounts(usage, cost, uncached_cost))

    @classmethod
    def of_hit(cls) -> Totals:
        """Return the totals of one answer out of the response cache: no call, no tokens, no cost."""
        return cls(hits=1)

    @property
    def read_share(self) -> float | None:
        """The share of the input tokens that was read from the provider's cache; ``None`` without any input."""
        return self.cache_read_tokens / self.input_tokens if self.input_tokens else None

    @property
    def hit_share(self) -> float | None:
        """The share of the lookups that cost no call of their own; ``None`` without any."""
        answered = self.hits + self.joined
        return answered / (answered + self.misses) if answered + self.misses else None

    @property
    def perfect_cost(self) -> Decimal:
        """What the same calls had cost if each had read all that the requests before it left in the cache.

        That is `cost` less what the diagnosis found lost: it knows of no loss where nobody diagnoses.
        """
        return self.cost - self.lost_cost

    def __add__(self, other: Totals) -> Totals:
        fields: dict[str, Any] = {
            name: _plus(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__
        }
        return Totals(**fields)


def total(events: Iterable[Event]) -> Totals:
    """Add up what ``events`` say of calls, tokens, money and the response cache."""
    return reduce(Totals.__add__, (Totals.of(amounts_of(event)) for event in events), Totals())


def amounts_of(event: Event) -> Amounts:
    """Return what ``event`` adds to the totals; nothing for an event that is about neither calls nor stores."""
    count = _AMOUNTS.get(type(event))
    return {} if count is None else count(event)


def _call_amounts(usage: Usage, cost: Decimal | None, uncached_cost: Decimal | None) -> Amounts:
    amounts: dict[str, int | Decimal] = {"calls": 1}
    for name in _TOKEN_FIELDS:
        _add_known(amounts, name, getattr(usage, name))
    for ttl, tokens in (usage.cache_write_by_ttl or {}).items():
        amounts[f"cache_write_by_ttl/{ttl}"] = tokens
    _add_known(amounts, "cost", cost)
    _add_known(amounts, "uncached_cost", uncached_cost)
    if cost is not None and uncached_cost is not None:
        amounts["savings"] = uncached_cost - cost
    return amounts


def _break_amounts(event: PrefixBroken) -> Amounts:
    amounts: dict[str, int | Decimal] = {"breaks": 1, "lost_tokens": event.lost_tokens}
    _add_known(amounts, "lost_cost", event.lost_cost)
    return amounts


def _add_known(amounts: dict[str, int | Decimal], name: str, value: int | Decimal | None) -> None:
    if value is None:
        amounts[f"unknown/{name}"] = 1
    else:
        amounts[name] = value


_AMOUNTS: Mapping[type, Callable[[Any], Amounts]] = {
    UsageRecorded: lambda event: _call_amounts(event.usage, event.cost, event.uncached_cost),
    CallFailed: lambda _: {"failed": 1},
    CacheHit: lambda _: {"hits": 1},
    CallJoined: lambda _: {"joined": 1},
    CacheMiss: lambda _: {"misses": 1},
    PrefixBroken: _break_amounts,
    EntryStored: lambda event: {"stored": 1, "stored_bytes": event.size},
    EntryEvicted: lambda event: {"evicted": event.count},
    EntryRejected: lambda _: {"rejected": 1},
    StoreDegraded: lambda _: {"store_errors": 1},
}


def _plus(left: object, right: object) -> object:
    if isinstance(left, Mapping):
        return _added(left, cast("Mapping[str, int]", right))
    return cast("int", left) + cast("int", right)


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in sorted({*left, *right})}
