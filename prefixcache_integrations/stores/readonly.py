"""A store that is read and never written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from prefixcache_integrations.errors import StoreRefused
from prefixcache_integrations.flows.op import EntryKey, Flow
from prefixcache_integrations.stores.wrapper import Wrapper


class ReadOnly(Wrapper):
    """Reads ``inner`` and changes nothing in it.

    New values are not taken and unreadable ones stay where they are; to invalidate or to clear raises
    `StoreRefused`, because whoever asks for that must know that it did not happen.
    """

    def _put(self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> Flow[bool]:
        yield from ()
        return False

    def _delete(self, key: EntryKey) -> Flow[None]:
        yield from ()

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        yield from ()
        _refuse()

    def _clear(self, namespace: str) -> Flow[None]:
        yield from ()
        _refuse()


def _refuse() -> NoReturn:
    raise StoreRefused("the store is read-only")
