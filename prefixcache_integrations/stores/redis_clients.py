"""Performs Redis commands through redis-py: on a connection per thread, or in batches on one per event loop.

redis-py 8 by itself tries eleven times, five seconds each, and lets no more than a hundred ask at once; here it
tries once, briefly, and nobody is turned away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from prefixcache_integrations.errors import StoreRefused, StoreUnavailable
from prefixcache_integrations.flows.op import Op
from prefixcache_integrations.stores.lines import Line, Lines, Waiting
from prefixcache_integrations.stores.redis_places import FAILURES, Place, ResponseError


class Read(Op[list[bytes | None]], frozen=True):
    """Read the string keys ``names``, all of one slot; ``None`` for what is not there or no string."""

    names: tuple[str, ...]


class Command(Op[Any], frozen=True):
    """Perform one command."""

    words: tuple[str | bytes | int, ...]


class Disconnect(Op[None], frozen=True):
    """Close the connections of the face that is asked."""


class BlockingClient:
    """Performs commands, each within ``timeout`` seconds for connecting, and for every read and write."""

    def __init__(self, place: Place, timeout: float) -> None:
        self._connect = partial(place.blocking, timeout)
        self._local = threading.local() if place.per_thread else _Process()
        self._clients: WeakSet[Any] = WeakSet()

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreUnavailable`."""
        if isinstance(op, Disconnect):
            self._close()
            return None
        try:
            return self._client().execute_command(*_words(op))
        except FAILURES as error:
            raise _translated(error) from error

    def _client(self) -> Any:  # noqa: ANN401 - redis-py leaves what a command returns untyped
        """Return this thread's client, where it has one: taking connections from a pool costs a fifth of a hit."""
        if getattr(self._local, "process", None) != os.getpid():
            clients = self._connect()
            self._local.client = clients[0]
            self._local.process = os.getpid()
            self._clients.update(clients)
        return self._local.client

    def _close(self) -> None:
        for client in list(self._clients):
            client.close()


class _Process:
    """What all threads share, where they do."""

    process: int | None = None
    client: Any = None


class AwaitingClient:
    """Performs commands, batched per event loop; each batch within ``timeout`` seconds, connecting included."""

    def __init__(self, place: Place, timeout: float) -> None:
        self._lines = Lines(partial(_RedisLine, place, timeout))

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        """Perform ``op``. Raises `StoreUnavailable`."""
        return self._lines.close() if isinstance(op, Disconnect) else self._lines.perform(op)


class _RedisLine(Line):
    """One event loop's connection."""

    failures = (*Line.failures, *FAILURES)

    def __init__(self, place: Place, timeout: float) -> None:
        super().__init__(timeout)
        self._clients = place.awaiting()
        self._client = self._clients[0]

    async def send(self, batch: Sequence[Waiting]) -> None:
        reads = _merged(batch)
        commands: list[Sequence[Any]] = [("MGET", *names) for names in reads.values()]
        commands += [op.words for op, _ in batch if isinstance(op, Command)]
        async with self.in_time():
            replies = await self._exchange(commands)
        self._answer(batch, reads, replies)

    async def disconnect(self) -> None:
        for client in self._clients:
            await client.aclose()

    def translated(self, error: BaseException) -> StoreUnavailable:
        return _translated(error)

    async def _exchange(self, commands: Sequence[Sequence[Any]]) -> Sequence[Any]:
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0])]
            except ResponseError as error:
                return [error]
        pipeline = self._client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    def _answer(self, batch: Sequence[Waiting], reads: dict[str, dict[str, int]], replies: Sequence[Any]) -> None:
        """Give every waiter its part of ``replies``: first those to ``reads``, then those to commands in order."""
        read = dict(zip(reads, replies[: len(reads)], strict=True))
        rest = iter(replies[len(reads) :])
        for op, future in batch:
            reply = read[op.names[0]] if isinstance(op, Read) else next(rest)
            if isinstance(reply, Exception):
                self.fail(future, reply)
            elif future.done():
                continue
            elif isinstance(op, Read):
                future.set_result([reply[reads[op.names[0]][name]] for name in op.names])
            else:
                future.set_result(reply)


def _merged(batch: Sequence[Waiting]) -> dict[str, dict[str, int]]:
    """Return the names that ``batch`` reads, by slot (named by its first), each with its place in the answer."""
    slots: dict[str, dict[str, int]] = {}
    for op, _ in batch:
        if isinstance(op, Read):
            places = slots.setdefault(op.names[0], {})
            for name in op.names:
                places.setdefault(name, len(places))
    return slots


def _words(op: Op[Any]) -> Sequence[str | bytes | int]:
    if isinstance(op, Read):
        return ("MGET", *op.names)
    if isinstance(op, Command):
        return op.words
    raise TypeError(f"no way to perform {type(op).__name__} on Redis")


def _translated(error: BaseException) -> StoreUnavailable:
    """Say what went wrong without the server's words, which may quote keys."""
    kind = StoreRefused if isinstance(error, ResponseError) else StoreUnavailable
    return kind(f"Redis: {type(error).__name__}")
