"""What a prompt costs under a cache rule, in units of one uncached input token.

Written apart from the package's own simulator and planner, on purpose: the two check each other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bill:
    """One request: its cost, and its tokens by how they were billed."""

    cost: float
    tokens: int
    read: int = 0
    written: int = 0


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
class Markers:
    """Claude's rule: entries exist where a marker stood, and a marker looks back over so many blocks for one.

    Reads cost a tenth and writes a quarter more; what has fewer than ``minimum`` tokens is never an entry. A read
    refreshes an entry. ``ttl`` in seconds, ``None``: entries stay.
    """

    minimum: int = 1024
    lookback: int = 20
    read: float = 0.1
    write: float = 1.25
    ttl: float | None = None
    _prefixes: Prefixes = field(default_factory=Prefixes)
    entries: dict[int, float] = field(default_factory=dict)

    def bill(
        self, parts: Sequence[Hashable], tokens: Sequence[int], markers: Sequence[int], at: float | None = None
    ) -> Bill:
        """Return the bill of a request with ``markers`` at these indices, and remember its entries."""
        now = at or 0.0
        numbers, ends = self._prefixes.of(parts), _sums(tokens)
        live = [index for index in sorted(set(markers)) if ends[index] >= self.minimum]
        found = max((self._found(numbers, index, now) for index in live), default=-1)
        written_to = ends[live[-1]] if live else 0
        for index in (*live, *([found] if found >= 0 else [])):
            self.entries[numbers[index]] = now
        read = ends[found] if found >= 0 else 0
        written = max(0, written_to - read)
        cost = ends[-1] + (self.read - 1) * read + (self.write - 1) * written
        return Bill(cost, ends[-1], read, written)

    def _found(self, numbers: Sequence[int], marker: int, now: float) -> int:
        for index in range(marker, max(-1, marker - self.lookback), -1):
            written = self.entries.get(numbers[index])
            if written is not None and (self.ttl is None or now - written <= self.ttl):
                return index
        return -1


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
        self, parts: Sequence[Hashable], tokens: Sequence[int], markers: Sequence[int] = (), at: float | None = None
    ) -> Bill:
        """Return the bill of a request, and remember it; markers mean nothing here."""
        del markers
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
