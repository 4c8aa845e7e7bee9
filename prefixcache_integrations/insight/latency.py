"""How long things took: counted by size, so that any number of them fits in a bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil, log

from msgspec import Struct

ACCURACY = 0.01
"""How far a quantile may be off, as a share of it."""

_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = log(_GAMMA)
_SHORTEST, _LONGEST = 1e-6, 1e6
_NANOSECONDS = 1_000_000_000


class Latency(Struct, frozen=True, kw_only=True):
    """Some durations in seconds: how many, their mean, and the quantiles, each to within one percent."""

    count: int
    mean: float
    p50: float
    p99: float


class Duration(Struct, frozen=True):
    """One duration: the ``step`` of two percent that it is in, and its length."""

    step: int
    nanoseconds: int

    @classmethod
    def of(cls, seconds: float) -> Duration:
        """Return a duration; a negative one, of a clock that was put back, is nothing, and a million seconds are most.

        Raises `ValueError` for what is no number.
        """
        bounded = min(max(seconds, 0.0), _LONGEST)
        return cls(ceil(log(max(bounded, _SHORTEST)) / _LOG_GAMMA), round(bounded * _NANOSECONDS))


class Durations:
    """Durations, by size in steps of two percent (DDSketch, Masson, Rim and Lee 2019). Not thread-safe.

    Below a microsecond and above a million seconds sizes are no longer told apart: at most 1,382 counts are kept.
    ``steps`` and ``nanoseconds`` are what others have counted.
    """

    def __init__(self, steps: Mapping[int, int] | None = None, nanoseconds: int = 0) -> None:
        self._counts: Counter[int] = Counter(steps)
        self._nanoseconds = nanoseconds

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count(Duration.of(seconds))

    def count(self, duration: Duration) -> None:
        """Count one duration."""
        self._counts[duration.step] += 1
        self._nanoseconds += duration.nanoseconds

    def merge(self, other: Durations) -> None:
        """Count what ``other`` has counted, too."""
        self._counts.update(other._counts)
        self._nanoseconds += other._nanoseconds

    def summary(self) -> Latency | None:
        """Return what they come to, ``None`` without any."""
        count = self._counts.total()
        if count == 0:
            return None
        return Latency(
            count=count,
            mean=self._nanoseconds / count / _NANOSECONDS,
            p50=self._quantile(0.5, count),
            p99=self._quantile(0.99, count),
        )

    def _quantile(self, share: float, count: int) -> float:
        """Return the duration that ``share`` of all do not exceed (nearest rank)."""
        left = ceil(share * count)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                break
        return float(2 * _GAMMA**step / (_GAMMA + 1))
