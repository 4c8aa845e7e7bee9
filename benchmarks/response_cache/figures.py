"""The figures that count, each beside what it has to reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Figure(NamedTuple):
    """One of them: ``at_least`` says that more is better, otherwise less is."""

    what: str
    value: float
    reach: float
    unit: str = "x"
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is as good as it has to be."""
        return self.value >= self.reach if self.at_least else self.value <= self.reach


def show(figures: Iterable[Figure]) -> None:
    """Print each beside its reach."""
    print(f"\n{'figure':74} {'measured':>9}   {'reach':>8}")
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        mark = "" if figure.reached else "  not reached"
        print(f"{figure.what:74} {figure.value:9.2f}   {sign} {figure.reach:g} {figure.unit}{mark}")
