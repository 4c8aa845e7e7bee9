"""The latest reports of all processes of an application, kept in any store as one value.

Whoever exchanges reads the value, adds what it has sent itself and is not in it, drops the oldest beyond the bound and
writes it back. Two that do so at once lose nothing for good: each adds its own again the next time. Beside the value
stands who wrote it last, so that one that has nothing to add reads it only when there is something new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_bytes
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct

from prefixcache_integrations.errors import CorruptEntry, StoreRefused
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores.store import Store

NAMESPACE = "prefixcache prompt memory"
"""Where a store of answers keeps what was sent."""

_HEAD = 64
"""What a batch takes beside its data, about."""


class Batch(Struct, frozen=True, array_like=True):
    """Reports as bytes, the ``number``-th batch of the process ``origin``; ``at`` is when the last of them was sent."""

    origin: str
    number: int
    at: float
    data: bytes


Batches: TypeAlias = dict[tuple[str, int], Batch]
"""Batches by origin and number, oldest first."""


class ReportLog(Protocol):
    """Where processes of an application tell each other of requests.

    ``pause`` is how many seconds should lie between two exchanges. Every method raises `StoreUnavailable`.
    """

    pause: float

    def exchange(self, origin: str, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Add the ``batches`` of ``origin``, and return what others have added since the last time, oldest first.

        The first time it is all there is. Adding one again that was added already changes nothing for those who read.
        Raises `CorruptEntry` for a log that cannot be read, which begins anew.
        """
        ...

    def close(self) -> None:
        """Release what is held open."""
        ...


class StoreLog:
    """A log in ``store``, for the application ``app``; at most ``max_bytes``, each kept for ``horizon`` seconds."""

    def __init__(self, store: Store, *, app: str, max_bytes: int, horizon: float, pause: float = 30.0) -> None:
        self.pause = pause
        self._store = store
        self._key, self._writer = EntryKey(NAMESPACE, app), EntryKey(NAMESPACE, f"{app}:writer")
        self._written: bytes | None = None
        self._max_bytes = max_bytes
        self._horizon = horizon
        self._known: Batches = {}

    def exchange(self, origin: str, batches: Sequence[Batch]) -> Sequence[Batch]:
        """See `ReportLog.exchange`."""
        written = self._store.get(self._writer)
        if not batches and written is not None and written == self._written:
            return []
        known = self._known | {(each.origin, each.number): each for each in batches}
        try:
            there = self._read()
        except CorruptEntry:
            self._store.delete(self._key)
            raise
        mine = {name: batch for name, batch in known.items() if name[0] == origin}
        kept = _latest((there | mine).values(), self._max_bytes)
        if kept.keys() != there.keys():
            kept, written = self._write(kept), token_bytes(16)
            self._store.put(self._writer, written, self._horizon)
        self._written = written
        news = [batch for name, batch in kept.items() if name not in known]
        self._known = kept
        return news

    def close(self) -> None:
        """See `ReportLog.close`."""
        self._store.close()

    def _write(self, kept: Batches) -> Batches:
        """Write ``kept``, or as many of the latest as the store takes; return these."""
        while not self._store.put(self._key, msgspec.msgpack.encode(list(kept.values())), self._horizon):
            self._max_bytes //= 2
            if not self._max_bytes:
                raise StoreRefused("the store is too small for a log of reports")
            kept = _latest(kept.values(), self._max_bytes)
        return kept

    def _read(self) -> Batches:
        value = self._store.get(self._key)
        if value is None:
            return {}
        try:
            batches = msgspec.msgpack.decode(value, type=list[Batch])
        except msgspec.MsgspecError as error:
            raise CorruptEntry(f"no log of reports: {type(error).__name__}") from error
        return {(each.origin, each.number): each for each in batches}


def _latest(batches: Iterable[Batch], max_bytes: int) -> Batches:
    """Return the latest of ``batches`` that fit, oldest first."""
    kept, size = list[Batch](), 0
    for batch in sorted(batches, key=lambda each: (each.at, each.origin, each.number), reverse=True):
        size += len(batch.data) + _HEAD
        if size > max_bytes:
            break
        kept.append(batch)
    return {(each.origin, each.number): each for each in reversed(kept)}
