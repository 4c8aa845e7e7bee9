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
    """The states that reads have shown, by namespace; ``None`` where there was none. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[tuple[int, T | None], ...]] = {}  # read without the lock; first seen, first here

    def note(self, namespace: str, state: T | None) -> None:
        """Remember that ``state`` was seen just now."""
        seen = self._seen.get(namespace, ())
        if seen and seen[-1][1] == state:
            return
        with self._lock:
            seen = (*self._seen.get(namespace, ()), (moment(), state))
            self._seen[namespace] = seen if len(seen) <= MOST_SEEN else (seen[0], *seen[2:])
            if len(self._seen) > MOST_NAMESPACES:
                del self._seen[next(iter(self._seen))]

    def last(self, namespace: str) -> T | None:
        """Return what was noted last."""
        seen = self._seen.get(namespace)
        return seen[-1][1] if seen else None

    def at(self, namespace: str, began: int | None) -> T | None:
        """Return the state that was seen last before the moment ``began``, or longer ago; ``None`` if nobody saw one.

        Where there was none for a while, because somebody deleted, the one before tells as much.
        """
        if began is None:
            return None
        known = reversed(self._seen.get(namespace, ()))
        return next((state for number, state in known if number <= began and state is not None), None)
