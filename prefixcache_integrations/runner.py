"""Drives flows: `run` blocks, `arun` awaits; every decision is in the flow, so they differ by ``await`` alone."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from prefixcache_integrations.flows.op import Flow, Op

T = TypeVar("T")


class SyncIO(Protocol):
    """Performs one operation, blocking."""

    def perform(self, op: Op[Any]) -> object:
        """Return what ``op`` came to; what it raises is thrown into the flow."""
        ...


class AsyncIO(Protocol):
    """Performs one operation, awaiting."""

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        """Return what comes to what ``op`` does; what that raises is thrown into the flow."""
        ...


def run(flow: Flow[T], io: SyncIO) -> T:
    """Drive ``flow`` to its end, blocking, and return its result."""
    result: object = None
    error: BaseException | None = None
    while True:
        try:
            op = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            value: T = done.value
            return value
        result = error = None
        try:
            result = io.perform(op)
        except BaseException as raised:  # noqa: BLE001 - interrupts too: the flow owns its cleanup
            error = raised


async def arun(flow: Flow[T], io: AsyncIO) -> T:
    """Drive ``flow`` to its end, awaiting, and return its result."""
    result: object = None
    error: BaseException | None = None
    while True:
        try:
            op = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            value: T = done.value
            return value
        result = error = None
        try:
            result = await io.perform(op)
        except BaseException as raised:  # noqa: BLE001 - cancellation too: the flow owns its cleanup
            error = raised
