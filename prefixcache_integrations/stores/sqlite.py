"""A store in one SQLite file, shared by threads and processes of one host.

Write-ahead logging lets readers go on while one writes; ``synchronous=NORMAL`` may lose the last writes at a
power cut, never the file. A row table with a unique index is read several times faster here than a table
``WITHOUT ROWID``, whose rows would carry the values inside the index.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey
from prefixcache_integrations.stores import sqlite_layout as layout
from prefixcache_integrations.stores.file_lease import file_lease
from prefixcache_integrations.stores.sightings import Sightings
from prefixcache_integrations.stores.sqlite_connection import Connection, connect, file_id

DEFAULT_MAX_BYTES = 2**30
TOUCH_SECONDS = 3600
"""A use is written down once per so many seconds and value: hits do not become writes."""

DELETION_SECONDS = 3600
"""So long a deletion is remembered: no answer is waited for longer."""

_EXPIRY_PERIOD = 1.0
_ROW_OVERHEAD = 256  # bytes of a row beside its value, in table and indexes

_FAILURES = (sqlite3.Error, OSError, UnicodeEncodeError)


class SQLiteStore:
    """Keeps values in the file ``path`` until they expire or ``max_bytes`` of more lately used ones push them out.

    ``max_bytes`` bounds the pages in use, indexes included, looked at by each process whenever it has added a 64th of
    that; freed pages are used again, the file does not shrink. Values that have expired leave within a second of
    writing. ``clock`` returns seconds since the epoch, the same in every process that shares the file.
    Nothing is opened before the first use, so a broken disk never stops an application from starting.
    """

    def __init__(
        self, path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._name = str(self._path)
        self._max_bytes = max_bytes
        self._clock = clock
        self._local = threading.local()
        self._open: WeakSet[Connection] = WeakSet()
        self._slack = max_bytes // 64
        self._unlooked = self._slack  # a file may be too large from the start
        self._next_expiry = -math.inf
        self._deletions: Sightings[int] = Sightings()
        self.evicted = 0
        """How many values this object has pushed out so far; other processes have their own count."""

    def get(self, key: EntryKey) -> bytes | None:
        """Return the live value of ``key``."""
        now = self._clock()
        try:  # and no context manager: that would take half as long as the reading
            connection = self._connected()
            row = connection.execute(layout.GET, (now - TOUCH_SECONDS, key.namespace, key.digest, now)).fetchone()
            if row is None:
                self._deletions.note("", connection.execute(layout.LAST_DELETION).fetchone()[0] or 0)
        except _FAILURES as error:
            raise self._failed(error) from error
        if row is None:
            return None
        value, unnoticed = row
        if unnoticed:
            with suppress(sqlite3.Error):  # the value is there all the same
                connection.execute(layout.TOUCH, (int(now), key.namespace, key.digest))
        return bytes(value)

    def put(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep ``value``, pushing out expired and then the least recently used values until it fits."""
        return self._put(key, value, ttl, tags, None)

    def put_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """Do what `put` does, but take nothing that another process has deleted since ``began``."""
        return self._put(key, value, ttl, tags, self._deletions.at("", began))

    def _put(self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], deletion: int | None) -> bool:
        if len(value) > self._max_bytes:
            self.delete(key)
            return False
        self._leave_lost_file()
        try:  # as in `get`
            connection, now = self._connected(), self._clock()
            self._expire(connection, now)
            expires_at = None if ttl is None else now + ttl
            row = (key.namespace, key.digest, _written(tuple(tags)), value, int(now), int(now), expires_at)
            if deletion is None:
                connection.execute(layout.PUT, row)
            elif not connection.execute(layout.PUT_SINCE, (*row, deletion)).rowcount:
                return False
            self._unlooked += len(value) + _ROW_OVERHEAD
            if self._unlooked >= self._slack:
                self._unlooked = 0
                self._make_room(connection)
        except _FAILURES as error:
            raise self._failed(error) from error
        return True

    def delete(self, key: EntryKey) -> None:
        """Forget ``key``."""
        with self._connection() as connection:
            connection.execute(layout.DELETE, (key.namespace, key.digest))

    def invalidate(self, namespace: str, tag: str) -> None:
        """Forget every key of ``namespace`` put with ``tag``; looks at every row of the namespace."""
        self._delete_all(layout.INVALIDATE, namespace, tag)

    def facts(self, namespace: str) -> list[EntryFacts]:
        """Return what is known of every key of ``namespace``."""
        with self._connection() as connection:
            now = self._clock()
            rows = connection.execute(layout.FACTS, (namespace, now)).fetchall()
        return [
            EntryFacts(namespace=namespace, size=size, age=now - created, tags=tuple(json.loads(tags)), handle=digest)
            for digest, size, created, tags in rows
        ]

    def discard(self, namespace: str, handles: Sequence[str]) -> None:
        """Forget the digests ``handles`` of ``namespace``."""
        with self._transaction() as connection:
            connection.executemany(layout.DELETE, [(namespace, digest) for digest in handles])

    def clear(self, namespace: str) -> None:
        """Forget every key of ``namespace``."""
        self._delete_all(layout.CLEAR, namespace, None)

    def lease(self, key: EntryKey) -> Lease | None:
        """Return the lease on ``key`` among the processes of this host, ``None`` while another holds it."""
        try:
            return file_lease(self._path.with_name(f"{self._path.name}-leases"), key)
        except OSError as error:
            raise StoreUnavailable(f"SQLite file {self._path.name}: {error}") from error

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in list(self._open):
            connection.close()

    def _delete_all(self, statement: str, namespace: str, tag: str | None) -> None:
        """Delete, and leave word of it for those who wait for answers to what they asked before."""
        now = self._clock()
        with self._transaction() as connection:
            connection.execute(layout.FORGET_DELETIONS, (now - DELETION_SECONDS,))
            connection.execute(layout.NOTE_DELETION, (namespace, tag, now))
            connection.execute(statement, (namespace,) if tag is None else (namespace, tag))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connected()
        except _FAILURES as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreUnavailable:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            self._set_aside()
        return StoreUnavailable(f"SQLite file {self._path.name}: {error}")

    def _connected(self) -> sqlite3.Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.process != os.getpid():
            connection = self._local.connection = connect(self._path)
            self._open.add(connection)
        return connection.raw

    def _leave_lost_file(self) -> None:
        """Open anew if the file was deleted or replaced: what is written to the old one would be lost."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.file != file_id(self._name):
            self._local.connection = None

    def _set_aside(self) -> None:
        """Move a broken database out of the way, to ``….broken``: a cache can begin again.

        A file that is no database at all stays where it is: it may be somebody's, and the path a mistake.
        """
        connection: Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()
            if connection.file != file_id(self._path):
                return  # another thread or process was first
        with suppress(OSError):
            # The log goes first: SQLite would play it into the new file.
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._path.replace(f"{self._path}.broken")

    def _expire(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete what has expired, at most once a second: deleting nothing takes half as long as writing."""
        if now >= self._next_expiry:
            self._next_expiry = now + _EXPIRY_PERIOD
            connection.execute(layout.EXPIRE, (now,))

    def _make_room(self, connection: sqlite3.Connection) -> None:
        while (excess := _bytes_in_use(connection) + self._slack - self._max_bytes) > 0:
            last = None
            with closing(connection.execute(layout.OLDEST)) as rows:  # an open read would refuse the write below
                for row, size in rows:
                    last, excess = row, excess - size
                    if excess <= 0:
                        break
            if last is None:
                return  # only the newest is left
            self.evicted += connection.execute(layout.EVICT, (last,)).rowcount


@lru_cache(maxsize=256)
def _written(tags: tuple[str, ...]) -> str:
    return json.dumps(tags)


def _bytes_in_use(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
