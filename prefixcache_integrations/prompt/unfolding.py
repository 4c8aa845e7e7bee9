"""Rows that are worked out as far as they are looked at, and once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

RowT = TypeVar("RowT")


class Unfolding(Generic[RowT]):
    """The rows of an iterator, which nobody else takes any from; by number too, from 0."""

    def __init__(self, rows: Iterator[RowT]) -> None:
        self._rows = rows
        self._known: list[RowT] = []

    def __getitem__(self, number: int) -> RowT:
        """Return a row. Raises IndexError where there are not so many."""
        known = self._known
        if number >= len(known):
            known.extend(islice(self._rows, number + 1 - len(known)))
        return known[number]

    def __iter__(self) -> Iterator[RowT]:
        """Yield all rows."""
        yield from self._known
        for row in self._rows:
            self._known.append(row)
            yield row
