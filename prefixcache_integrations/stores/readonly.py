"""A store that is read and never written."""

from __future__ import annotations

from prefixcache_integrations.errors import StoreRefused
from prefixcache_integrations.flows.flights import UNSHARED, Lease
from prefixcache_integrations.flows.op import Flow
from prefixcache_integrations.stores.wrapper import Wrapper


class ReadOnly(Wrapper):
    """Reads ``inner`` and changes nothing in it.

    New values are not taken and unreadable ones stay where they are; to invalidate or to clear raises
    `StoreRefused`, because whoever asks for that must know that it did not happen.
    """

    def _put(self, *_: object) -> Flow[bool]:
        yield from ()
        return False

    def _delete(self, *_: object) -> Flow[None]:
        yield from ()

    def _invalidate(self, *_: object) -> Flow[None]:
        yield from ()
        raise StoreRefused("nothing can be invalidated in a read-only store")

    def _discard(self, *_: object) -> Flow[None]:
        return self._invalidate()

    def _clear(self, *_: object) -> Flow[None]:
        yield from ()
        raise StoreRefused("a read-only store cannot be cleared")

    def _lease(self, *_: object) -> Flow[Lease | None]:
        yield from ()
        return UNSHARED  # what is called for here, nobody else will find
