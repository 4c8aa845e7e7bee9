"""How long things took: counted by size, so that any number of them fits in a bounded memory."""

from __future__ import annotations

from collections import Counter
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


class Durations:
    """Durations, by size in steps of two percent (DDSketch, Masson, Rim and Lee 2019). Not thread-safe.

    Below a microsecond and above a million seconds sizes are no longer told apart: at most 1,382 counts are kept.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._nanoseconds = 0

    def add(self, seconds: float) -> None:
        """Count one duration; a negative one, of a clock that was put back, counts as nothing."""
        bounded = min(max(seconds, _SHORTEST), _LONGEST)
        self._counts[ceil(log(bounded) / _LOG_GAMMA)] += 1
        self._nanoseconds += round(max(seconds, 0.0) * _NANOSECONDS)

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
