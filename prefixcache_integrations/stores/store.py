"""What a store is to the rest of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

from prefixcache_integrations.flows.op import EntryFacts, EntryKey


class Kept(bytes):
    """Bytes that this process alone keeps, for one key, and that nothing can change."""

    __slots__ = ()


class Checked(Kept):
    """Those that were found whole once: what is known by their class takes no memory."""

    __slots__ = ()


class Store(Protocol):
    """Keeps bytes under keys, for a time. Safe to share between threads.

    A store knows nothing of what it keeps. It raises `StoreUnavailable` when it cannot do what it was
    asked, and nothing else; a wrapper that reads values raises `CorruptEntry` too. Namespaces are strangers: no key
    of one is ever read, replaced, invalidated or cleared through another, also where the digests are equal. What
    was put last is what is read; what has outlived its TTL is never read again. A full store drops older values,
    never refuses newer ones that fit.
    """

    def get(self, key: EntryKey) -> bytes | None:
        """Return the live value of ``key``, ``None`` if there is none."""
        ...

    def put(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """Keep ``value`` for ``ttl`` seconds, for good if ``None``, in place of what was there.

        ``tags`` are the names by which `invalidate` will know it.
        False, and the key has no value, if ``value`` is larger than the whole store may hold.
        """
        ...

    def delete(self, key: EntryKey) -> None:
        """Forget ``key``, if it is there."""
        ...

    def invalidate(self, namespace: str, tag: str) -> None:
        """Forget every key of exactly this namespace that was last put with ``tag``."""
        ...

    def facts(self, namespace: str) -> Sequence[EntryFacts]:
        """Return what is known of every key of exactly this namespace; values are not read."""
        ...

    def discard(self, namespace: str, handles: Sequence[Any]) -> None:
        """Forget the keys of ``namespace`` that `facts` calls ``handles``, if they are there."""
        ...

    def clear(self, namespace: str) -> None:
        """Forget every key of exactly this namespace."""
        ...

    def close(self) -> None:
        """Release what the store holds open; calling it again does nothing. The store is not used afterwards."""
        ...


@runtime_checkable
class AsyncStore(Protocol):
    """The awaiting face of a store that would block an event loop: each method does what the `Store`'s does.

    May be used from several event loops at once, each with connections of its own.
    """

    async def aget(self, key: EntryKey) -> bytes | None:
        """See `Store.get`."""
        ...

    async def aput(self, key: EntryKey, value: bytes, ttl: float | None = None, tags: Sequence[str] = ()) -> bool:
        """See `Store.put`."""
        ...

    async def adelete(self, key: EntryKey) -> None:
        """See `Store.delete`."""
        ...

    async def ainvalidate(self, namespace: str, tag: str) -> None:
        """See `Store.invalidate`."""
        ...

    async def afacts(self, namespace: str) -> Sequence[EntryFacts]:
        """See `Store.facts`."""
        ...

    async def adiscard(self, namespace: str, handles: Sequence[Any]) -> None:
        """See `Store.discard`."""
        ...

    async def aclear(self, namespace: str) -> None:
        """See `Store.clear`."""
        ...

    async def aclose(self) -> None:
        """See `Store.close`; also releases what the running event loop holds open."""
        ...


@runtime_checkable
class SharedStore(Protocol):
    """A store that others write to, and delete from, while this process waits for an answer."""

    def put_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """Do what `Store.put` does, but do not take what others have deleted, by its tags or its namespace, since then.

        ``began`` is a `moment` after ``key`` was read. False if it is not taken.
        """
        ...


@runtime_checkable
class AsyncSharedStore(Protocol):
    """The awaiting face of a `SharedStore`."""

    async def aput_since(self, began: int, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> bool:
        """See `SharedStore.put_since`."""
        ...


def put(  # noqa: PLR0917 - those of `Store.put`, and when
    store: Store, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
) -> bool:
    """Put, as of the moment ``began`` where that is known and ``store`` is shared."""
    if began is not None and isinstance(store, SharedStore):
        return store.put_since(began, key, value, ttl, tags)
    return store.put(key, value, ttl, tags)


async def aput(  # noqa: PLR0917 - those of `Store.put`, and when
    store: AsyncStore, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
) -> bool:
    """Do what `put` does, awaiting."""
    if began is not None and isinstance(store, AsyncSharedStore):
        return await store.aput_since(began, key, value, ttl, tags)
    return await store.aput(key, value, ttl, tags)


def waits(store: Store) -> TypeGuard[AsyncStore]:
    """Return whether ``store`` is to be awaited: a wrapper has an awaiting face, and waits as the store inside does."""
    return isinstance(store, AsyncStore) and bool(getattr(store, "waits", True))
