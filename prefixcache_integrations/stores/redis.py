"""A store in Redis 6 or newer, or Valkey: no modules, no script and no ``SCAN`` on the way of a call; shared by hosts.

A read is one ``MGET`` of the namespace's log and the value (`redis_layout`); a write reads the log, then sets the
value; invalidating a tag appends one record to the log and clearing begins another, however many values there are.
A value that was asked for before that, by any process, is stamped with the log as it was: it does not live.
Dead values are never read, and leave when they expire. What that costs: every read carries the log, so one that
grows beyond `MAX_RECORDS` is removed, which empties the namespace; and nothing is kept longer than `LONGEST_TTL`.
A log that the server evicts or loses empties its namespace as well. Only a replica that is promoted before an
invalidation has reached it serves what was invalidated.

What is known of entries is found by ``SCAN``, on the one server that has the namespace.

The commands, for an ACL: ``+mget +set +unlink +append ~pfx:*``, for leases ``+eval +get +pttl``, for what is known of
entries ``+eval +scan``; in a cluster also ``+command +cluster``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from prefixcache_integrations.errors import StoreRefused, StoreUnavailable
from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow
from prefixcache_integrations.stores.faces import TwoFacedStore
from prefixcache_integrations.stores.redis_clients import AwaitingClient, BlockingClient, Command, Disconnect, Read
from prefixcache_integrations.stores.redis_layout import (
    RECORD,
    entry_key,
    facts,
    invalidation,
    is_log,
    live,
    log_key,
    new_log,
    pattern,
    stamp,
)
from prefixcache_integrations.stores.redis_lease import LeaseKeeper, RedisLease
from prefixcache_integrations.stores.redis_places import place
from prefixcache_integrations.stores.sightings import Sightings

DEFAULT_TIMEOUT = 0.05
LONGEST_TTL = 30 * 86_400
MAX_RECORDS = 256
MAX_VALUE_BYTES = 16 * 2**20
SCANNED, READ_AT_ONCE = 1000, 50
_SCAN = (
    "return redis.call('scan', ARGV[1], 'match', ARGV[2], 'count', ARGV[3])"  # a cluster sends scripts where the key is
)


class RedisStore(TwoFacedStore):
    """Keeps values on the server at ``url`` until they expire or the server's own bound pushes them out.

    ``url`` is redis-py's: ``redis://``, ``rediss://`` for TLS, ``unix://``, with user and password for ACLs; or names
    sentinels or a cluster (`redis_places`), where all keys of a namespace are in one slot.
    ``timeout`` is how many seconds one exchange may take; nothing is tried twice. Nothing is opened before the
    first use, and every process, thread and event loop has connections of its own. A value larger than
    ``max_value_bytes`` is not taken.
    """

    def __init__(self, url: str, *, timeout: float = DEFAULT_TIMEOUT, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        where = place(url)
        self._max_value_bytes = max_value_bytes
        self._clock = time.time
        self._logs: Sightings[bytes] = Sightings()
        super().__init__(BlockingClient(where, timeout), AwaitingClient(where, timeout))
        self._keeper = LeaseKeeper(lambda: BlockingClient(where, timeout))

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        log, stored = yield Read((log_key(key.namespace), entry_key(key)))  # bare: reading is on the way of every hit
        self._logs.note(key.namespace, log)
        return live(log, stored)

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        fits = len(value) <= self._max_value_bytes
        if not fits or (ttl is not None and ttl <= 0):
            yield from self._delete(key)
            return fits
        log = yield from self._log(key.namespace)
        seen = self._logs.at(key.namespace, began)
        stored = stamp(seen if is_log(seen) else log, value, tags, self._clock())
        if live(log, stored) is None:
            return False
        milliseconds = math.ceil(min(LONGEST_TTL if ttl is None else ttl, LONGEST_TTL) * 1000)
        yield from Command(("SET", entry_key(key), stored, "PX", milliseconds))
        return True

    def _delete(self, key: EntryKey) -> Flow[None]:
        yield from Command(("UNLINK", entry_key(key)))

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        size = yield from Command(("APPEND", log_key(namespace), invalidation(tag)))
        if size > MAX_RECORDS * RECORD:
            yield from self._clear(namespace)

    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]:
        log_name = log_key(namespace)
        entries: dict[bytes, EntryFacts] = {}
        cursor, first = b"0", True
        while first or int(cursor):
            first = False
            cursor, names = yield from Command(("EVAL", _SCAN, 1, log_name, cursor, pattern(namespace), SCANNED))
            for start in range(0, len(names), READ_AT_ONCE):
                some = names[start : start + READ_AT_ONCE]
                log, *values = yield from Read((log_name, *(name.decode() for name in some)))
                for name, stored in zip(some, values, strict=True):
                    if stored is not None and live(log, stored) is not None:
                        entries[name] = facts(namespace, name, stored, self._clock())
        return list(entries.values())

    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]:
        names = [name for name in handles if name.startswith(f"{log_key(namespace)}:".encode())]
        for start in range(0, len(names), SCANNED):
            yield from Command(("UNLINK", *names[start : start + SCANNED]))

    def _clear(self, namespace: str) -> Flow[None]:
        yield from Command(("UNLINK", log_key(namespace)))
        with suppress(StoreUnavailable):  # of a full server; what is asked for from now on is told from what was before
            yield from self._log(namespace)

    def _lease(self, key: EntryKey) -> Flow[Lease | None]:
        if not is_log(self._logs.last(key.namespace)):
            with suppress(StoreUnavailable):  # without a log, nothing tells of deletions from now on
                yield from self._log(key.namespace)
        lease = RedisLease(key, self._keeper)
        taken = yield from lease.take
        if not taken:
            with suppress(StoreRefused):  # by an ACL: no reason to go without leases
                taken = yield from lease.takeover
        if not taken:
            return None
        self._keeper.hold(lease)
        return lease

    def _close(self) -> Flow[None]:
        self._keeper.drop_all()
        yield from Disconnect()

    def _log(self, namespace: str) -> Flow[bytes]:
        """Return the log of ``namespace``, begun if there is none."""
        name = log_key(namespace)
        [log] = yield from Read((name,))
        if not is_log(log):
            yield from Command(("SET", name, new_log(), "NX"))
            [log] = yield from Read((name,))  # perhaps of another who began it at the same moment
        if not is_log(log):
            log = new_log()  # the key holds something else
            yield from Command(("SET", name, log))
        return log
