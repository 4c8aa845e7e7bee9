"""The response cache's conversations with its store: read an answer, keep one, empty a namespace.

A store that fails costs an event and a miss, never an exception; an answer that was paid for is never
lost to one. Here are the steps; `open_settle` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, Literal, TypeVar

from msgspec import Struct

from prefixcache_integrations.canonical import Response
from prefixcache_integrations.errors import AnswerNotCached, CorruptEntry
from prefixcache_integrations.events import (
    EntryRejected,
    EntryStored,
    Labels,
    StoreDegraded,
    StoreOperation,
)
from prefixcache_integrations.flows.deletions import Outdated
from prefixcache_integrations.flows.flights import GiveUp
from prefixcache_integrations.flows.op import (
    Discard,
    Emit,
    Empty,
    Entry,
    EntryFacts,
    EntryKey,
    Flow,
    Invalidate,
    ListFacts,
    Load,
    Remove,
    Save,
    model_tag,
)
from prefixcache_integrations.flows.policy import objection

T = TypeVar("T")

DEFAULT_PATIENCE = 60.0

_DELETED_SINCE = "what is like it was deleted since it was asked for"


class Terms(Struct, frozen=True, kw_only=True):
    """How one request is cached. ``ttl`` in seconds, ``None`` for good.

    ``tags`` are the names by which what is kept can be invalidated; its model always is one (`model_tag`).
    ``mode`` is ``refresh`` where what is stored is not to be read, and ``only`` where nothing but what is stored will
    do. ``bypass`` is why it is neither looked up nor stored, ``None`` where it is cached. ``patience`` is how many
    seconds it may wait for another's call of the same.
    """

    key: EntryKey
    model: str | None = None
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["use", "refresh", "only"] = "use"
    bypass: str | None = None
    patience: float = DEFAULT_PATIENCE

    @property
    def labels(self) -> Labels:
        """What events say of whom the request is for."""
        return Labels(namespace=self.key.namespace or None, tags=self.tags)


class Reading(Struct, Generic[T], frozen=True):
    """What reading the store came to: an entry and what it says, or neither. ``failed`` says that it could not be."""

    entry: Entry | None = None
    answer: T | None = None
    failed: bool = False


def missing(terms: Terms) -> None:
    """Let the call go on without a stored answer. Raises `AnswerNotCached` where it must not."""
    if terms.mode == "only":
        raise AnswerNotCached("the response cache has no answer to this request, and was to be the only one asked")


def read(terms: Terms, revive: Callable[[Entry], T]) -> Flow[Reading[T]]:
    """Read the store and say nothing of what was there; only a failure and a rejected entry are told."""
    if terms.mode == "refresh":
        return Reading()
    try:
        entry: Entry | None = yield Load(terms.key)
        return Reading(entry, None if entry is None else revive(entry))
    except Exception as error:  # noqa: BLE001 - whatever a store raises, the call goes on without it
        return (yield from unread(terms.key, error))


def unread(key: EntryKey, error: Exception) -> Flow[Reading[T]]:
    """Tell why what was asked for was not read, and delete what cannot be."""
    if isinstance(error, CorruptEntry):
        yield from _discard(key, str(error))
        return Reading()
    yield from degraded("get", error)
    return Reading(failed=True)


def accepted(terms: Terms, answers: Sequence[Response], pack: Callable[[], Entry | None]) -> Flow[Entry | None]:
    """Return what ``pack`` makes of ``answers``, ``None`` if policy objects or they cannot be written down in full.

    That is told; ``pack`` is called only if it is needed.
    """
    reason = terms.bypass or objection(answers)
    entry = None if reason else pack()
    if entry is None:
        yield from Emit(EntryRejected(key=terms.key.digest, reason=reason or "cannot be written down in full"))
    return entry


def save(terms: Terms, entry: Entry, began: int | None) -> Flow[bool]:
    """Store ``entry`` and tell what came of it; return whether it still counts, or was deleted since ``began``."""
    tags = _tags(terms.tags, terms.model)
    outdated = Outdated(terms.key.namespace, tags, began)
    if (yield from outdated):
        yield from Emit(EntryRejected(key=terms.key.digest, reason=_DELETED_SINCE))
        return False
    try:
        size = yield from Save(terms.key, entry, terms.ttl, tags, began)
    except Exception as error:  # noqa: BLE001 - whatever a store raises, the answer is already there
        yield from degraded("put", error)
        return True
    if (yield from outdated):  # while it was written: the store may have been emptied before it was there
        yield from _discard(terms.key, _DELETED_SINCE)
        return False
    yield from Emit(
        EntryRejected(key=terms.key.digest, reason="not taken by the store")
        if size is None
        else EntryStored(key=terms.key.digest, size=size)
    )
    return True


@lru_cache(maxsize=256)
def _tags(tags: tuple[str, ...], model: str | None) -> tuple[str, ...]:
    """Return all tags of an entry: the same object for all that share them, as there may be many in memory."""
    return tags if model is None else (*tags, model_tag(model))


def invalidate(namespace: str, tag: str) -> Flow[None]:
    """Delete the entries of ``namespace`` that carry ``tag``. As with `empty`, a failing store is an error."""
    yield from GiveUp(namespace, tag)
    try:
        yield from Invalidate(namespace, tag)
    except Exception as error:
        yield from degraded("invalidate", error)
        raise


def invalidate_where(namespace: str, where: Callable[[EntryFacts], object]) -> Flow[None]:
    """Delete the entries of ``namespace`` of which ``where`` is true. As with `empty`, a failing store is an error.

    Of what is asked for nobody can say yet whether it would be: none of it is kept.
    """
    yield from GiveUp(namespace)
    try:
        entries = yield from ListFacts(namespace)
    except Exception as error:
        yield from degraded("invalidate", error)
        raise
    doomed = [entry.handle for entry in entries if where(entry)]
    try:
        yield from Discard(namespace, doomed)
    except Exception as error:
        yield from degraded("invalidate", error)
        raise


def empty(namespace: str) -> Flow[None]:
    """Delete every entry of ``namespace``. Here a failing store is an error: nothing was deleted.

    Who waits for a call of this namespace waits no longer: what was asked before is not what is wanted now.
    """
    yield from GiveUp(namespace)
    try:
        yield from Empty(namespace)
    except Exception as error:
        yield from degraded("clear", error)
        raise


def _discard(key: EntryKey, reason: str) -> Flow[None]:
    yield from Emit(EntryRejected(key=key.digest, reason=reason))
    try:
        yield from Remove(key)
    except Exception as error:  # noqa: BLE001 - as above: the entry stays, and stays unread
        yield from degraded("delete", error)


def degraded(operation: StoreOperation, error: Exception) -> Flow[None]:
    """Tell that the store failed; ``error`` by name, for drivers quote values in their messages."""
    cause = error.__cause__ or error
    name = type(error).__name__ if cause is error else f"{type(error).__name__} ({type(cause).__name__})"
    yield from Emit(StoreDegraded(operation=operation, error=name))
