"""A circuit breaker: a store that fails is left alone for a while, and then asked once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefixcache_integrations.errors import CorruptEntry, StoreRefused, StoreUnavailable
from prefixcache_integrations.events import Observer, StoreRestored, StoreSuspended, tell
from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow, T
from prefixcache_integrations.stores.store import Store
from prefixcache_integrations.stores.wrapper import (
    Clear,
    Delete,
    Discard,
    Facts,
    Get,
    Invalidate,
    Put,
    StoreCall,
    TakeLease,
    Wrapper,
)

DEFAULT_PERIOD = 1.0


class FailSafe(Wrapper):
    """Asks ``inner`` until it fails; from then on one call per ``period`` seconds, until one succeeds.

    Every other call raises `StoreUnavailable` at once. How long a failing call takes is up to ``inner``: it
    keeps its own time. `StoreRefused` and `CorruptEntry` are answers in time, not failures. Observers are told
    when the store is left alone and when it is back. ``clock`` returns seconds.
    """

    def __init__(
        self,
        inner: Store,
        *,
        period: float = DEFAULT_PERIOD,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._breaker = _Breaker(period, clock)
        self._observers = tuple(observers)

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        return self._guarded(Get(self._inner, key))

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        return self._guarded(Put(self._inner, key, value, ttl, tags, began))

    def _delete(self, key: EntryKey) -> Flow[None]:
        return self._guarded(Delete(self._inner, key))

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        return self._guarded(Invalidate(self._inner, namespace, tag))

    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]:
        return self._guarded(Facts(self._inner, namespace))

    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]:
        return self._guarded(Discard(self._inner, namespace, handles))

    def _clear(self, namespace: str) -> Flow[None]:
        return self._guarded(Clear(self._inner, namespace))

    def _lease(self, key: EntryKey) -> Flow[Lease | None]:
        return self._guarded(TakeLease(self._inner, key))

    def _guarded(self, call: StoreCall[T]) -> Flow[T]:
        probing = self._breaker.admit()
        try:
            result = yield from call
        except (CorruptEntry, StoreRefused):
            if probing:
                self._restore()
            raise
        except Exception as error:
            if self._breaker.failed():
                tell(self._observers, StoreSuspended(error=type(error).__name__))
            raise
        if probing:
            self._restore()
        return result

    def _restore(self) -> None:
        if self._breaker.succeeded():
            tell(self._observers, StoreRestored())


class _Breaker:
    """When a call may go through. A call that is let through while open also sets the time of the next."""

    def __init__(self, period: float, clock: Callable[[], float]) -> None:
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._next: float | None = None

    def admit(self) -> bool:
        """Return whether this call is a probe. Raises `StoreUnavailable` if it is too early for one."""
        if not self._is_open():
            return False
        with self._lock:
            now = self._clock()
            if self._next is None:
                return False
            if now < self._next:
                raise StoreUnavailable("the store failed a moment ago")
            self._next = now + self._period
            return True

    def _is_open(self) -> bool:
        return self._next is not None

    def failed(self) -> bool:
        """Leave the store alone; return whether that is new."""
        with self._lock:
            if self._next is not None:
                return False
            self._next = self._clock() + self._period
            return True

    def succeeded(self) -> bool:
        """Ask the store again as ever; return whether that is new."""
        with self._lock:
            was_open, self._next = self._next is not None, None
            return was_open
