"""What a handler has seen: the latest calls, the sum of all, and both as a table."""

from __future__ import annotations

import threading
from collections import deque

from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.call_table import call_record, render
from prefixcache_integrations.insight.recording import RecordedCall

_HITS = ("response_cache", "other_cache")


class CallLog:
    """The latest ``keep`` calls and the sum over all. Safe to share between threads."""

    def __init__(self, keep: int) -> None:
        self._lock = threading.Lock()
        self._calls: deque[RecordedCall] = deque(maxlen=keep)
        self._totals = Totals()

    def add(self, call: RecordedCall | None) -> None:
        """Add a call that has ended; ``None`` is one that had ended before."""
        if call is None:
            return
        with self._lock:
            self._calls.append(call)
            self._totals += _totals_of(call)

    @property
    def calls(self) -> list[RecordedCall]:
        """The latest calls, oldest first."""
        with self._lock:
            return list(self._calls)

    @property
    def totals(self) -> Totals:
        """The sum over all calls; those that failed were not billed, and are not among them."""
        with self._lock:
            return self._totals

    def report(self) -> str:
        """Return a plain-text table with a row per call, and the totals under it."""
        with self._lock:
            calls, totals = tuple(self._calls), self._totals
        return render([call_record(call) for call in calls], totals)


def _totals_of(call: RecordedCall) -> Totals:
    if call.outcome in _HITS:
        return Totals.of_hit()
    return Totals() if call.outcome == "failed" else Totals.of_call(call.usage, call.cost, call.uncached_cost)
