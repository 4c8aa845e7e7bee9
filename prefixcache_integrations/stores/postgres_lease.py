"""Leases between all who share a database: advisory locks of one session, which the server frees when it ends.

A process has one connection for all its leases: a lock is the session's own, so who else of the same process asks
for a key is turned away here. If that connection is lost, so are its leases, and others may make the same call.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from hashlib import blake2b
from typing import cast

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import postgres_layout as layout
from prefixcache_integrations.stores.postgres_clients import BlockingClient, Disconnect, Execute, Server
from prefixcache_integrations.stores.postgres_wire import Answer, Request


class PostgresLease:
    """One lock of the session."""

    def __init__(self, number: int, keeper: LeaseKeeper) -> None:
        self.number = number
        self._keeper: LeaseKeeper | None = keeper
        self._process = os.getpid()

    def release(self) -> None:
        """Let others lead."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and self._process == os.getpid():  # a forked child holds a copy, not the lease
            keeper.drop(self.number)

    __del__ = release


class LeaseKeeper:
    """Holds the session. Safe to share between threads, and with who waits for none of them."""

    def __init__(self, server: Server) -> None:
        self._client = BlockingClient(server, connections=1)
        self._begin()

    def take(self, key: EntryKey) -> PostgresLease | None:
        """Return the lease on ``key``, ``None`` while another holds it. Raises `StoreUnavailable`."""
        if self._process != os.getpid():
            self._begin()  # a fork: those leases are the parent's, and so is the session
        number = _number(key)
        try:
            with self._lock:
                return PostgresLease(number, self) if self._taken(number) else None
        finally:
            self._drain()

    def drop(self, number: int) -> None:
        """Release a lock, now or, where another thread talks to the server, as soon as that is done."""
        self._dropped.append(number)
        self._drain()

    def close(self) -> None:
        """End the session, and so every lease."""
        self._client.perform(Disconnect())

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._dropped: deque[int] = deque()

    def _taken(self, number: int) -> bool:
        if number in self._held or not self._ask(layout.LOCK, number):
            return False
        self._held.add(number)
        return True

    def _drain(self) -> None:
        """Unlock what was dropped; also what others could not while this thread had the session."""
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                self._unlock_dropped()
            finally:
                self._lock.release()

    def _unlock_dropped(self) -> None:
        while self._dropped:
            number = self._dropped.popleft()
            self._held.discard(number)
            try:
                self._ask(layout.UNLOCK, number)
            except StoreUnavailable:
                self.close()  # a lock that may still be there goes with its session

    def _ask(self, statement: str, number: int) -> bool:
        answer = cast("Answer", self._client.perform(Execute(Request(statement, (str(number),)))))
        return answer.rows[0][0] == b"\x01"


def _number(key: EntryKey) -> int:
    namespace, digest = key.namespace.encode("utf-8", "surrogatepass"), key.digest.encode("utf-8", "surrogatepass")
    hashed = blake2b(b"%d %b%b" % (len(namespace), namespace, digest), digest_size=8).digest()
    return int.from_bytes(hashed, signed=True)
