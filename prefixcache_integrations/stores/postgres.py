"""A store in PostgreSQL: one table, a row per value under hashes of its namespace and digest; shared by hosts.

Needs PostgreSQL 12 or newer and the right to create a table in the connection's schema; where somebody else has
executed `postgres_layout.CREATE`, ``SELECT, INSERT, UPDATE, DELETE`` on its tables. Each statement is a transaction,
committed asynchronously: a crash of the server may lose the last moments. Statements are prepared on connections that
stay open, which a pooler in between must allow for (PgBouncer: in session mode).

Time is the server's. What was used least recently leaves first; a use is written down once per hour and value, so that
hits do not become writes. A value's metadata (``namespace``, ``tags``) lies beside it as JSON, for SQL.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow
from prefixcache_integrations.stores import postgres_layout as layout
from prefixcache_integrations.stores.faces import TwoFacedStore
from prefixcache_integrations.stores.postgres_clients import (
    AwaitingClient,
    BlockingClient,
    Disconnect,
    Execute,
    OnThread,
    Server,
)
from prefixcache_integrations.stores.postgres_lease import LeaseKeeper
from prefixcache_integrations.stores.postgres_wire import Request, conninfo
from prefixcache_integrations.stores.sightings import Sightings

DEFAULT_MAX_BYTES = 2**30
DEFAULT_TIMEOUT = 0.1
DEFAULT_CONNECTIONS = 4
LONGEST_TTL = 100 * 365 * 86_400
LONG_SECONDS = 30.0
"""How long may take what looks at a whole namespace, and was asked for by somebody who waits for it."""
SWEEP_SECONDS = 5.0
"""How long may take what looks at the whole table, beside a call that goes on without it."""
ROW_BYTES = 256
"""What a row takes beside its value: metadata, hashes, headers and its place in three indexes, measured."""

_SWEEPS = 16  # a sweep per this part of the bound, which is what several writers may exceed it by, each


class PostgresStore(TwoFacedStore):
    """Keeps values in the database at ``url`` until they expire or ``max_bytes`` of newer ones push them out.

    ``url`` is libpq's: ``postgresql://user:password@host:5432/database?sslmode=verify-full``. ``timeout`` is how many
    seconds one exchange may take, and a fifth of connecting; nothing that took too long is tried again. All threads
    together have at most ``connections``, every event loop one, and leases one. Nothing is opened before its first use.
    Several processes may exceed ``max_bytes`` by a sixteenth each until one of them sweeps.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connections: int = DEFAULT_CONNECTIONS,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        server = Server(conninfo(url), tuple(layout.STATEMENTS.items()), layout.CREATE, timeout)
        blocking = BlockingClient(server, connections)
        super().__init__(blocking, AwaitingClient(server, blocking))
        self._keeper = LeaseKeeper(server)
        self._max_bytes = max_bytes
        self._deletions: Sightings[str] = Sightings()
        self._unswept = _Unswept(max_bytes // _SWEEPS)
        self.evicted = 0
        """How many values this object has pushed out so far; other processes have their own count."""

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        answer = yield from Execute(Request(layout.GET, _names(key)))
        if not answer.rows:
            [[last]] = (yield from Execute(Request(layout.LAST_DELETION))).rows
            self._deletions.note("", (last or b"0").decode())
            return None
        [(value, unnoticed)] = answer.rows
        if unnoticed == b"\x01":
            with suppress(StoreUnavailable):  # the value is there all the same
                yield from Execute(Request(layout.TOUCH, _names(key)))
        return value

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        size = len(value) + ROW_BYTES
        if size > self._max_bytes:
            yield from self._delete(key)
            return False
        metadata = json.dumps({"namespace": key.namespace, "tags": list(tags)})
        seconds = None if ttl is None else str(min(ttl, LONGEST_TTL))
        row = (*_names(key), metadata, value, seconds)
        deletion = self._deletions.at("", began)
        if deletion is None:
            yield from Execute(Request(layout.PUT, row))
        elif not (yield from self._put_since(row, deletion)):
            return False
        if self._unswept.add(size):
            yield from self._sweep()
        return True

    def _put_since(self, row: tuple[Any, ...], deletion: str) -> Flow[bool]:
        put = yield from Execute(Request(layout.PUT_SINCE, (*row, deletion)))
        if not put.touched:
            return False
        taken_back = yield from Execute(Request(layout.TAKE_BACK, (*row[:3], deletion)))
        return not taken_back.touched

    def _delete(self, key: EntryKey) -> Flow[None]:
        yield from Execute(Request(layout.DELETE, _names(key)))

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        yield from Execute(Request(layout.NOTE_DELETION, (_hash(namespace, 16), tag)))
        yield from Execute(Request(layout.INVALIDATE, (_hash(namespace, 16), tag)), LONG_SECONDS)

    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]:
        answer = yield from Execute(Request(layout.FACTS, (_hash(namespace, 16),)), LONG_SECONDS)
        return [_entry_facts(namespace, *(value or b"" for value in row)) for row in answer.rows]

    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]:
        listed = ",".join(f'"\\\\x{digest.hex()}"' for digest in handles)
        yield from Execute(Request(layout.DISCARD, (_hash(namespace, 16), f"{{{listed}}}")), LONG_SECONDS)

    def _clear(self, namespace: str) -> Flow[None]:
        yield from Execute(Request(layout.NOTE_DELETION, (_hash(namespace, 16), None)))
        yield from Execute(Request(layout.CLEAR, (_hash(namespace, 16),)), LONG_SECONDS)

    def _lease(self, key: EntryKey) -> Flow[Lease | None]:
        return (yield from OnThread(partial(self._keeper.take, key)))

    def _close(self) -> Flow[None]:
        yield from OnThread(self._keeper.close)
        yield from Disconnect()

    def _sweep(self) -> Flow[None]:
        """Make room, for all that may be written until the next time as well."""
        bound = self._max_bytes - self._max_bytes // _SWEEPS
        with suppress(StoreUnavailable):  # the next sweep does it
            yield from Execute(Request(layout.EXPIRE), SWEEP_SECONDS)
            answer = yield from Execute(Request(layout.EVICT, (str(bound), str(ROW_BYTES))), SWEEP_SECONDS)
            self.evicted += answer.touched


class _Unswept:
    """Counts what was written since the last sweep. Safe to share between threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._bytes = limit  # what others have left is unknown

    def add(self, size: int) -> bool:
        """Count ``size`` more; return whether it is time to sweep."""
        with self._lock:
            self._bytes += size
            due = self._bytes > self._limit
            if due:
                self._bytes = 0
            return due


def _entry_facts(namespace: str, digest: bytes, size: bytes, age: bytes, tags: bytes) -> EntryFacts:
    return EntryFacts(namespace=namespace, size=int(size), age=float(age), tags=tuple(json.loads(tags)), handle=digest)


def _names(key: EntryKey) -> tuple[bytes, bytes]:
    return _hash(key.namespace, 16), _hash(key.digest, 32)


def _hash(name: str, size: int) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size).digest()
