"""What it is worth that a prefix will come back: how often it is read, and what writing it now saves or loses."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

AGES = (0.0, 1.0, 4.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 43_200.0)
"""Where the stretches of age begin, in seconds: the lifetimes that providers offer, and the pauses within them."""

FOREVER = 30.0
"""The most reads that are ever expected of one write."""


class Returns(NamedTuple):
    """How likely a prefix comes again: after this visit, after each later one, after all others.

    Each row is of how likely that is within each number of `AGES`. ``waits``: it comes again whatever was written, and
    can be written then. What comes after documents comes in an order that depends on what was written.
    """

    rows: Sequence[Sequence[float]]
    waits: bool = True

    def within(self, lifetime: float) -> list[float]:
        """Return how likely it comes again within ``lifetime`` seconds."""
        ages = bisect_left(AGES, lifetime)
        return [row[ages] for row in self.rows]

    def expected_reads(self, lifetime: float) -> float:
        """Return how often a prefix will be read before its entry ends, if it is written now."""
        *chances, always = self.within(lifetime)
        reads = _for_good(always)
        for chance in reversed(chances):
            reads = chance * (1 + reads)
        return reads

    def worth_writing(self, lifetime: float, saving: float, extra: float) -> float:
        """Return what it is worth to write a token of a prefix now, rather than when it comes again or never.

        A read saves ``saving``, writing costs ``extra`` more.
        """
        *rows, always = self.rows
        ages = bisect_left(AGES, lifetime)
        held = saving * _for_good(always[ages])
        waited = always[ages] * max(0.0, held - extra)
        for row in reversed(rows):
            chance, now = row[ages], held - extra
            held, waited = chance * (saving + held), chance * max(now, waited)
        return held - extra - (waited if self.waits else 0.0)


def _for_good(chance: float) -> float:
    """Return how often what returns so likely each time does so in all, at most `FOREVER`."""
    return min(chance / (1 - chance), FOREVER) if chance < 1 else FOREVER
