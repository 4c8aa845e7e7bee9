"""What a prompt costs under a cache rule, in units of one uncached input token.

Written apart from the package's own simulator and planner, on purpose: the two check each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

WARM_UP = 100
"""From which request on the cumulative cost is held against that of the best fixed policy."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One request: its cost, and its tokens by how they were billed."""

    cost: float
    tokens: int
    read: int = 0
    written: int = 0


class Bills(tuple[Bill, ...]):
    """What the requests of a run were billed."""

    @property
    def cost(self) -> float:
        """The cost of all."""
        return sum(bill.cost for bill in self)

    @property
    def tokens(self) -> int:
        """The tokens sent."""
        return sum(bill.tokens for bill in self)

    @property
    def read(self) -> int:
        """The tokens read from the cache."""
        return sum(bill.read for bill in self)

    @property
    def written(self) -> int:
        """The tokens written to it."""
        return sum(bill.written for bill in self)

    def worst_beside(self, other: Bills) -> float:
        """Return the highest ratio that the cumulative cost had to that of ``other``, after the warm-up."""
        pairs = zip(*(accumulate(bill.cost for bill in each) for each in (self, other)), strict=True)
        return max((mine / theirs for mine, theirs in list(pairs)[WARM_UP:]), default=self.cost / (other.cost or 1))


class Rule(Protocol):
    """How a provider's cache bills requests, one after the other."""

    def bill(
        self,
        parts: Sequence[Hashable],
        tokens: Sequence[int],
        markers: Sequence[int],
        at: float | None = None,
        also: Sequence[int] = (),
    ) -> Bill:
        """Return the bill of a request with ``markers`` at these indices, and remember its entries."""


@dataclass(slots=True)
class Prefixes:
    """Numbers for prefixes: the same run of parts has the same number."""

    _next: dict[tuple[int, Hashable], int] = field(default_factory=dict)

    def of(self, parts: Sequence[Hashable]) -> list[int]:
        """Return the number of the prefix up to and with each part."""
        node, numbers = 0, []
        for part in parts:
            node = self._next.setdefault((node, part), len(self._next) + 1)
            numbers.append(node)
        return numbers


@dataclass(slots=True)
class _Marked(ABC):
    """Entries exist where a marker stood; what has fewer than ``minimum`` tokens is never one.

    Reads cost a tenth and writes a quarter more. A read refreshes an entry. ``ttl`` in seconds, ``None``: entries stay.
    """

    minimum: int = 1024
    read: float = 0.1
    write: float = 1.25
    ttl: float | None = None
    _prefixes: Prefixes = field(default_factory=Prefixes)
    entries: dict[int, float] = field(default_factory=dict)

    def bill(
        self,
        parts: Sequence[Hashable],
        tokens: Sequence[int],
        markers: Sequence[int],
        at: float | None = None,
        also: Sequence[int] = (),
    ) -> Bill:
        """Return the bill of a request with ``markers`` at these indices, and remember its entries.

        What is at ``also`` is looked up where the rule can, and not written.
        """
        now = at or 0.0
        numbers, ends = self._prefixes.of(parts), _sums(tokens)
        live = [index for index in sorted(set(markers)) if ends[index] >= self.minimum]
        found = next((index for index in self._looked_up(live, also) if self._holds(numbers[index], now)), None)
        for index in {*self._written(live), *([] if found is None else [found])}:
            self.entries[numbers[index]] = now
        read = 0 if found is None else ends[found]
        written = max(0, (ends[live[-1]] if live else 0) - read)
        return Bill(ends[-1] + (self.read - 1) * read + (self.write - 1) * written, ends[-1], read, written)

    @abstractmethod
    def _looked_up(self, live: Sequence[int], also: Sequence[int]) -> Iterable[int]:
        """Return where an entry is looked for, the latest place first."""

    @abstractmethod
    def _written(self, live: Sequence[int]) -> Sequence[int]:
        """Return which markers write."""

    def _holds(self, number: int, now: float) -> bool:
        written = self.entries.get(number)
        return written is not None and (self.ttl is None or now - written <= self.ttl)


@dataclass(slots=True)
class Markers(_Marked):
    """Claude's rule: a marker looks back over so many blocks for an entry."""

    lookback: int = 20

    def _looked_up(self, live: Sequence[int], also: Sequence[int]) -> Iterable[int]:
        del also
        places = {index for marker in live for index in range(max(0, marker - self.lookback + 1), marker + 1)}
        return sorted(places, reverse=True)

    def _written(self, live: Sequence[int]) -> Sequence[int]:
        return live


@dataclass(slots=True)
class Breakpoints(_Marked):
    """The rule of GPT-5.6 and later: entries are found at breakpoints alone.

    The latest ``budget`` are written, the latest ``lookups`` are looked up.
    """

    budget: int = 4
    lookups: int = 80

    def _looked_up(self, live: Sequence[int], also: Sequence[int]) -> Iterable[int]:
        return sorted({*live, *also}, reverse=True)[: self.lookups]

    def _written(self, live: Sequence[int]) -> Sequence[int]:
        return live[-self.budget :]


@dataclass(slots=True)
class Intervals:
    """OpenAI's earlier rule and that of engines: every prefix is stored, found at multiples of ``increment`` tokens.

    Writes are free. ``minimum`` and ``increment``: 1,024 and 128 at OpenAI, 1 and 16 in engines.
    """

    minimum: int = 1024
    increment: int = 128
    read: float = 0.1
    ttl: float | None = None
    _prefixes: Prefixes = field(default_factory=Prefixes)
    _seen: dict[int, float] = field(default_factory=dict)

    def bill(
        self,
        parts: Sequence[Hashable],
        tokens: Sequence[int],
        markers: Sequence[int] = (),
        at: float | None = None,
        also: Sequence[int] = (),
    ) -> Bill:
        """Return the bill of a request, and remember it; markers mean nothing here."""
        del markers, also
        now, common = at or 0.0, 0
        numbers, ends = self._prefixes.of(parts), _sums(tokens)
        for number, end in zip(numbers, ends, strict=True):
            seen = self._seen.get(number)
            if seen is None or (self.ttl is not None and now - seen > self.ttl):
                break
            common = end
        for number in numbers:
            self._seen[number] = now
        read = common // self.increment * self.increment
        read = read if read >= self.minimum else 0
        return Bill(ends[-1] + (self.read - 1) * read, ends[-1], read)


def _sums(tokens: Sequence[int]) -> list[int]:
    total, sums = 0, []
    for count in tokens:
        total += count
        sums.append(total)
    return sums
