"""What a flow may ask of the outside, and how its answer is typed.

A flow is a generator: it yields operations, is sent their results, and has errors thrown in where it
yielded. `prefixcache_integrations.runner` drives flows, blocking or awaiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Generator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from msgspec import Struct

from prefixcache_integrations.events import Event

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class EntryKey(Struct, frozen=True, gc=False):
    """Where an entry lives: the tenant boundary, and the response key inside it."""

    namespace: str
    digest: str


class Entry(Struct, frozen=True, kw_only=True):
    """A stored answer. ``codec`` names how ``body`` was written, with its version; readers refuse others."""

    codec: str
    body: bytes


class EntryFacts(Struct, frozen=True, kw_only=True):
    """What a store knows of an entry beside its value.

    ``size`` in bytes as stored, ``age`` in seconds. ``tags`` says what is ``in`` it; where a store keeps names, it is a
    tuple of them, elsewhere it cannot be listed. ``handle`` is what the store itself calls the entry.
    """

    namespace: str
    size: int
    age: float
    tags: Container[str]
    handle: Any

    def answered_by(self, model: str) -> bool:
        """Return whether it is an answer of ``model``."""
        return model_tag(model) in self.tags


def model_tag(model: str) -> str:
    """Return the tag of every entry that ``model`` answered."""
    return f"model:{model}"


class Op(Struct, Generic[T_co], frozen=True):
    """One thing a flow asks for; ``yield from op`` gives its result."""

    def __iter__(self) -> Generator[Op[Any], Any, T_co]:
        """Ask for this operation and return what it came to."""
        result: T_co = yield self
        return result


Flow: TypeAlias = Generator[Op[Any], Any, T]


class Load(Op[Entry | None], frozen=True):
    """Read an entry. ``None`` where there is none; `CorruptEntry` where it cannot be read."""

    key: EntryKey


class Save(Op[int | None], frozen=True):
    """Write an entry for ``ttl`` seconds, for good if ``None``. Its size in bytes, ``None`` if it is not taken.

    ``tags`` are the names by which `Invalidate` will know it. ``began`` is the moment from which on it was asked for,
    after the store was read: what others have deleted since is not taken either. ``None`` where nobody knows.
    """

    key: EntryKey
    entry: Entry
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    began: int | None = None


class Remove(Op[None], frozen=True):
    """Delete an entry, if it is there."""

    key: EntryKey


class Invalidate(Op[None], frozen=True):
    """Delete every entry of a namespace that was written with ``tag``."""

    namespace: str
    tag: str


class ListFacts(Op[Sequence[EntryFacts]], frozen=True):
    """What is known of every entry of a namespace."""

    namespace: str


class Discard(Op[None], frozen=True):
    """Delete the entries of a namespace that go by ``handles``."""

    namespace: str
    handles: Sequence[Any]


class Empty(Op[None], frozen=True):
    """Delete every entry of a namespace, and nothing else."""

    namespace: str


class Call(Op[T_co], frozen=True):
    """What ``action`` returns; where the flow is awaited, ``action`` returns what to await."""

    action: Callable[[], T_co | Awaitable[T_co]]


class Pause(Op[None], frozen=True):
    """Let ``seconds`` pass."""

    seconds: float


class Emit(Op[None], frozen=True):
    """Tell the observers."""

    event: Event
