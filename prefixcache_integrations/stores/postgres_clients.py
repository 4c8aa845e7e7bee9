"""Performs statements: on one of a few connections for all threads, or in batches on one per event loop."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.op import Op, T_co
from prefixcache_integrations.stores.lines import Line, Lines, Waiting
from prefixcache_integrations.stores.postgres_wire import (
    Answer,
    Connection,
    Conversation,
    Failure,
    Lost,
    Reply,
    Request,
    exchange,
)

CONNECTING = 5
"""How many timeouts connecting may take: the server starts a process for it, and both agree on a cipher."""


class Execute(Op[Answer], frozen=True):
    """Execute a prepared statement; ``seconds`` instead of the timeout, for one that looks at many rows."""

    request: Request
    seconds: float | None = None


class OnThread(Op[T_co], frozen=True):
    """What ``action`` returns; it blocks."""

    action: Callable[[], T_co]


class Disconnect(Op[None], frozen=True):
    """Close the connections of the face that is asked."""


class Server(NamedTuple):
    """How to reach a server, and what is to be prepared on each connection."""

    conninfo: str
    statements: Sequence[tuple[str, str]]
    create: str
    timeout: float

    def connect(self) -> Connection:
        """Return a new connection. Raises `StoreUnavailable`, `OSError` and psycopg's errors."""
        return Connection.open(self.conninfo, self.statements, self.create, self.timeout * CONNECTING)


class BlockingClient:
    """Performs statements on at most ``connections`` connections, which threads take in turns.

    A connection that turns out to be closed is opened anew, once and at once; what takes too long is not tried again.
    """

    def __init__(self, server: Server, connections: int) -> None:
        self._server = server
        self._connections = connections
        self._begin()

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreUnavailable`."""
        if isinstance(op, Disconnect):
            self._close()
            return None
        if isinstance(op, OnThread):
            return op.action()
        request, seconds = _asked(op)
        try:
            with self._turn():
                [reply] = self._ask(request, seconds or self._server.timeout)
        except OSError as error:
            raise translated(error) from error
        return _performed(reply)

    def _ask(self, request: Request, seconds: float) -> list[Reply]:
        while True:
            kept = bool(self._idle)
            connection = self._idle.pop() if kept else self._server.connect()
            try:
                replies = lasting(connection.ask([request], seconds))
            except Lost:
                connection.close()
                if not kept:
                    raise
            except BaseException:
                connection.close()  # an answer may still come, and would be taken for that to the next question
                raise
            else:
                self._idle.append(connection)
                return replies

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._process != os.getpid():
            self._begin()  # a fork: the connections are the parent's
        turns = self._turns
        if not turns.acquire(timeout=self._server.timeout):
            raise StoreUnavailable("PostgreSQL: every connection is in use")
        try:
            yield
        finally:
            turns.release()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._turns = threading.BoundedSemaphore(self._connections)
        self._idle: list[Connection] = []

    def _close(self) -> None:
        if self._process == os.getpid():
            while self._idle:
                self._idle.pop().close()


class AwaitingClient:
    """Performs statements, batched per event loop on one connection; what may take longer goes to ``blocking``."""

    def __init__(self, server: Server, blocking: BlockingClient) -> None:
        self._blocking = blocking
        self._lines = Lines(partial(_PostgresLine, server))

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreUnavailable`."""
        if isinstance(op, Disconnect):
            await self._lines.close()
            return None
        if isinstance(op, OnThread) or _asked(op)[1] is not None:
            return await asyncio.to_thread(self._blocking.perform, op)
        return await self._lines.perform(op)


class _PostgresLine(Line):
    """One event loop's connection."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.timeout)
        self._server = server
        self._connection: Connection | None = None

    async def send(self, batch: Sequence[Waiting]) -> None:
        replies = await self._ask([_asked(op)[0] for op, _ in batch])
        for (_, future), reply in zip(batch, replies, strict=True):
            if isinstance(reply, Failure):
                self.fail(future, reply.error)
            elif not future.done():
                future.set_result(reply)

    async def disconnect(self) -> None:
        self._drop()

    def translated(self, error: BaseException) -> StoreUnavailable:
        return translated(error)

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        while True:
            kept, connection = self._connection is not None, self._connection or await self._connect()
            try:
                async with self.in_time():
                    return lasting(await _driven(exchange(connection.raw, requests), connection.raw.socket))
            except Lost:
                self._drop()
                if not kept:
                    raise
            except BaseException:
                self._drop()
                raise

    async def _connect(self) -> Connection:
        # On a thread: libpq looks names up without letting go.
        self._connection = await asyncio.to_thread(self._server.connect)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


async def _driven(conversation: Conversation, socket: int) -> list[Reply]:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(socket, ready.set)
    try:
        events = next(conversation)
        while True:
            with _writing(loop, socket, ready.set, events):
                await ready.wait()
            ready.clear()
            events = conversation.send(None)
    except StopIteration as done:
        replies: list[Reply] = done.value
        return replies
    finally:
        loop.remove_reader(socket)


@contextmanager
def _writing(loop: asyncio.AbstractEventLoop, socket: int, wake: Callable[[], None], events: int) -> Iterator[None]:
    if not events & selectors.EVENT_WRITE:
        yield
        return
    loop.add_writer(socket, wake)
    try:
        yield
    finally:
        loop.remove_writer(socket)


def lasting(replies: list[Reply]) -> list[Reply]:
    """Return ``replies``. Raises `Lost` if one says that the connection is of no use any more."""
    for reply in replies:
        if isinstance(reply, Failure) and reply.gone:
            raise Lost(reply.state)
    return replies


def translated(error: BaseException) -> StoreUnavailable:
    """Return what to raise for a connection that failed, without the server's words."""
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(f"PostgreSQL: {str(error) if isinstance(error, Lost) else type(error).__name__}")


def _asked(op: Op[Any]) -> tuple[Request, float | None]:
    if isinstance(op, Execute):
        return op.request, op.seconds
    raise TypeError(f"no way to perform {type(op).__name__} on PostgreSQL")


def _performed(reply: Reply) -> Answer:
    if isinstance(reply, Failure):
        raise reply.error
    return reply
