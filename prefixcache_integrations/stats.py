"""What came of the calls of one response cache, in numbers."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

from msgspec import Struct

from prefixcache_integrations.events import (
    CacheHit,
    CacheMiss,
    CallJoined,
    EntryEvicted,
    EntryRejected,
    EntryStored,
    Event,
    Observer,
    PassedThrough,
    StoreDegraded,
    tell,
)
from prefixcache_integrations.insight.latency import Durations, Latency


class Stats(Struct, frozen=True, kw_only=True):
    """Counts since the cache was opened in this process. Latencies are ``None`` without any.

    ``joined`` calls waited for another caller's; ``bypassed`` ones were not to be cached; ``errors`` are failures of
    the store. ``rejected`` answers were not stored or could not be read back; ``evicted`` ones made room for others,
    ``None`` where the store does not know. ``hit_latency`` and ``joined_latency`` are until the answer,
    ``miss_latency`` until the call began.
    """

    hits: int
    misses: int
    joined: int
    bypassed: int
    errors: int
    stored: int
    stored_bytes: int
    rejected: int
    evicted: int | None
    hit_latency: Latency | None
    joined_latency: Latency | None
    miss_latency: Latency | None

    @property
    def hit_rate(self) -> float | None:
        """The share of cached calls that cost nothing, ``None`` without any."""
        free, calls = self.hits + self.joined, self.hits + self.joined + self.misses
        return free / calls if calls else None


_MOST_UNCOUNTED = 256


class Evictions:
    """Tells ``observers`` how many values ``store`` pushes out. Safe to share between threads."""

    def __init__(self, store: object, observers: Sequence[Observer]) -> None:
        self._store = store
        self._observers = tuple(observers)
        self._lock = threading.Lock()
        self._known = self.total() or 0

    def total(self) -> int | None:
        """Return how many values were pushed out so far, ``None`` where the store does not know."""
        total: int | None = getattr(self._store, "evicted", None)
        return total

    def notice(self, event: Event) -> None:
        """Tell what was pushed out for what ``event`` says was stored."""
        if not isinstance(event, EntryStored):
            return
        with self._lock:
            known, self._known = self._known, self.total() or 0
            count = self._known - known
        if count:
            tell(self._observers, EntryEvicted(count=count))


class Counters:
    """Counts events and durations. Safe to share between threads.

    What is told is put on a pile, which is counted when it has grown: that takes no lock on the way of a hit.
    """

    def __init__(self) -> None:
        self._uncounted: deque[Event | tuple[str, float]] = deque()
        self.count: Observer = self._uncounted.append
        """Counts one event."""
        self._lock = threading.Lock()
        self._events: Counter[type] = Counter()
        self._stored_bytes = 0
        self._durations: defaultdict[str, Durations] = defaultdict(Durations)

    def since(self, start: float, outcome: str) -> None:
        """Count the time from ``start``, of `time.perf_counter`, until now, as that of ``outcome``."""
        self._uncounted.append((outcome, perf_counter() - start))
        self.shorten()

    def shorten(self) -> None:
        """Count the pile if it has grown."""
        if len(self._uncounted) > _MOST_UNCOUNTED:
            self._catch_up()

    def stats(self, evicted: int | None) -> Stats:
        """Return all counts, and ``evicted``, which only the store knows."""
        self._catch_up()
        with self._lock:
            events = self._events
            return Stats(
                hits=events[CacheHit],
                misses=events[CacheMiss],
                joined=events[CallJoined],
                bypassed=events[PassedThrough],
                errors=events[StoreDegraded],
                stored=events[EntryStored],
                stored_bytes=self._stored_bytes,
                rejected=events[EntryRejected],
                evicted=evicted,
                hit_latency=self._durations["hit"].summary(),
                joined_latency=self._durations["joined"].summary(),
                miss_latency=self._durations["miss"].summary(),
            )

    def _catch_up(self) -> None:
        with self._lock, suppress(IndexError):  # of an empty pile
            while True:
                told = self._uncounted.popleft()
                if isinstance(told, tuple):
                    outcome, seconds = told
                    self._durations[outcome].add(seconds)
                    continue
                self._events[type(told)] += 1
                if isinstance(told, EntryStored):
                    self._stored_bytes += told.size
