"""What event loops ask of a server: each loop over a line of its own, in batches.

What is asked while a batch is on its way goes with the next: many who wait together share few exchanges and one
connection, and nobody is turned away.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, TypeAlias

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.op import Op

MAX_BATCH = 128
"""Operations that are sent together; with answers of 20 kB that is a few megabytes on their way at most."""

Waiting: TypeAlias = "tuple[Op[Any], asyncio.Future[Any]]"


class Line(ABC):
    """One event loop's way to a server. A subclass knows the server. Begun by `Lines` alone."""

    failures: tuple[type[Exception], ...] = (OSError, EOFError)
    """What a subclass raises where the server fails; anything else is an error of ours, and is raised on the loop."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        self.lifetime: AsyncGenerator[None, None] | None = None

    def perform(self, op: Op[Any]) -> asyncio.Future[Any]:
        """Return what performs ``op`` with the next batch. Raises `StoreUnavailable`."""
        future = self._loop.create_future()
        self._waiting.append((op, future))
        if self._sender is None:
            self._sender = self._loop.create_task(self._send_all())
        return future

    @abstractmethod
    async def send(self, batch: Sequence[Waiting]) -> None:
        """Give every waiter of ``batch`` his answer or his failure, within the timeout."""
        ...

    @abstractmethod
    async def disconnect(self) -> None:
        """Release the connection."""
        ...

    @abstractmethod
    def translated(self, error: BaseException) -> StoreUnavailable:
        """Say what went wrong without the server's words, which may quote keys."""
        ...

    def fail(self, future: asyncio.Future[Any], error: BaseException) -> None:
        """Let a waiter know."""
        if not future.done():
            failure = self.translated(error)
            failure.__cause__ = error
            future.set_exception(failure)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` in what takes longer than the timeout."""
        async with asyncio.timeout(None) as limit:
            # In two halves: after a pause of the loop itself, answers that have come in meanwhile are still read.
            half = self._loop.call_later(self._timeout / 2, _start_second_half, limit, self._loop, self._timeout / 2)
            try:
                yield
            finally:
                half.cancel()

    async def _send_all(self) -> None:
        batch: list[Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self.send(batch)
        except self.failures as error:
            self._fail_all(batch, error)
        except BaseException as error:
            self._fail_all(batch, error)
            raise
        finally:
            self._sender = None

    def _fail_all(self, batch: Sequence[Waiting], error: BaseException) -> None:
        """Fail the batch and all that waited behind it: for them the time is up as well."""
        waiting, self._waiting = self._waiting, []
        for _, future in chain(batch, waiting):
            self.fail(future, error)


class Lines:
    """The lines of all event loops to one server; ``begin`` makes the running loop's."""

    def __init__(self, begin: Callable[[], Line]) -> None:
        self._begin = begin
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._lock = threading.Lock()

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        """Return what performs ``op`` on the running loop's line. Raises `StoreUnavailable`."""
        line = self._lines.get(asyncio.get_running_loop())
        return self._perform_first(op) if line is None else line.perform(op)

    async def close(self) -> None:
        """Release the running loop's line, if it has one."""
        line = self._lines.get(asyncio.get_running_loop())
        if line is not None and line.lifetime is not None:
            await line.lifetime.aclose()

    async def _perform_first(self, op: Op[Any]) -> object:
        line = await self._open()
        return await line.perform(op)

    async def _open(self) -> Line:
        loop, line = asyncio.get_running_loop(), self._begin()
        line.lifetime = self._live(line, loop)
        with self._lock:
            for closed in [known for known in self._lines if known.is_closed()]:
                del self._lines[closed]
            self._lines[loop] = line
        await anext(line.lifetime)
        return line

    async def _live(self, line: Line, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Last as long as the loop: a loop that shuts down closes the generators that began on it."""
        try:
            yield
        finally:
            self._lines.pop(loop, None)
            await line.disconnect()


def _start_second_half(limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    limit.reschedule(loop.time() + seconds)
