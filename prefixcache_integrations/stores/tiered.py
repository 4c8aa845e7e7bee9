"""A near store in front of a far one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from prefixcache_integrations.flows.deletions import Deletions
from prefixcache_integrations.flows.flights import moment
from prefixcache_integrations.flows.op import EntryKey, Flow
from prefixcache_integrations.stores.store import Store
from prefixcache_integrations.stores.wrapper import Clear, Close, Delete, Discard, Get, Invalidate, Put, Wrapper

DEFAULT_NEAR_TTL = 5.0


class Tiered(Wrapper):
    """Answers from ``near``, else from ``far``, and then keeps what was found near for ``near_ttl`` seconds.

    What others put, delete, invalidate or clear in ``far`` is seen here at most ``near_ttl`` seconds later, and
    a value found there may be read that much longer than its TTL; what this store itself does is seen at
    once. While ``far`` fails, ``near`` goes on answering, and takes what is put.
    """

    def __init__(self, near: Store, far: Store, *, near_ttl: float = DEFAULT_NEAR_TTL) -> None:
        super().__init__(far)
        self._near = near
        self._near_ttl = near_ttl
        self._changes = Deletions()  # of single keys, by their digests
        self._lock = threading.Lock()

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        value = yield from Get(self._near, key)
        if value is None:
            began = moment()  # what is changed here while it is read far away does not come near as it was
            value = yield from Get(self._inner, key)
            if value is not None and not self._is_changed(key, began):
                yield from Put(self._near, key, value, self._near_ttl, (), began)
                if self._is_changed(key, began):
                    yield from Delete(self._near, key)
        return value

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        taken = True
        try:
            taken = yield from Put(self._inner, key, value, ttl, tags, began)
        finally:
            self._change(key)
            if taken:
                near_ttl = self._near_ttl if ttl is None else min(ttl, self._near_ttl)
                yield from Put(self._near, key, value, near_ttl, ())
            else:
                yield from Delete(self._near, key)
        return taken

    def _delete(self, key: EntryKey) -> Flow[None]:
        try:
            yield from Delete(self._inner, key)
        finally:
            self._change(key)
            yield from Delete(self._near, key)

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        try:
            yield from Invalidate(self._inner, namespace, tag)
        finally:
            yield from Clear(self._near, namespace)  # what was found far away came without its tags

    def _discard(self, namespace: str, handles: Sequence[Any]) -> Flow[None]:
        try:
            yield from Discard(self._inner, namespace, handles)
        finally:
            yield from Clear(self._near, namespace)  # which goes by other handles

    def _clear(self, namespace: str) -> Flow[None]:
        try:
            yield from Clear(self._inner, namespace)
        finally:
            yield from Clear(self._near, namespace)

    def _change(self, key: EntryKey) -> None:
        """Note that who reads ``key`` far away has read what is no longer so; then, near, it is changed too."""
        with self._lock:
            self._changes.note(moment(), key.namespace, key.digest)

    def _is_changed(self, key: EntryKey, began: int) -> bool:
        with self._lock:
            return self._changes.since(began, key.namespace, (key.digest,))

    def _close(self) -> Flow[None]:
        try:
            yield from Close(self._inner)
        finally:
            yield from Close(self._near)
