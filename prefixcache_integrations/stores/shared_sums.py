"""Sums that many processes add to in Redis: what a `Ledger` is for one of them. Nothing waits for the server.

A window of a book is one hash of integers, gone some time after it has ended::

    pfxsums:{book}                  a sorted set of its windows, "start:seconds" by start
    pfxsums:{book}:start:seconds    what was added, see `insight.sums`
    pfxsums:{book}:batch:token      that a batch was added: one whose reply got lost is sent again and not added twice

The commands, for an ACL: ``+eval +set +hincrby +expireat +zadd +zremrangebyscore ~pfxsums:*``, and to read
``+zrange +hgetall``.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from weakref import WeakMethod

from msgspec import Struct

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.events import Event, Observer, StoreDegraded, tell
from prefixcache_integrations.insight.sums import Fields, SharedAccounts, Sums, accounts_of, merged
from prefixcache_integrations.stores.redis_clients import BlockingClient, Command, Disconnect
from prefixcache_integrations.stores.redis_places import place
from prefixcache_integrations.stores.urls import server_url

_BATCH_SECONDS = 86_400
_ADD = """
if not redis.call('set', KEYS[2], '', 'nx', 'ex', ARGV[1]) then return 0 end
redis.call('zremrangebyscore', KEYS[1], '-inf', ARGV[2])
local at = 3
for number = 3, #KEYS do
  local last = at + 3 + 2 * ARGV[at + 3]
  for index = at + 4, last, 2 do redis.call('hincrby', KEYS[number], ARGV[index], ARGV[index + 1]) end
  redis.call('expireat', KEYS[number], ARGV[at + 2])
  redis.call('zadd', KEYS[1], ARGV[at + 1], ARGV[at])
  redis.call('expireat', KEYS[1], ARGV[at + 2])
  at = last + 1
end
return 1
"""


class SharedWindow(Struct, frozen=True, kw_only=True):
    """What all processes added from ``start`` on, in seconds since the epoch, for ``seconds``."""

    start: int
    seconds: int
    sums: SharedAccounts


class SharedBook(Struct, frozen=True, kw_only=True):
    """The windows that are still kept, oldest first, and their sum."""

    sums: SharedAccounts
    windows: tuple[SharedWindow, ...]


class SharedSums:
    """Adds what it is told to sums in Redis: give it as an observer to whatever takes observers. Thread-safe.

    Tokens, money, calls, hits, errors and latencies are added up per window, model, app and namespace. What is told is
    sent by a thread of its own, one script per ``flush_seconds``; while the server is away it is kept, and it is added
    once, however often it was sent. What a process has not sent when it ends, it sends then, if that takes no longer
    than ``timeout``; one that is killed loses it, and so does a worker of `multiprocessing`, which ends without a word:
    it calls `close`.

    Args:
        url: The server, as for a store: ``redis://``, ``rediss://``, ``unix://``, sentinels or a cluster.
        book: Which sums these are; whoever names the same book adds to the same sums.
        window_seconds: The length of a window.
        keep_seconds: How long a window is kept after it has ended.
        flush_seconds: How often something is sent.
        max_names: How many names of each dimension this process adds in each window; all further ones are one.
        timeout: Seconds per exchange.
        observers: Told `StoreDegraded` when something could not be sent.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: The URL names no server, or redis is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        book: str = "",
        window_seconds: int = 3600,
        keep_seconds: int = 7 * 86_400,
        flush_seconds: float = 5.0,
        max_names: int = 100,
        timeout: float = 1.0,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = _connect(url, timeout)
        self._book = _book_key(book)
        self._seconds = window_seconds
        self._keep = keep_seconds
        self._pause = flush_seconds
        self._max_names = max_names
        self._observers = tuple(observers)
        self._clock = clock
        self._begin()

    def __call__(self, event: Event) -> None:
        """Add what ``event`` says."""
        self._refork()
        start = int(self._clock() // self._seconds) * self._seconds
        with self._lock:
            sums = self._pending.get(start)
            if sums is None:
                sums = Sums(self._max_names)
            if sums.add(event):
                self._pending[start] = sums
                self._send_soon()

    def flush(self) -> bool:
        """Send what is pending; return whether nothing is left."""
        self._refork()
        with self._sending:
            while self._batch or self._take():
                try:
                    self._client.perform(self._batch[0])
                except StoreUnavailable as error:
                    tell(self._observers, StoreDegraded(operation="add", error=str(error)))
                    return False
                self._batch.clear()
        return True

    def close(self) -> None:
        """Send what is pending, and stop. What cannot be sent is lost."""
        self._closed.set()
        self.flush()
        self._client.perform(Disconnect())

    def _refork(self) -> None:
        if self._process != os.getpid():
            self._begin()  # what was pending is the parent's to send, and so is its thread

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._pending: dict[int, Sums] = {}
        self._batch: list[Command] = []
        self._thread: threading.Thread | None = None

    def _send_soon(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name="prefixcache-sums", daemon=True)
            self._thread.start()
            atexit.register(_at_exit, WeakMethod(self.flush))

    def _send(self) -> None:
        while not self._closed.wait(self._pause):
            self.flush()

    def _take(self) -> bool:
        """Make a batch of what is pending; return whether there is any."""
        oldest = self._clock() - self._keep - self._seconds
        with self._lock:
            pending, self._pending = self._pending, {}
        windows = {start: sums.fields() for start, sums in pending.items() if start > oldest}
        if windows:
            self._batch.append(self._command(windows, int(oldest)))
        return bool(windows)

    def _command(self, windows: Mapping[int, Fields], oldest: int) -> Command:
        names = {start: f"{start}:{self._seconds}" for start in windows}
        keys = [self._book, f"{self._book}:batch:{token_hex(16)}", *(f"{self._book}:{each}" for each in names.values())]
        words: list[str | bytes | int] = [_BATCH_SECONDS, oldest]
        for start, fields in windows.items():
            words += [names[start], start, start + self._seconds + self._keep, len(fields)]
            words += [word for field in fields.items() for word in field]
        return Command(("EVAL", _ADD, len(keys), *keys, *words))


def read_sums(url: str, *, book: str = "", timeout: float = 5.0) -> SharedBook:
    """Return what all processes have added to ``book``.

    Raises `StoreUnavailable`, and `ConfigurationError` for a URL that names no server.
    """
    client, key = _connect(url, timeout), _book_key(book)
    try:
        names: list[bytes] = client.perform(Command(("ZRANGE", key, 0, -1)))  # type: ignore[assignment] # its reply
        found = [(name.decode(), _fields(client, f"{key}:{name.decode()}")) for name in names]
    finally:
        client.perform(Disconnect())
    windows, everything = [], merged(fields for _, fields in found)
    for name, fields in found:
        start, _, seconds = name.partition(":")
        if fields:
            windows.append(SharedWindow(start=int(start), seconds=int(seconds), sums=accounts_of(fields)))
    return SharedBook(sums=accounts_of(everything), windows=tuple(windows))


def _fields(client: BlockingClient, key: str) -> Fields:
    reply = client.perform(Command(("HGETALL", key)))
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)  # type: ignore[index] # a flat list
    return {bytes(field).decode(): int(number) for field, number in pairs}


def _connect(url: str, timeout: float) -> BlockingClient:
    return BlockingClient(place(server_url(url)), timeout)


def _book_key(book: str) -> str:
    return f"pfxsums:{{{book or 'default'}}}"


def _at_exit(flush: WeakMethod[Callable[[], bool]]) -> None:
    alive = flush()
    if alive is not None:
        alive()
