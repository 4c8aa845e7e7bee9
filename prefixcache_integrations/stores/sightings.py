"""What was seen of the deletions in a shared store, and when: others delete while this process waits for answers."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from prefixcache_integrations.flows.flights import moment

T = TypeVar("T")

MOST_NAMESPACES = 4096
MOST_SEEN = 64
"""Of one namespace so many states are remembered; between the first and the others the longest ago is forgotten."""


class Sightings(Generic[T]):
    """The states that reads have shown, by namespace. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[tuple[int, T], ...]] = {}  # read without the lock; in the order of first sight

    def note(self, namespace: str, state: T) -> None:
        """Remember that ``state`` was seen just now."""
        seen = self._seen.get(namespace, ())
        if seen and seen[-1][1] == state:
            return
        with self._lock:
            seen = (*self._seen.get(namespace, ()), (moment(), state))
            self._seen[namespace] = seen if len(seen) <= MOST_SEEN else (seen[0], *seen[2:])
            if len(self._seen) > MOST_NAMESPACES:
                del self._seen[next(iter(self._seen))]

    def at(self, namespace: str, began: int | None) -> T | None:
        """Return what was seen last before the moment ``began``, or longer ago; ``None`` if nobody looked."""
        if began is None:
            return None
        return next((state for number, state in reversed(self._seen.get(namespace, ())) if number <= began), None)
