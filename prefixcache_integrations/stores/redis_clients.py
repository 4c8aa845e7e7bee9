"""Performs Redis commands through redis-py: on a connection per thread, or in batches on one per event loop.

redis-py 8 by itself tries eleven times, five seconds each, and lets no more than a hundred ask at once; here it
tries once, briefly, and nobody is turned away.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias
from weakref import WeakSet

from prefixcache_integrations.errors import ConfigurationError, StoreRefused, StoreUnavailable
from prefixcache_integrations.flows.op import Op

try:
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as missing:
    raise ConfigurationError("a Redis store needs redis: pip install 'prefixcache-integrations[redis]'") from missing

MAX_BATCH = 128
"""Commands that are sent together; with answers of 20 kB that is a few megabytes on their way at most."""

_SETTINGS: dict[str, Any] = {"protocol": 2, "max_connections": 2**31 - 1, "decode_responses": False}

_Waiting: TypeAlias = "tuple[Op[Any], asyncio.Future[Any]]"


class Read(Op[list[bytes | None]], frozen=True):
    """Read the string keys ``names``, all of one slot; ``None`` for what is not there or no string."""

    names: tuple[str, ...]


class Command(Op[Any], frozen=True):
    """Perform one command."""

    words: tuple[str | bytes | int, ...]


class Disconnect(Op[None], frozen=True):
    """Close the connections of the face that is asked."""


class BlockingClient:
    """Performs commands, each within ``timeout`` seconds for connecting, and for every read and write.

    A connection that the server has closed meanwhile is opened anew, once and at once; what takes too long is
    not tried again.
    """

    def __init__(self, url: str, timeout: float) -> None:
        settings: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        settings["retry"] = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        redis.ConnectionPool.from_url(url)  # refuses what is no URL of a server; connects to nothing
        self._connect = partial(redis.Redis.from_url, url, single_connection_client=True, **(_SETTINGS | settings))
        self._local = threading.local()
        self._clients: WeakSet[redis.Redis] = WeakSet()

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreUnavailable`."""
        if isinstance(op, Disconnect):
            self._close()
            return None
        try:
            return self._client().execute_command(*_words(op))
        except (redis.RedisError, OSError) as error:
            raise _translated(error) from error

    def _client(self) -> Any:  # noqa: ANN401 - redis-py leaves what a command returns untyped
        """Return this thread's client: taking connections from a pool would cost a fifth of a hit."""
        if getattr(self._local, "process", None) != os.getpid():
            self._local.client = self._connect()
            self._local.process = os.getpid()
            self._clients.add(self._local.client)
        return self._local.client

    def _close(self) -> None:
        for client in list(self._clients):
            client.close()


class AwaitingClient:
    """Performs commands, batched per event loop; each batch within ``timeout`` seconds, connecting included."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._lock = threading.Lock()

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreUnavailable`."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if not isinstance(op, Disconnect):
            return await (line or await self._open(loop)).perform(op)
        if line is not None:
            await line.aclose()
        return None

    async def _open(self, loop: asyncio.AbstractEventLoop) -> _Line:
        # Time is kept per batch: redis-py's own limits would only add a timer to every read.
        settings = {"socket_timeout": None, "socket_connect_timeout": None, "retry": AsyncRetry(NoBackoff(), 0)}
        client = redis.asyncio.Redis.from_url(self._url, **(_SETTINGS | settings))
        line = _Line(client, self._timeout, loop, forget=lambda: self._lines.pop(loop, None))
        with self._lock:
            for closed in [known for known in self._lines if known.is_closed()]:
                del self._lines[closed]
            self._lines[loop] = line
        await anext(line.lifetime)
        return line


class _Line:
    """One event loop's connection. What is asked while a batch is on its way goes with the next."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
        forget: Callable[[], object],
    ) -> None:
        self.lifetime = self._live(forget)
        self._client: Any = client
        self._timeout = timeout
        self._loop = loop
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    async def perform(self, op: Op[Any]) -> object:
        future = self._loop.create_future()
        self._waiting.append((op, future))
        if self._sender is None:
            self._sender = self._loop.create_task(self._send_all())
        return await future

    async def aclose(self) -> None:
        await self.lifetime.aclose()

    async def _live(self, forget: Callable[[], object]) -> AsyncGenerator[None, None]:
        """Last as long as the loop: a loop that shuts down closes the generators that began on it."""
        try:
            yield
        finally:
            forget()
            await self._client.aclose()

    async def _send_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._send(batch)
        except (redis.RedisError, OSError, EOFError) as error:
            self._fail(batch, error)
        except BaseException as error:
            self._fail(batch, error)
            raise
        finally:
            self._sender = None

    def _fail(self, batch: Sequence[_Waiting], error: BaseException) -> None:
        """Fail the batch and all that waited behind it: for them the time is up as well."""
        waiting, self._waiting = self._waiting, []
        for _, future in chain(batch, waiting):
            if not future.done():
                failure = _translated(error)
                failure.__cause__ = error
                future.set_exception(failure)

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        reads = _merged(batch)
        commands: list[Sequence[Any]] = [("MGET", *names) for names in reads.values()]
        commands += [op.words for op, _ in batch if isinstance(op, Command)]
        async with asyncio.timeout(None) as limit:
            # In two halves: after a pause of the loop itself, answers that have come in meanwhile are still read.
            half = self._loop.call_later(self._timeout / 2, _start_second_half, limit, self._loop, self._timeout / 2)
            try:
                replies = await self._exchange(commands)
            finally:
                half.cancel()
        _answer(batch, reads, replies)

    async def _exchange(self, commands: Sequence[Sequence[Any]]) -> Sequence[Any]:
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0])]
            except redis.ResponseError as error:
                return [error]
        pipeline = self._client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _start_second_half(limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    limit.reschedule(loop.time() + seconds)


def _merged(batch: Sequence[_Waiting]) -> dict[str, dict[str, int]]:
    """Return the names that ``batch`` reads, by slot (named by its first), each with its place in the answer."""
    slots: dict[str, dict[str, int]] = {}
    for op, _ in batch:
        if isinstance(op, Read):
            places = slots.setdefault(op.names[0], {})
            for name in op.names:
                places.setdefault(name, len(places))
    return slots


def _answer(batch: Sequence[_Waiting], reads: dict[str, dict[str, int]], replies: Sequence[Any]) -> None:
    """Give every waiter its part of ``replies``: first those to ``reads``, then those to commands in their order."""
    read = dict(zip(reads, replies[: len(reads)], strict=True))
    rest = iter(replies[len(reads) :])
    for op, future in batch:
        reply = read[op.names[0]] if isinstance(op, Read) else next(rest)
        if future.done():
            continue
        if isinstance(reply, Exception):
            failure = _translated(reply)
            failure.__cause__ = reply
            future.set_exception(failure)
        elif isinstance(op, Read):
            future.set_result([reply[reads[op.names[0]][name]] for name in op.names])
        else:
            future.set_result(reply)


def _words(op: Op[Any]) -> Sequence[str | bytes | int]:
    if isinstance(op, Read):
        return ("MGET", *op.names)
    if isinstance(op, Command):
        return op.words
    raise TypeError(f"no way to perform {type(op).__name__} on Redis")


def _translated(error: BaseException) -> StoreUnavailable:
    """Say what went wrong without the server's words, which may quote keys."""
    kind = StoreRefused if isinstance(error, redis.ResponseError) else StoreUnavailable
    return kind(f"Redis: {type(error).__name__}")
