"""Performs the operations of flows on a store: `StoreIO` blocks, what `async_io` returns awaits."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakSet

from prefixcache_integrations.events import Observer, tell
from prefixcache_integrations.flows.deletions import Outdated
from prefixcache_integrations.flows.flights import Enter, Find, Flights, GiveUp, Join, Landed, Seat, TakeLease, Waited
from prefixcache_integrations.flows.op import (
    Call,
    Discard,
    Emit,
    Empty,
    Entry,
    Invalidate,
    ListFacts,
    Load,
    Op,
    Pause,
    Remove,
    Save,
)
from prefixcache_integrations.runner import AsyncIO
from prefixcache_integrations.stores.envelope import pack, unpack
from prefixcache_integrations.stores.leases import alease, lease
from prefixcache_integrations.stores.store import AsyncStore, Store, aput, put, waits

_Performer: TypeAlias = Callable[[Any, Any], object]
_AwaitedPerformer: TypeAlias = Callable[[Any, Any], Awaitable[object]]


class StoreIO:
    """Performs the operations of the response cache on one store, telling ``observers``.

    ``flights`` are those of all performers that share calls in the air.
    """

    def __init__(self, store: Store, observers: Sequence[Observer] = (), flights: Flights | None = None) -> None:
        self.store = store
        self.observers = tuple(observers)
        self.flights = flights or new_flights()

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreError` where the store does, `CorruptEntry` for unreadable bytes."""
        performer: _Performer = _BLOCKING.get(type(op), _unknown)
        return performer(self, op)


def _load(io: StoreIO, op: Load) -> Entry | None:
    value = io.store.get(op.key)
    return None if value is None else unpack(op.key, value)


def _save(io: StoreIO, op: Save) -> int | None:
    value = pack(op.key, op.entry)
    return len(value) if put(io.store, op.key, value, op.ttl, op.tags, op.began) else None


def _enter(io: StoreIO, op: Enter) -> Seat:
    return io.flights.enter(op.key, awaiting=False, in_loop=in_loop())


def _join(_: StoreIO, op: Join) -> Waited:
    since = time.monotonic()
    with suppress(TimeoutError):
        op.flight.landing.result(op.patience)
    return _waited(op.flight.landing, since)


def _emit(io: StoreIO | AsyncStoreIO, op: Emit) -> None:
    tell(io.observers, op.event)


def _unknown(_: object, op: Op[Any]) -> object:
    raise TypeError(f"no way to perform {type(op).__name__} on a store")


_AT_ONCE: Mapping[type[Op[Any]], _Performer] = {
    Emit: _emit,
    Find: lambda io, op: io.flights.find(op.key),
    GiveUp: lambda io, op: io.flights.delete(op.namespace, op.tag),
    Outdated: lambda io, op: io.flights.outdated(op.began, op.namespace, op.tags),
}
"""What nobody has to wait for."""

_BLOCKING: Mapping[type[Op[Any]], _Performer] = {
    **_AT_ONCE,
    Load: _load,
    Save: _save,
    Remove: lambda io, op: io.store.delete(op.key),
    Invalidate: lambda io, op: io.store.invalidate(op.namespace, op.tag),
    ListFacts: lambda io, op: io.store.facts(op.namespace),
    Discard: lambda io, op: io.store.discard(op.namespace, op.handles),
    Empty: lambda io, op: io.store.clear(op.namespace),
    TakeLease: lambda io, op: lease(io.store, op.key),
    Enter: _enter,
    Join: _join,
    Pause: lambda _, op: time.sleep(op.seconds),
    Call: lambda _, op: op.action(),
}


class AsyncStoreIO:
    """Does what `StoreIO` does, awaiting a store that would block an event loop."""

    def __init__(self, store: AsyncStore, observers: Sequence[Observer] = (), flights: Flights | None = None) -> None:
        self.store = store
        self.observers = tuple(observers)
        self.flights = flights or new_flights()

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        """Perform ``op``. Raises as `StoreIO.perform` does."""
        performer: _AwaitedPerformer = _AWAITING.get(type(op), _aunknown)
        return performer(self, op)


class InlineIO:
    """The awaiting face of a performer on a store whose every operation takes microseconds.

    Memory and SQLite answer sooner than a thread could be woken: they are called on the event loop's thread. What
    takes its time is awaited.
    """

    def __init__(self, blocking: StoreIO) -> None:
        self._blocking = blocking

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        """Perform ``op``. Raises as `StoreIO.perform` does."""
        performer: _AwaitedPerformer = _FLYING.get(type(op), _inline)
        return performer(self._blocking, op)


async def _inline(blocking: StoreIO, op: Op[Any]) -> object:
    return blocking.perform(op)


async def _aload(io: AsyncStoreIO, op: Load) -> Entry | None:
    value = await io.store.aget(op.key)
    return None if value is None else unpack(op.key, value)


async def _asave(io: AsyncStoreIO, op: Save) -> int | None:
    value = pack(op.key, op.entry)
    return len(value) if await aput(io.store, op.key, value, op.ttl, op.tags, op.began) else None


async def _aenter(io: StoreIO | AsyncStoreIO, op: Enter) -> Seat:
    return io.flights.enter(op.key, awaiting=True, in_loop=True)


async def _ajoin(_: object, op: Join) -> Waited:
    since = time.monotonic()
    await _landing(op.flight.landing, op.patience)
    return _waited(op.flight.landing, since)


def _awaited(at_once: _Performer) -> _AwaitedPerformer:
    async def perform(io: AsyncStoreIO, op: Op[Any]) -> object:
        return at_once(io, op)

    return perform


_aunknown = _awaited(_unknown)

_FLYING: Mapping[type[Op[Any]], _AwaitedPerformer] = {
    Enter: _aenter,
    Join: _ajoin,
    Pause: lambda _, op: asyncio.sleep(op.seconds),
    Call: lambda _, op: op.action(),
}
"""What has to be awaited whatever the store."""

_AWAITING: Mapping[type[Op[Any]], _AwaitedPerformer] = {
    **{kind: _awaited(perform) for kind, perform in _AT_ONCE.items()},
    **_FLYING,
    Load: _aload,
    Save: _asave,
    Remove: lambda io, op: io.store.adelete(op.key),
    Invalidate: lambda io, op: io.store.ainvalidate(op.namespace, op.tag),
    ListFacts: lambda io, op: io.store.afacts(op.namespace),
    Discard: lambda io, op: io.store.adiscard(op.namespace, op.handles),
    Empty: lambda io, op: io.store.aclear(op.namespace),
    TakeLease: lambda io, op: alease(io.store, op.key),
}


async def _landing(landing: Future[Landed], patience: float) -> None:
    """Wait until ``landing`` is done. The waiter is this loop's own: who is cancelled or impatient disturbs nobody."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: Future[Landed]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits on it
            loop.call_soon_threadsafe(_set, waiter)

    landing.add_done_callback(wake)
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await waiter


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _waited(landing: Future[Landed], since: float) -> Waited:
    return Waited(landing.result() if landing.done() else None, time.monotonic() - since)


def in_loop() -> bool:
    """Return whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_tables: WeakSet[Flights] = WeakSet()


def new_flights() -> Flights:
    """Return a flight table that tells time by this machine's clock, and begins anew in a process that is forked."""
    flights = Flights(time.monotonic)
    _tables.add(flights)
    return flights


def _begin_anew() -> None:
    for flights in list(_tables):
        flights.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def async_io(store: Store, observers: Sequence[Observer] = (), flights: Flights | None = None) -> AsyncIO:
    """Return the awaiting performer for ``store``: its own awaiting face where that is of use, else inline."""
    if waits(store):
        return AsyncStoreIO(store, observers, flights)
    return InlineIO(StoreIO(store, observers, flights))


async def aclose(store: Store) -> None:
    """Close ``store`` from an event loop."""
    if isinstance(store, AsyncStore):
        await store.aclose()
    else:
        store.close()
