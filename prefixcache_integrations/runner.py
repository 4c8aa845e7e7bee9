"""Performs flows: `run` blocks, `arun` awaits; every decision is in the flow, so they differ by ``await`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, cast

from prefixcache_integrations.events import Observer, tell
from prefixcache_integrations.flows.op import Emit, Empty, Flow, Load, Op, Remove, Save
from prefixcache_integrations.stores.envelope import pack, unpack
from prefixcache_integrations.stores.store import Store

T = TypeVar("T")


class SyncIO(Protocol):
    """Performs one operation, blocking."""

    def perform(self, op: Op[Any]) -> object:
        """Return what ``op`` came to; what it raises is thrown into the flow."""
        ...


class AsyncIO(Protocol):
    """Performs one operation, awaiting."""

    async def perform(self, op: Op[Any]) -> object:
        """Return what ``op`` came to; what it raises is thrown into the flow."""
        ...


class StoreIO:
    """Performs the operations of the response cache on one store, telling ``observers``."""

    def __init__(self, store: Store, observers: Sequence[Observer] = ()) -> None:
        self._store = store
        self._observers = tuple(observers)

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreError` where the store does, `CorruptEntry` for unreadable bytes."""
        match op:
            case Load(key=key):
                value = self._store.get(key)
                return None if value is None else unpack(key, value)
            case Save(key=key, entry=entry, ttl=ttl):
                value = pack(key, entry)
                return len(value) if self._store.put(key, value, ttl) else None
            case Remove(key=key):
                self._store.delete(key)
            case Empty(namespace=namespace):
                self._store.clear(namespace)
            case Emit(event=event):
                tell(self._observers, event)
            case _:
                raise TypeError(f"no way to perform {type(op).__name__} on a store")
        return None


class InlineIO:
    """The awaiting face of a blocking performer whose every operation takes microseconds.

    Memory and SQLite answer sooner than a thread could be woken: they are called on the event loop's thread.
    """

    def __init__(self, blocking: SyncIO) -> None:
        self._blocking = blocking

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op`` at once."""
        return self._blocking.perform(op)


def run(flow: Flow[T], io: SyncIO) -> T:
    """Drive ``flow`` to its end, blocking, and return its result."""
    result: object = None
    error: BaseException | None = None
    while True:
        try:
            op = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            return cast("T", done.value)
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
            return cast("T", done.value)
        result = error = None
        try:
            result = await io.perform(op)
        except BaseException as raised:  # noqa: BLE001 - cancellation too: the flow owns its cleanup
            error = raised
