"""Sums as integers by name, so that many processes can add to them where only integers can be added to.

A field is ``dimension amount name``: ``model input_tokens gpt-5.6-luna``. Money is cut into limbs of nine digits, each
a field of its own (``cost@-9`` counts in billionths), so that its sum is exact, whatever the number of digits.
Durations are counted by size, each in the step of two percent that it is in, and their nanoseconds added up:
``call/37`` and ``call/ns``. Any number of them takes a bounded number of fields, whose sum has the quantiles of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import TypeAlias

from msgspec import Struct

from prefixcache_integrations.events import Event
from prefixcache_integrations.insight.accounting import Totals, amounts_of
from prefixcache_integrations.insight.latency import Duration, Durations
from prefixcache_integrations.insight.ledger import SHARES, Account, Dimension, Timed, account_of, names_of, times_of

Fields: TypeAlias = Mapping[str, int]

SHARED: tuple[Dimension, ...] = ("model", "app", "namespace")
"""The dimensions that processes add up together: an application has a bounded number of their names."""

_ALL = "all"
_LIMB = 9
_EXACT = Context(prec=1000)


class SharedAccounts(Struct, frozen=True, kw_only=True):
    """What processes have added up together. ``by`` has the account of each name; ``None`` are all further names."""

    account: Account
    by: Mapping[Dimension, Mapping[str | None, Account]]

    @property
    def totals(self) -> Totals:
        """The sum over all."""
        return self.account.totals


class Sums:
    """Adds amounts to fields. Not thread-safe; holds ``max_names`` names of each dimension at most."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._names: dict[Dimension, set[str]] = {dimension: set() for dimension in SHARED}
        self._amounts: dict[tuple[str, ...], defaultdict[str, int]] = {}

    def add(self, event: Event) -> bool:
        """Add what ``event`` says; return whether that is anything."""
        integers = [each for kind, value in amounts_of(event).items() for each in _integers(kind, value)]
        integers += [each for what, duration in times_of(event) for each in _counted(_FIELDS[what], duration)]
        if not integers:
            return False
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


def accounts_of(fields: Fields) -> SharedAccounts:
    """Return what ``fields`` say."""
    places: defaultdict[tuple[str, str | None], dict[str, int]] = defaultdict(dict)
    for field, number in fields.items():
        dimension, kind, *name = field.split(" ", 2)
        places[dimension, name[0] if name else None][kind] = number
    accounts = {place: _account(found) for place, found in places.items()}
    return SharedAccounts(
        account=accounts.get((_ALL, None), Account()),
        by={
            dimension: {name: found for (where, name), found in accounts.items() if where == dimension}
            for dimension in SHARED
        },
    )


def _account(numbers: Mapping[str, int]) -> Account:
    amounts: dict[str, int | Decimal] = {}
    steps: defaultdict[Timed, dict[int, int]] = defaultdict(dict)
    nanoseconds: dict[Timed, int] = {}
    for kind, number in numbers.items():
        name, _, part = kind.partition("/")
        if name in _TIMED and part == _NANOSECONDS:
            nanoseconds[_TIMED[name]] = number
        elif name in _TIMED:
            steps[_TIMED[name]][int(part)] = number
        else:
            name, _, exponent = kind.partition("@")
            amount = Decimal(number).scaleb(int(exponent), _EXACT) if exponent else number
            amounts[name] = _EXACT.add(amounts.get(name, 0), amount) if exponent else amounts.get(name, 0) + amount
    return account_of(amounts, {what: Durations(counts, nanoseconds.get(what, 0)) for what, counts in steps.items()})


_FIELDS: Mapping[Timed, str] = {
    "hit": "hit",
    "call": "call",
    **{share: f"first_token_{share.replace(' ', '_')}" for share in SHARES},
}
_TIMED: Mapping[str, Timed] = {field: what for what, field in _FIELDS.items()}
_NANOSECONDS = "ns"


def _counted(field: str, duration: Duration) -> Iterator[tuple[str, int]]:
    yield f"{field}/{duration.step}", 1
    yield f"{field}/{_NANOSECONDS}", duration.nanoseconds


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
