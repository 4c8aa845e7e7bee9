"""What a store may offer beside keeping values: the right to make one call, among all processes that share it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from prefixcache_integrations.flows.flights import UNSHARED, Lease
from prefixcache_integrations.flows.op import EntryKey


@runtime_checkable
class LeasingStore(Protocol):
    """A store whose processes can tell each other who makes a call."""

    def lease(self, key: EntryKey) -> Lease | None:
        """Return the lease on ``key``, ``None`` while another holds it. Raises `StoreUnavailable`.

        It is free again when it is released, and when its holder dies. Never waits for another holder.
        """
        ...


@runtime_checkable
class AsyncLeasingStore(Protocol):
    """The awaiting face of a `LeasingStore`."""

    async def alease(self, key: EntryKey) -> Lease | None:
        """See `LeasingStore.lease`."""
        ...


def lease(store: object, key: EntryKey) -> Lease | None:
    """Return the lease that ``store`` offers, `UNSHARED` if it offers none."""
    return store.lease(key) if isinstance(store, LeasingStore) else UNSHARED


async def alease(store: object, key: EntryKey) -> Lease | None:
    """Do what `lease` does, awaiting where the store would block."""
    return await store.alease(key) if isinstance(store, AsyncLeasingStore) else lease(store, key)
