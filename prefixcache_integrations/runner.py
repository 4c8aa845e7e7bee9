"""Performs flows: `run` blocks, `arun` awaits; every decision is in the flow, so they differ by ``await`` alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from prefixcache_integrations.events import Observer, tell
from prefixcache_integrations.flows.deletions import Outdated
from prefixcache_integrations.flows.flights import Enter, Find, Flights, GiveUp, Join, Landed, TakeLease, Waited
from prefixcache_integrations.flows.op import (
    Call,
    Discard,
    Emit,
    Empty,
    Flow,
    Invalidate,
    ListFacts,
    Load,
    Op,
    Pause,
    Remove,
    Save,
)
from prefixcache_integrations.stores.envelope import pack, unpack
from prefixcache_integrations.stores.leases import alease, lease
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
    """Performs the operations of the response cache on one store, telling ``observers``.

    ``flights`` are those of all performers that share calls in the air.
    """

    def __init__(self, store: Store, observers: Sequence[Observer] = (), flights: Flights | None = None) -> None:
        self._store = store
        self._observers = tuple(observers)
        self._flights = flights or new_flights()

    def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises `StoreError` where the store does, `CorruptEntry` for unreadable bytes."""
        match op:
            case Load(key=key):
                value = self._store.get(key)
                return None if value is None else unpack(key, value)
            case Save(key=key, entry=entry, ttl=ttl, tags=tags):
                value = pack(key, entry)
                return len(value) if self._store.put(key, value, ttl, tags) else None
            case Emit(event=event):
                tell(self._observers, event)
            case Remove(key=key):
                self._store.delete(key)
            case Invalidate(namespace=namespace, tag=tag):
                self._store.invalidate(namespace, tag)
            case ListFacts(namespace=namespace):
                return self._store.facts(namespace)
            case Discard(namespace=namespace, handles=handles):
                self._store.discard(namespace, handles)
            case Empty(namespace=namespace):
                self._store.clear(namespace)
            case TakeLease(key=key):
                return lease(self._store, key)
            case _:
                return _fly(op, self._flights)
        return None


def _fly(op: Op[Any], flights: Flights) -> object:
    match op:
        case Enter(key=key):
            return flights.enter(key, awaiting=False, in_loop=_in_loop())
        case Join(flight=flight, patience=patience):
            since = time.monotonic()
            with suppress(TimeoutError):
                flight.landing.result(patience)
            return _waited(flight.landing, since)
        case Pause(seconds=seconds):
            time.sleep(seconds)
        case Call(action=action):
            return action()
        case _:
            return _look_at(op, flights)
    return None


class AsyncStoreIO:
    """Does what `StoreIO` does, awaiting a store that would block an event loop."""

    def __init__(self, store: AsyncStore, observers: Sequence[Observer] = (), flights: Flights | None = None) -> None:
        self._store = store
        self._observers = tuple(observers)
        self._flights = flights or new_flights()

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises as `StoreIO.perform` does."""
        match op:
            case Load(key=key):
                value = await self._store.aget(key)
                return None if value is None else unpack(key, value)
            case Save(key=key, entry=entry, ttl=ttl, tags=tags):
                value = pack(key, entry)
                return len(value) if await self._store.aput(key, value, ttl, tags) else None
            case Emit(event=event):
                tell(self._observers, event)
            case Remove(key=key):
                await self._store.adelete(key)
            case Invalidate(namespace=namespace, tag=tag):
                await self._store.ainvalidate(namespace, tag)
            case ListFacts(namespace=namespace):
                return await self._store.afacts(namespace)
            case Discard(namespace=namespace, handles=handles):
                await self._store.adiscard(namespace, handles)
            case Empty(namespace=namespace):
                await self._store.aclear(namespace)
            case TakeLease(key=key):
                return await alease(self._store, key)
            case _:
                return await _afly(op, self._flights)
        return None


class InlineIO:
    """The awaiting face of a performer on a store whose every operation takes microseconds.

    Memory and SQLite answer sooner than a thread could be woken: they are called on the event loop's thread. What
    takes its time is awaited.
    """

    def __init__(self, blocking: SyncIO, flights: Flights | None = None) -> None:
        self._blocking = blocking
        self._flights = flights or new_flights()

    async def perform(self, op: Op[Any]) -> object:
        """Perform ``op``. Raises as `StoreIO.perform` does."""
        if isinstance(op, Enter | Find | Join | GiveUp | Pause | Call):
            return await _afly(op, self._flights)
        return self._blocking.perform(op)


async def _afly(op: Op[Any], flights: Flights) -> object:
    match op:
        case Enter(key=key):
            return flights.enter(key, awaiting=True, in_loop=True)
        case Join(flight=flight, patience=patience):
            since = time.monotonic()
            await _landing(flight.landing, patience)
            return _waited(flight.landing, since)
        case Pause(seconds=seconds):
            await asyncio.sleep(seconds)
        case Call(action=action):
            return await action()
        case _:
            return _look_at(op, flights)
    return None


def _look_at(op: Op[Any], flights: Flights) -> object:
    match op:
        case Find(key=key):
            return flights.find(key)
        case GiveUp(namespace=namespace, tag=tag):
            flights.delete(namespace, tag)
        case Outdated(namespace=namespace, tags=tags, began=began):
            return flights.outdated(began, namespace, tags)
        case _:
            raise TypeError(f"no way to perform {type(op).__name__} on a store")
    return None


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


def _in_loop() -> bool:
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
    """Return the awaiting performer for ``store``: its own awaiting face where it has one, else inline."""
    if isinstance(store, AsyncStore):
        return AsyncStoreIO(store, observers, flights)
    shared = flights or new_flights()
    return InlineIO(StoreIO(store, observers, shared), shared)


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
