"""A store whose every decision is written once, as a flow, and whose blocking and awaiting methods both run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow
from prefixcache_integrations.runner import AsyncIO, SyncIO, arun, run


class TwoFacedStore(ABC):
    """A `Store` and an `AsyncStore` in one: a subclass writes the flows and says who performs their operations."""

    def __init__(self, blocking: SyncIO, awaiting: AsyncIO) -> None:
        self._blocking = blocking
        self._awaiting = awaiting

    def get(self, key: EntryKey) -> bytes | None:
        """Return the live value of ``key``, ``None`` if there is none."""
        return run(self._get(key), self._blocking)

    def put(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep ``value`` for ``ttl`` seconds in place of what was there; False if it was not taken."""
        return run(self._put(key, value, ttl, tags, None), self._blocking)

    def put_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """Do what `put` does, but take nothing that others have deleted since ``began``."""
        return run(self._put(key, value, ttl, tags, began), self._blocking)

    def delete(self, key: EntryKey) -> None:
        """Forget ``key``, if it is there."""
        run(self._delete(key), self._blocking)

    def invalidate(self, namespace: str, tag: str) -> None:
        """Forget every key of ``namespace`` that was put with ``tag``."""
        run(self._invalidate(namespace, tag), self._blocking)

    def facts(self, namespace: str) -> Sequence[EntryFacts]:
        """Return what is known of every key of exactly this namespace; values are not read."""
        return run(self._facts(namespace), self._blocking)

    def discard(self, namespace: str, handles: Sequence[Any]) -> None:
        """Forget the keys of ``namespace`` that `facts` calls ``handles``, if they are there."""
        run(self._discard(namespace, handles), self._blocking)

    def clear(self, namespace: str) -> None:
        """Forget every key of exactly this namespace."""
        run(self._clear(namespace), self._blocking)

    def lease(self, key: EntryKey) -> Lease | None:
        """Return the lease on ``key`` among all who share the store, ``None`` while another holds it."""
        return run(self._lease(key), self._blocking)

    def close(self) -> None:
        """Release what the store holds open."""
        run(self._close(), self._blocking)

    async def aget(self, key: EntryKey) -> bytes | None:
        """Do what `get` does, awaiting."""
        return await arun(self._get(key), self._awaiting)

    async def aput(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Do what `put` does, awaiting."""
        return await arun(self._put(key, value, ttl, tags, None), self._awaiting)

    async def aput_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """Do what `put_since` does, awaiting."""
        return await arun(self._put(key, value, ttl, tags, began), self._awaiting)

    async def adelete(self, key: EntryKey) -> None:
        """Do what `delete` does, awaiting."""
        await arun(self._delete(key), self._awaiting)

    async def ainvalidate(self, namespace: str, tag: str) -> None:
        """Do what `invalidate` does, awaiting."""
        await arun(self._invalidate(namespace, tag), self._awaiting)

    async def afacts(self, namespace: str) -> Sequence[EntryFacts]:
        """Do what `facts` does, awaiting."""
        return await arun(self._facts(namespace), self._awaiting)

    async def adiscard(self, namespace: str, handles: Sequence[Any]) -> None:
        """Do what `discard` does, awaiting."""
        await arun(self._discard(namespace, handles), self._awaiting)

    async def aclear(self, namespace: str) -> None:
        """Do what `clear` does, awaiting."""
        await arun(self._clear(namespace), self._awaiting)

    async def alease(self, key: EntryKey) -> Lease | None:
        """Do what `lease` does, awaiting."""
        return await arun(self._lease(key), self._awaiting)

    async def aclose(self) -> None:
        """Do what `close` does, awaiting; what the running event loop holds open is released too."""
        await arun(self._close(), self._awaiting)

    @abstractmethod
    def _get(self, key: EntryKey) -> Flow[bytes | None]: ...

    @abstractmethod
    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]: ...

    @abstractmethod
    def _delete(self, key: EntryKey) -> Flow[None]: ...

    @abstractmethod
    def _invalidate(self, namespace: str, tag: str) -> Flow[None]: ...

    @abstractmethod
    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]: ...

    @abstractmethod
    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]: ...

    @abstractmethod
    def _clear(self, namespace: str) -> Flow[None]: ...

    @abstractmethod
    def _lease(self, key: EntryKey) -> Flow[Lease | None]: ...

    @abstractmethod
    def _close(self) -> Flow[None]: ...
