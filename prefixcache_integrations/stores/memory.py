"""A store in this process's memory: least recently used out first, bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec import Struct

from prefixcache_integrations.flows.deletions import Deletions
from prefixcache_integrations.flows.flights import moment
from prefixcache_integrations.flows.op import EntryFacts, EntryKey
from prefixcache_integrations.stores.store import Kept

DEFAULT_MAX_BYTES = 256 * 2**20

ENTRY_OVERHEAD = 384
"""Bytes that keeping one value costs beside key and value: objects and table slots, measured, rounded up."""

TAG_OVERHEAD = 64
"""The same for each of its tags."""


class _Slot(Struct, frozen=True, gc=False):  # refers to nothing that could refer to it
    value: Kept
    expires_at: float | None
    written_at: float
    tags: tuple[str, ...]

    def cost(self, key: EntryKey) -> int:
        tags = sum(TAG_OVERHEAD + len(tag) for tag in self.tags)
        return ENTRY_OVERHEAD + len(key.namespace) + len(key.digest) + len(self.value) + tags


class MemoryStore:
    """Keeps values until they expire or ``max_bytes`` of newer or more often read ones push them out.

    ``max_bytes`` counts values, keys and `ENTRY_OVERHEAD` each. ``clock`` returns seconds.
    """

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: OrderedDict[EntryKey, _Slot] = OrderedDict()
        self._bytes = 0
        self._deletions = Deletions()
        self.evicted = 0
        """How many values were pushed out so far."""

    def get(self, key: EntryKey) -> bytes | None:
        """Return the live value of ``key`` and count it as used."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return None
            if slot.expires_at is not None and slot.expires_at <= self._clock():
                self._drop(key)
                return None
            self._slots.move_to_end(key)
            return slot.value

    def put(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep ``value``, pushing out the least recently used until it fits."""
        now = self._clock()
        slot = _Slot(Kept(value), None if ttl is None else now + ttl, now, tuple(tags))
        cost = slot.cost(key)
        with self._lock:
            self._drop(key)
            if cost > self._max_bytes:
                return False
            while self._bytes + cost > self._max_bytes:
                self._drop(next(iter(self._slots)))
                self.evicted += 1
            self._slots[key] = slot
            self._bytes += cost
            return True

    def put_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """Do what `put` does, but take nothing that was deleted since ``began``, through whatever cache."""
        if self._outdated(began, key, tags) or not self.put(key, value, ttl, tags):
            return False
        if self._outdated(began, key, tags):  # while it was put
            self.delete(key)
            return False
        return True

    def delete(self, key: EntryKey) -> None:
        """Forget ``key``."""
        with self._lock:
            self._drop(key)

    def invalidate(self, namespace: str, tag: str) -> None:
        """Forget every key of ``namespace`` put with ``tag``; looks at every slot."""
        self._forget(lambda key, slot: key.namespace == namespace and tag in slot.tags, namespace, tag)

    def facts(self, namespace: str) -> list[EntryFacts]:
        """Return what is known of every key of ``namespace``; looks at every slot."""
        with self._lock:
            now = self._clock()
            return [
                EntryFacts(
                    namespace=namespace, size=len(slot.value), age=now - slot.written_at, tags=slot.tags, handle=key
                )
                for key, slot in self._slots.items()
                if key.namespace == namespace and (slot.expires_at is None or slot.expires_at > now)
            ]

    def discard(self, namespace: str, handles: Sequence[EntryKey]) -> None:
        """Forget the keys ``handles`` of ``namespace``."""
        with self._lock:
            for key in handles:
                if key.namespace == namespace:
                    self._drop(key)

    def clear(self, namespace: str) -> None:
        """Forget every key of ``namespace``; looks at every slot."""
        self._forget(lambda key, _: key.namespace == namespace, namespace, None)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._slots.clear()
            self._bytes = 0

    def _outdated(self, began: int, key: EntryKey, tags: Sequence[str]) -> bool:
        with self._lock:
            return self._deletions.since(began, key.namespace, tags)

    def _forget(self, doomed: Callable[[EntryKey, _Slot], bool], namespace: str, tag: str | None) -> None:
        with self._lock:
            self._deletions.note(moment(), namespace, tag)
            for key in [key for key, slot in self._slots.items() if doomed(key, slot)]:
                self._drop(key)

    def _drop(self, key: EntryKey) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= slot.cost(key)
