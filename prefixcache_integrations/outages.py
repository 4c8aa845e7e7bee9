"""What the log says of a store that fails: a line when it begins, a line when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prefixcache_integrations.events import CacheHit, EntryStored, Event, Observer, StoreDegraded

QUIET_SECONDS = 10.0
"""Failures that follow each other sooner are one outage, also where something succeeds between them."""

_logger = logging.getLogger("prefixcache_integrations")


class OutageLog:
    """An observer that logs the first failure of an outage, and the first success after it. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        if isinstance(event, StoreDegraded):
            self._failed(event)
        elif self._failures and isinstance(event, CacheHit | EntryStored):
            self._succeeded()

    def beside(self, other: Observer) -> Observer:
        """Return one observer for this and ``other``, whom hits do not matter to: most events are hits that work."""

        def told(event: Event) -> None:
            if type(event) is not CacheHit or self._failures:
                other(event)
                self(event)

        return told

    def _failed(self, event: StoreDegraded) -> None:
        with self._lock:
            self._last = self._clock()
            self._failures += 1
            begun = self._failures == 1
        if begun:
            _logger.warning("The response cache goes on without its store: %s failed, %s", event.operation, event.error)

    def _succeeded(self) -> None:
        with self._lock:
            failures = self._failures
            if not failures or self._clock() - self._last < QUIET_SECONDS:
                return
            self._failures = 0
        _logger.warning("The response cache's store works again; %d operations had failed", failures)
