"""Memories of what was sent that outlive their process, and that several processes share."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import TypeAlias
from weakref import WeakMethod, WeakSet

from prefixcache_integrations.errors import ConfigurationError, CorruptEntry, StoreError
from prefixcache_integrations.events import Observer, StoreDegraded, tell
from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.reporting import Reporter
from prefixcache_integrations.prompt.reports import packed, unpacked
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting
from prefixcache_integrations.stores.opening import open_store
from prefixcache_integrations.stores.report_log import Batch, ReportLog, StoreLog
from prefixcache_integrations.stores.urls import scheme

PENDING = 4000
"""How many requests wait to be told, at most, while the log is away; the oldest go first."""

ORIGINS = 4096
"""Of how many processes it is known what they told, at most."""

TOGETHER = 200
"""How many are told in one batch."""

LONGEST_PAUSE = 60.0
"""How many seconds a log that fails is left alone, at most."""

MAX_BYTES = 8 * 2**20
"""How much a log holds, unless it is told otherwise."""


class KeptMemory(PromptMemory):
    """A memory that tells a log of every request, and learns what other processes tell, and did before it started.

    Nothing waits for the log but the opening, for ``wait`` seconds at most: a thread of its own exchanges reports, and
    what the log cannot take is kept for later, up to `PENDING` requests. What a process has not told when it ends, it
    tells then; one that is killed loses it, and so does a worker of `multiprocessing`, which ends without a word: it
    calls `close`. After a fork both go on, each for itself. Thread-safe; ``now`` are seconds since the epoch.

    Observers are told `StoreDegraded` when the log fails, once until it works again, and for reports that cannot be
    read, which count for nothing.
    """

    def __init__(
        self,
        log: ReportLog,
        *,
        limit: int = 200_000,
        horizon: float = 86_400.0,
        wait: float = 1.0,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(limit=limit, horizon=horizon)
        self._log = log
        self._observers = tuple(observers)
        self._clock = clock
        self._tried = threading.Event()
        self._sending = threading.Lock()
        self._begin()
        with _registry:
            _alive.add(self)
        atexit.register(_at_exit, WeakMethod(self._end))
        self._start()
        self._tried.wait(wait)

    def observe(self, sighting: Sighting, now: float, namespace: str = "", answer: Answer | None = None) -> None:
        """Remember a request of the tenant ``namespace`` that was sent at ``now``, and tell others of it."""
        super().observe(sighting, now, namespace, answer)
        if not self._closed.is_set():
            self._pending.append((sighting, now, namespace))
            if self._thread is None:
                self._start()

    def flush(self) -> bool:
        """Exchange reports now; return whether everything was told."""
        with self._sending:
            self._write()
            try:
                news = self._log.exchange(self._origin, self._batches)
            except StoreError as error:
                self._failed(error)
                return False
            self._batches.clear()
            self._fails = 0
            wrong = [error for error in map(self._learn, news) if error is not None]
        if wrong:
            tell(self._observers, StoreDegraded(operation="get", error=f"{len(wrong)} batches: {wrong[-1]}"))
        return True

    def close(self) -> None:
        """Tell what was not told yet, and stop; from then on it is a memory of this process alone."""
        self._closed.set()
        self.flush()
        self._log.close()
        _forget(self)

    def _end(self) -> None:
        if not self._closed.is_set():
            self.flush()

    def _begin(self) -> None:
        """Begin anew, as a process of its own: what was to be told is the parent's to tell."""
        self._origin = token_hex(8)
        self._numbers = 0
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._fails = 0
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._pending: deque[tuple[Sighting, float, str]] = deque(maxlen=PENDING)
        self._batches: list[Batch] = []
        self._reporter = Reporter()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._exchange, name="prefixcache-memory", daemon=True)
        self._thread.start()

    def _exchange(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            self.flush()
            self._tried.set()
            pause = min(self._log.pause * 2**self._fails, max(LONGEST_PAUSE, self._log.pause))

    def _write(self) -> None:
        """Make batches of what is pending."""
        while self._pending:
            rows = [self._pending.popleft() for _ in range(min(TOGETHER, len(self._pending)))]
            data = packed([self._reporter.report(*row) for row in rows])
            self._batches.append(Batch(self._origin, self._numbers, rows[-1][1], data))
            self._numbers += 1
        del self._batches[: -(PENDING // TOGETHER)]

    def _learn(self, batch: Batch) -> CorruptEntry | None:
        """Learn what is told in ``batch``; return what is wrong with it."""
        if batch.number <= self._latest.get(batch.origin, -1):
            return None  # sent once more, as its reply got lost
        self._latest[batch.origin] = batch.number
        self._latest.move_to_end(batch.origin)
        if len(self._latest) > ORIGINS:
            self._latest.popitem(last=False)
        try:
            reports = unpacked(batch.data)
        except CorruptEntry as error:
            return error
        for report in reports:
            with self.turn:
                self.learn(report, self._clock())
        return None

    def _failed(self, error: StoreError) -> None:
        self._fails = min(self._fails + 1, 16)
        if self._fails == 1 or isinstance(error, CorruptEntry):
            tell(self._observers, StoreDegraded(operation="add", error=str(error)))


def open_memory(
    url: str,
    *,
    app: str = "",
    max_bytes: int = MAX_BYTES,
    horizon: float = 86_400.0,
    limit: int = 200_000,
    timeout: float = 1.0,
    observers: Sequence[Observer] = (),
) -> KeptMemory:
    """Open the memory of an application that is kept at ``url``, a URL for `open_store`.

    On a Redis server, what one process sends the others know some seconds later; in any other store half a minute
    later, for which it is read and written as a whole. What is kept are digests and checksums, of words too: keep it as
    private as answers.

    Args:
        url: Where it is kept.
        app: Whose memory it is; whoever names the same application at the same place shares it.
        max_bytes: How much is kept: the latest reports that fit.
        horizon: For how many seconds something is remembered.
        limit: How many prefixes are remembered in this process, at most.
        timeout: For how many seconds the opening waits for what was kept, and, on Redis, any exchange for its reply.
        observers: Told when it cannot be kept or read, which hinders nothing else.

    Raises:
        ConfigurationError: The URL means nothing, or an extra is missing.
    """
    log: ReportLog
    if scheme(url).partition("+")[0] in _REDIS:
        from prefixcache_integrations.stores.redis_reports import RedisLog

        log = RedisLog(url, app=app, max_bytes=max_bytes, horizon=horizon, timeout=timeout)
    else:
        log = StoreLog(open_store(url, observers=observers), app=app, max_bytes=max_bytes, horizon=horizon)
    return KeptMemory(log, limit=limit, horizon=horizon, wait=timeout, observers=observers)


MemoryChoice: TypeAlias = PromptMemory | str | None
"""Which memory a layout plans by: ``"own"`` is one of its own in this process, a URL the one that is kept there (see
`open_memory`), which all layouts with this URL share, and ``None`` none at all, so that every request stands alone."""


def chosen_memory(memory: MemoryChoice, observers: Sequence[Observer] = ()) -> PromptMemory | None:
    """Return the memory that was chosen; the ``observers`` of the first to name a URL are told what becomes of it.

    Raises `ConfigurationError` for a URL that means nothing, and for what is no memory.
    """
    if memory is None or isinstance(memory, PromptMemory):
        return memory
    if not isinstance(memory, str):
        raise ConfigurationError(f"a memory is 'own', a URL, a PromptMemory or None, not {memory!r}")
    if memory == "own":
        return PromptMemory()
    with _registry:
        return _by_url.get(memory) or _by_url.setdefault(memory, open_memory(memory, observers=observers))


_REDIS = ("redis", "rediss", "unix")
_registry = threading.RLock()
_by_url: dict[str, KeptMemory] = {}
_alive: WeakSet[KeptMemory] = WeakSet()


def _forget(memory: KeptMemory) -> None:
    with _registry:
        for url in [url for url, each in _by_url.items() if each is memory]:
            del _by_url[url]


def _at_exit(end: WeakMethod[Callable[[], None]]) -> None:
    alive = end()
    if alive is not None:
        alive()


def _before_fork() -> None:
    """Let no thread be in the middle of a change: a child has only the one that forks."""
    _registry.acquire()
    _held.extend(_alive)
    for memory in _held:
        memory.turn.acquire()


def _after_fork() -> None:
    while _held:
        _held.pop().turn.release()
    _registry.release()


def _after_fork_in_child() -> None:
    for memory in _held:
        memory._begin()  # noqa: SLF001 - our own class
    _after_fork()


_held: list[KeptMemory] = []
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
