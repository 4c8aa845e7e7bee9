"""Leases between all who share a Redis server: a key each, renewed while held, gone soon after its holder died.

The commands, for an ACL, beside those of the store: ``+eval +get +pttl``. Without them a lease is neither renewed nor
released, and runs out; and one that does not run out, which is none of ours, is not taken over.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.flights import LONGEST_FLIGHT
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores.redis_clients import BlockingClient, Command, Disconnect
from prefixcache_integrations.stores.redis_layout import entry_key

LEASE_SECONDS = 3.0
"""How long others wait for a holder who died."""

_BEATS = 3  # renewals per `LEASE_SECONDS`: one may fail
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('unlink', KEYS[1]) end return 0"
_RENEW = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end"
    " return 0"
)
_USURP = (
    "if redis.call('pttl', KEYS[1]) == -1 then redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end return 0"
)


class RedisLease:
    """One key that holds a token of its own: only who knows the token renews or removes it."""

    def __init__(self, key: EntryKey, keeper: LeaseKeeper) -> None:
        self.name = f"{entry_key(key)}:lease"
        self.token = token_hex(16)
        self._keeper = keeper

    @property
    def take(self) -> Command:
        """The command whose reply is true if the lease is ours."""
        return Command(("SET", self.name, self.token, "NX", "PX", _milliseconds(LEASE_SECONDS)))

    @property
    def takeover(self) -> Command:
        """The command whose reply is true if there was one that never ends, which nobody holds, and now it is ours."""
        return Command(("EVAL", _USURP, 1, self.name, self.token, _milliseconds(LEASE_SECONDS)))

    @property
    def renewal(self) -> Command:
        """The command that prolongs it."""
        return Command(("EVAL", _RENEW, 1, self.name, self.token, _milliseconds(LEASE_SECONDS)))

    @property
    def removal(self) -> Command:
        """The command that ends it."""
        return Command(("EVAL", _RELEASE, 1, self.name, self.token))

    def release(self) -> None:
        """Let others lead; the server hears of it soon."""
        self._keeper.drop(self)


class LeaseKeeper:
    """Renews and releases leases on a thread of its own, which lives while any is held.

    ``connect`` opens a client for that thread. A lease that nobody released is renewed for `LONGEST_FLIGHT`.
    """

    def __init__(self, connect: Callable[[], BlockingClient]) -> None:
        self._connect = connect
        self._thread: threading.Thread | None = None
        self._forget()

    def hold(self, lease: RedisLease) -> None:
        """Renew ``lease`` until it is dropped."""
        if self._process != os.getpid():
            self._forget()  # a fork: those leases are the parent's, and so is the thread
        with self._changed:
            self._held[lease] = time.monotonic() + LONGEST_FLIGHT
            if self._thread is None:
                self._beat = time.monotonic() + LEASE_SECONDS / _BEATS
                self._thread = threading.Thread(target=self._keep, name="prefixcache-leases", daemon=True)
                self._thread.start()

    def drop(self, lease: RedisLease) -> None:
        """Release ``lease``. Returns at once."""
        if self._process == os.getpid():
            with self._changed:
                if self._held.pop(lease, None) is not None:
                    self._dropped.append(lease)
                    self._changed.notify()

    def drop_all(self) -> None:
        """Release every lease."""
        for lease in list(self._held):
            self.drop(lease)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._held: dict[RedisLease, float] = {}
        self._dropped: list[RedisLease] = []
        self._beat = 0.0
        self._thread = None

    def _keep(self) -> None:
        client = self._connect()
        try:
            while commands := self._next_commands():
                for command in commands:
                    with suppress(StoreUnavailable):  # the next beat tries again, or the lease runs out
                        client.perform(command)
        finally:
            client.perform(Disconnect())

    def _next_commands(self) -> list[Command]:
        """Wait for something to do and return it; nothing, and the thread ends, if nothing is held any more."""
        with self._changed:
            while self._held and not self._dropped and (left := self._beat - time.monotonic()) > 0:
                self._changed.wait(left)
            commands, self._dropped = [lease.removal for lease in self._dropped], []
            if time.monotonic() >= self._beat:  # however often leases are released meanwhile
                commands += self._renewals()
            return commands or self._ended()

    def _renewals(self) -> list[Command]:
        now = time.monotonic()
        self._beat = now + LEASE_SECONDS / _BEATS
        self._held = {lease: until for lease, until in self._held.items() if until > now}
        return [lease.renewal for lease in self._held]

    def _ended(self) -> list[Command]:
        self._thread = None
        return []


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
