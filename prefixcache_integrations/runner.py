"""Performs flows: `run` blocks, `arun` awaits; every decision is in the flow, so they differ by ``await`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, cast

from prefixcache_integrations.events import Observer, tell
from prefixcache_integrations.flows.op import Emit, Empty, Flow, Invalidate, Load, Op, Remove, Save
from prefixcache_integrations.stores.envelope import pack, unpack
from prefixcache_integrations.stores.store import AsyncStore, Store

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
            case Save(key=key, entry=entry, ttl=ttl, tags=tags):
                value = pack(key, entry)
                return len(value) if self._store.put(key, value, ttl, tags) else None
            case Remove(key=key):
                self._store.delete(key)
            case Invalidate(namespace=namespace, tag=tag):
                self._store.invalidate(namespace, tag)
            case Empty(namespace=namespace):
                self._store.clear(namespace)
            case Emit(event=event):
                tell(self._observers, event)
            case _:
                raise TypeError(f"no way to perform {type(op).__name__} on a store")
        return None


class AsyncStoreIO:
    """Does what `StoreIO` does, awaiting a store that would block an event loop."""

    def __init__(self, store: AsyncStore, observers: Sequence[Observer] = ()) -> None:
        self._store = store
        self._observers = tuple(observers)

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises as `StoreIO.perform` does."""
        match op:
            case Load(key=key):
                value = await self._store.aget(key)
                return None if value is None else unpack(key, value)
            case Save(key=key, entry=entry, ttl=ttl, tags=tags):
                value = pack(key, entry)
                return len(value) if await self._store.aput(key, value, ttl, tags) else None
            case Remove(key=key):
                await self._store.adelete(key)
            case Invalidate(namespace=namespace, tag=tag):
                await self._store.ainvalidate(namespace, tag)
            case Empty(namespace=namespace):
                await self._store.aclear(namespace)
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


def async_io(store: Store, observers: Sequence[Observer] = ()) -> AsyncIO:
    """Return the awaiting performer for ``store``: its own awaiting face where it has one, else inline."""
    if isinstance(store, AsyncStore):
        return AsyncStoreIO(store, observers)
    return InlineIO(StoreIO(store, observers))


async def aclose(store: Store) -> None:
    """Close ``store`` from an event loop."""
    if isinstance(store, AsyncStore):
        await store.aclose()
    else:
        store.close()


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
