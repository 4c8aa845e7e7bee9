"""What stores around other stores are made of: calls on the store inside, and the wrapper that changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, cast

from msgspec.structs import astuple

from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow, Op, T_co
from prefixcache_integrations.stores.faces import TwoFacedStore
from prefixcache_integrations.stores.leases import alease, lease
from prefixcache_integrations.stores.store import AsyncStore, Store, aput, put, waits


class StoreCall(Op[T_co], frozen=True):
    """A call of ``method`` on ``store``; the other fields are its arguments, in order."""

    method: ClassVar[str]
    store: Store

    def __iter__(self) -> Generator[Op[Any], Any, T_co]:
        """Ask for the call; what a wrapper does inside another is part of the same flow, and needs no driver."""
        if _wraps(type(self.store)):
            flow: Flow[T_co] = getattr(self.store, f"_{self.method}")(*astuple(self)[1:])
            return (yield from flow)
        result: T_co = yield self
        return result


class Get(StoreCall[bytes | None], frozen=True):
    """`Store.get`."""

    method: ClassVar[str] = "get"
    key: EntryKey


class Put(StoreCall[bool], frozen=True):
    """`Store.put`, or `SharedStore.put_since` with ``began``."""

    method: ClassVar[str] = "put"
    key: EntryKey
    value: bytes
    ttl: float | None
    tags: Sequence[str]
    began: int | None = None


class Delete(StoreCall[None], frozen=True):
    """`Store.delete`."""

    method: ClassVar[str] = "delete"
    key: EntryKey


class Invalidate(StoreCall[None], frozen=True):
    """`Store.invalidate`."""

    method: ClassVar[str] = "invalidate"
    namespace: str
    tag: str


class Facts(StoreCall[Sequence[EntryFacts]], frozen=True):
    """`Store.facts`."""

    method: ClassVar[str] = "facts"
    namespace: str


class Discard(StoreCall[None], frozen=True):
    """`Store.discard`."""

    method: ClassVar[str] = "discard"
    namespace: str
    handles: Sequence[Any]


class Clear(StoreCall[None], frozen=True):
    """`Store.clear`."""

    method: ClassVar[str] = "clear"
    namespace: str


class Close(StoreCall[None], frozen=True):
    """`Store.close`."""

    method: ClassVar[str] = "close"


class TakeLease(StoreCall[Lease | None], frozen=True):
    """`LeasingStore.lease`; of a store that offers none, one that is always to be had."""

    method: ClassVar[str] = "lease"
    key: EntryKey


class _Calls:
    """Performs store calls, blocking."""

    def perform(self, op: Op[Any]) -> object:
        call: Any = op
        store, *arguments = astuple(call)
        method: Callable[..., object] | None = _NOT_EVERYWHERE.get(type(call))
        return getattr(store, call.method)(*arguments) if method is None else method(store, *arguments)


_NOT_EVERYWHERE: Mapping[type[Op[Any]], Callable[..., object]] = {Put: put, TakeLease: lease}
"""What some stores can do better than others."""


class _AsyncCalls:
    """Performs store calls, awaiting; a store without an awaiting face answers at once."""

    def __init__(self, blocking: _Calls) -> None:
        self._blocking = blocking

    def perform(self, op: Op[Any]) -> Awaitable[object]:
        call = cast("StoreCall[Any]", op)
        store, *arguments = astuple(call)
        if not _awaits(type(call.store)):
            return self._at_once(op)
        method: Callable[..., Awaitable[object]] | None = _NOT_EVERYWHERE_AWAITED.get(type(call))
        method = getattr(store, f"a{call.method}") if method is None else partial(method, store)
        return method(*arguments)

    async def _at_once(self, op: Op[Any]) -> object:
        return self._blocking.perform(op)


_NOT_EVERYWHERE_AWAITED: Mapping[type[Op[Any]], Callable[..., Awaitable[object]]] = {Put: aput, TakeLease: alease}


@lru_cache(maxsize=256)
def _awaits(kind: type) -> bool:
    """Return whether stores of ``kind`` have an awaiting face; asked every time, it takes longer than a read."""
    return issubclass(kind, AsyncStore)


@lru_cache(maxsize=256)
def _wraps(kind: type) -> bool:
    """Return whether stores of ``kind`` are wrappers."""
    return issubclass(kind, Wrapper)


class Wrapper(TwoFacedStore):
    """Does what ``inner`` does. A subclass overrides the flows in which it differs."""

    def __init__(self, inner: Store) -> None:
        calls = _Calls()
        super().__init__(calls, _AsyncCalls(calls))
        self._inner = inner

    @property
    def waits(self) -> bool:
        """Whether it is to be awaited."""
        return waits(self._inner)

    @property
    def evicted(self) -> int | None:
        """How many values the store inside has pushed out, ``None`` if it does not know."""
        evicted: int | None = getattr(self._inner, "evicted", None)
        return evicted

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        return (yield from Get(self._inner, key))

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        return (yield from Put(self._inner, key, value, ttl, tags, began))

    def _delete(self, key: EntryKey) -> Flow[None]:
        yield from Delete(self._inner, key)

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        yield from Invalidate(self._inner, namespace, tag)

    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]:
        return (yield from Facts(self._inner, namespace))

    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]:
        yield from Discard(self._inner, namespace, handles)

    def _clear(self, namespace: str) -> Flow[None]:
        yield from Clear(self._inner, namespace)

    def _lease(self, key: EntryKey) -> Flow[Lease | None]:
        return (yield from TakeLease(self._inner, key))

    def _close(self) -> Flow[None]:
        yield from Close(self._inner)
