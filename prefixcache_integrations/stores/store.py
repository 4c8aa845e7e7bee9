"""What a store is to the rest of the package."""

from __future__ import annotations

from typing import Protocol

from prefixcache_integrations.flows.op import EntryKey


class Store(Protocol):
    """Keeps bytes under keys, for a time. Safe to share between threads.

    A store knows nothing of what it keeps. It raises `StoreUnavailable` when it cannot do what it was
    asked, and nothing else. Namespaces are strangers: no key of one is ever read, replaced or cleared
    through another, also where the digests are equal. What was put last is what is read; what has outlived
    its TTL is never read again. A full store drops older values, never refuses newer ones that fit.
    """

    def get(self, key: EntryKey) -> bytes | None:
        """Return the live value of ``key``, ``None`` if there is none."""
        ...

    def put(self, key: EntryKey, value: bytes, ttl: float | None = None) -> bool:
        """Keep ``value`` for ``ttl`` seconds, for good if ``None``, in place of what was there.

        False, and the key has no value, if ``value`` is larger than the whole store may hold.
        """
        ...

    def delete(self, key: EntryKey) -> None:
        """Forget ``key``, if it is there."""
        ...

    def clear(self, namespace: str) -> None:
        """Forget every key of exactly this namespace."""
        ...

    def close(self) -> None:
        """Release what the store holds open; calling it again does nothing. The store is not used afterwards."""
        ...
