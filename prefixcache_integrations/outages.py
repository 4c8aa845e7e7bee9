"""What the log says of a store that fails: a line when it begins, a line when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prefixcache_integrations.events import CacheHit, EntryStored, Event, StoreDegraded

QUIET_SECONDS = 10.0
"""Failures that follow each other sooner are one outage, also where something succeeds between them."""

_logger = logging.getLogger("prefixcache_integrations")


class OutageLog:
    """An observer that logs the first failure of an outage, and the first success after it. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0.0
        self.failures = 0
        """How many operations have failed since the store last worked for long enough."""

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        if isinstance(event, StoreDegraded):
            self._failed(event)
        elif self.failures and isinstance(event, CacheHit | EntryStored):
            self._succeeded()

    def _failed(self, event: StoreDegraded) -> None:
        with self._lock:
            self._last = self._clock()
            self.failures += 1
            begun = self.failures == 1
        if begun:
            _logger.warning("The response cache goes on without its store: %s failed, %s", event.operation, event.error)

    def _succeeded(self) -> None:
        with self._lock:
            failures = self.failures
            if not failures or self._clock() - self._last < QUIET_SECONDS:
                return
            self.failures = 0
        _logger.warning("The response cache's store works again; %d operations had failed", failures)
