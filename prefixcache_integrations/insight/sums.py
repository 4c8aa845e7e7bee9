"""Sums as integers by name, so that many processes can add to them where only integers can be added to.

A field is ``dimension amount name``: ``model input_tokens gpt-5.6-luna``. Money is cut into limbs of nine digits, each
a field of its own (``cost@-9`` counts in billionths), so that its sum is exact, whatever the number of digits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import TypeAlias

from msgspec import Struct

from prefixcache_integrations.events import Event
from prefixcache_integrations.insight.accounting import Totals, amounts_of
from prefixcache_integrations.insight.ledger import Dimension, names_of

Fields: TypeAlias = Mapping[str, int]

SHARED: tuple[Dimension, ...] = ("model", "app", "namespace")
"""The dimensions that processes add up together: an application has a bounded number of their names."""

_ALL = "all"
_LIMB = 9
_EXACT = Context(prec=1000)


class SharedTotals(Struct, frozen=True, kw_only=True):
    """What processes have added up together. ``by`` has the totals of each name; ``None`` are all further names."""

    totals: Totals
    by: Mapping[Dimension, Mapping[str | None, Totals]]


class Sums:
    """Adds amounts to fields. Not thread-safe; holds ``max_names`` names of each dimension at most."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._names: dict[Dimension, set[str]] = {dimension: set() for dimension in SHARED}
        self._amounts: dict[tuple[str, ...], defaultdict[str, int]] = {}

    def add(self, event: Event) -> bool:
        """Add what ``event`` says; return whether that is anything."""
        amounts = amounts_of(event)
        if not amounts:
            return False
        integers = [each for kind, value in amounts.items() for each in _integers(kind, value)]
        self._add((_ALL,), integers)
        for dimension, name in names_of(event):
            if dimension in SHARED:
                self._add(self._place(dimension, name), integers)
        return True

    def fields(self) -> Fields:
        """Return what was added, as integers."""
        return {
            " ".join((dimension, amount, *name)): number
            for (dimension, *name), amounts in self._amounts.items()
            for amount, number in amounts.items()
        }

    def _add(self, place: tuple[str, ...], integers: Sequence[tuple[str, int]]) -> None:
        kept = self._amounts.setdefault(place, defaultdict(int))
        for name, number in integers:
            kept[name] += number

    def _place(self, dimension: Dimension, name: str) -> tuple[str, ...]:
        names = self._names[dimension]
        if name not in names and len(names) >= self._max_names:
            return (dimension,)
        names.add(name)
        return (dimension, name)


def merged(books: Iterable[Fields]) -> Fields:
    """Return the sum of ``books``."""
    total: defaultdict[str, int] = defaultdict(int)
    for fields in books:
        for field, number in fields.items():
            total[field] += number
    return total


def totals_of(fields: Fields) -> SharedTotals:
    """Return what ``fields`` say."""
    amounts: defaultdict[tuple[str, str | None], dict[str, int | Decimal]] = defaultdict(dict)
    for field, number in fields.items():
        dimension, kind, *name = field.split(" ", 2)
        kind, _, exponent = kind.partition("@")
        amount = Decimal(number).scaleb(int(exponent), _EXACT) if exponent else number
        kept = amounts[dimension, name[0] if name else None]
        kept[kind] = _EXACT.add(kept.get(kind, 0), amount) if exponent else kept.get(kind, 0) + amount
    totals = {place: Totals.of(found) for place, found in amounts.items()}
    return SharedTotals(
        totals=totals.get((_ALL, None), Totals()),
        by={
            dimension: {name: found for (where, name), found in totals.items() if where == dimension}
            for dimension in SHARED
        },
    )


def _integers(kind: str, value: int | Decimal) -> Iterator[tuple[str, int]]:
    if isinstance(value, int):
        yield kind, value
        return
    sign, digits, exponent = value.as_tuple()
    number, at = int("".join(map(str, digits))), int(exponent)
    number, at = number * 10 ** (at % _LIMB), at - at % _LIMB
    while number:
        number, limb = divmod(number, 10**_LIMB)
        if limb:
            yield f"{kind}@{at}", -limb if sign else limb
        at += _LIMB
