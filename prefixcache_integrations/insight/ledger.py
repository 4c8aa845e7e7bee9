"""One book for all calls of a process: sums and latencies, by whom they are for and by when they were."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Literal, TypeAlias, get_args

from msgspec import Struct, field

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import AnswerTimed, Event, Labels, UsageRecorded
from prefixcache_integrations.insight.accounting import Amounts, Totals, amounts_of
from prefixcache_integrations.insight.latency import Duration, Durations, Latency

Dimension: TypeAlias = Literal["model", "app", "session", "namespace", "tag"]
_DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

CachedShare: TypeAlias = Literal["nothing", "under half", "half or more", "nine tenths or more", "unknown"]
"""How much of a call's input was read from the provider's cache."""

Timed: TypeAlias = Literal["hit", "call"] | CachedShare
"""What took its time: an answer out of a cache, a call, or the first token of a stream of which so much was read."""

SHARES: tuple[CachedShare, ...] = get_args(CachedShare)


class Account(Struct, frozen=True, kw_only=True):
    """What some calls come to. Latencies are those of which somebody told; ``None`` without any.

    ``hit_latency`` is of answers out of a cache, ``call_latency`` of calls to a provider, ``first_token`` of the first
    piece of streamed ones.
    """

    totals: Totals = Totals()
    hit_latency: Latency | None = None
    call_latency: Latency | None = None
    first_token: Mapping[CachedShare, Latency] = field(default_factory=dict)


class Window(Struct, frozen=True, kw_only=True):
    """What happened from ``start`` on, in seconds of the ledger's clock, for ``seconds``."""

    start: float
    seconds: float
    account: Account


class Ledger:
    """Adds up what it is told: give it as an observer to whatever takes observers. Thread-safe, bounded memory.

    Each name in each dimension has an account of its own, up to ``max_names``, and each of the last ``max_windows``
    windows of ``window_seconds``. Who has not been heard of longest is then added to the account ``None``; windows
    that are too old are forgotten. An event that has no name in a dimension is in none of its accounts; one with two
    tags is in two.

    Args:
        clock: Seconds since the epoch, or of any other clock, as `Window` will show them.
        window_seconds: The length of a window; windows start at multiples of it.
        max_windows: How many windows are kept.
        max_names: How many names of each dimension have accounts.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        window_seconds: float = 3600,
        max_windows: int = 168,
        max_names: int = 1000,
    ) -> None:
        self._clock = clock
        self._window_seconds = window_seconds
        self._max_windows = max_windows
        self._max_names = max_names
        self._lock = threading.Lock()
        self._all = _Sums()
        self._named: dict[Dimension, OrderedDict[str | None, _Sums]] = {name: OrderedDict() for name in _DIMENSIONS}
        self._windows: OrderedDict[int, _Sums] = OrderedDict()

    def __call__(self, event: Event) -> None:
        """Add what ``event`` says."""
        amounts, times = amounts_of(event), times_of(event)
        if not amounts and not times:
            return
        now = self._clock()
        with self._lock:
            for sums in (self._all, self._window(now), *self._accounts_of(event)):
                sums.add(amounts, times)

    @property
    def totals(self) -> Totals:
        """The sum over everything since the ledger was made."""
        return self.account().totals

    def account(self) -> Account:
        """Return what everything since the ledger was made comes to."""
        with self._lock:
            return self._all.account()

    def by(self, dimension: Dimension) -> dict[str | None, Account]:
        """Return the accounts of one dimension by name, the latest heard of last."""
        with self._lock:
            return {name: sums.account() for name, sums in self._named[dimension].items()}

    def windows(self) -> list[Window]:
        """Return the windows in which something happened, oldest first."""
        with self._lock:
            return [
                Window(start=index * self._window_seconds, seconds=self._window_seconds, account=sums.account())
                for index, sums in sorted(self._windows.items())
            ]

    def _window(self, now: float) -> _Sums:
        index = int(now // self._window_seconds)
        found = self._windows.get(index)
        if found is None:
            found = self._windows[index] = _Sums()
            if len(self._windows) > self._max_windows:
                del self._windows[min(self._windows)]
        return found

    def _accounts_of(self, event: Event) -> Iterator[_Sums]:
        for dimension, name in names_of(event):
            accounts = self._named[dimension]
            found = accounts.get(name)
            if found is None:
                found = accounts[name] = _Sums()
                self._make_room(accounts)
            accounts.move_to_end(name)
            yield found

    def _make_room(self, accounts: OrderedDict[str | None, _Sums]) -> None:
        if len(accounts) - (None in accounts) <= self._max_names:
            return
        oldest = next(name for name in accounts if name is not None)
        accounts.setdefault(None, _Sums()).merge(accounts.pop(oldest))


def names_of(event: Event) -> Iterator[tuple[Dimension, str]]:
    """Yield whom ``event`` is for, in every dimension in which it says so."""
    model, labels = getattr(event, "model", None), getattr(event, "labels", None)
    if model is not None:
        yield "model", model
    if isinstance(labels, Labels):
        named: tuple[tuple[Dimension, str | None], ...] = (
            ("app", labels.app),
            ("session", labels.session),
            ("namespace", labels.namespace),
            *(("tag", tag) for tag in dict.fromkeys(labels.tags)),
        )
        yield from ((dimension, name) for dimension, name in named if name is not None)


def times_of(event: Event) -> list[tuple[Timed, Duration]]:
    """Return how long took what ``event`` tells of; what is no length of time is not."""
    told: tuple[tuple[Timed, float | None], ...] = ()
    if isinstance(event, AnswerTimed):
        told = (("hit", event.seconds),)
    elif isinstance(event, UsageRecorded):
        told = (("call", event.seconds), (cached_share(event.usage), event.first_token_seconds))
    return [(what, Duration.of(seconds)) for what, seconds in told if seconds is not None and isfinite(seconds)]


def account_of(amounts: Amounts, durations: Mapping[Timed, Durations]) -> Account:
    """Return the account that amounts and durations come to."""
    summaries = {what: each.summary() for what, each in durations.items()}
    return Account(
        totals=Totals.of(amounts),
        hit_latency=summaries.get("hit"),
        call_latency=summaries.get("call"),
        first_token={share: found for share in SHARES if (found := summaries.get(share)) is not None},
    )


class _Sums:
    """An account being kept. Numbers are added where they stand: a new `Totals` per event would cost more."""

    def __init__(self) -> None:
        self.amounts: defaultdict[str, int | Decimal] = defaultdict(int)
        self.durations: defaultdict[Timed, Durations] = defaultdict(Durations)

    def add(self, amounts: Amounts, times: Sequence[tuple[Timed, Duration]]) -> None:
        for name, amount in amounts.items():
            self.amounts[name] += amount
        for what, duration in times:
            self.durations[what].count(duration)

    def merge(self, other: _Sums) -> None:
        for name, amount in other.amounts.items():
            self.amounts[name] += amount
        for what, durations in other.durations.items():
            self.durations[what].merge(durations)

    def account(self) -> Account:
        return account_of(self.amounts, self.durations)


def cached_share(usage: Usage) -> CachedShare:
    """Return how much of a call's input was read from the provider's cache."""
    if usage.cache_read_tokens is None or not usage.input_tokens:
        return "unknown"
    if usage.cache_read_tokens == 0:
        return "nothing"
    tenths = 10 * usage.cache_read_tokens / usage.input_tokens
    return "nine tenths or more" if tenths >= 9 else "half or more" if tenths >= 5 else "under half"  # noqa: PLR2004 - named by what is returned
