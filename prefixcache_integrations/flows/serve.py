"""The whole conversation of one cached call: look up, join or lead, call, keep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from prefixcache_integrations.canonical import Response
from prefixcache_integrations.flows.flights import landing
from prefixcache_integrations.flows.op import Call, Entry, Flow
from prefixcache_integrations.flows.open_settle import open_call, settle
from prefixcache_integrations.flows.response_cache import Terms

T = TypeVar("T")


class Codec(Protocol[T]):
    """How answers of one kind are written down and read back."""

    def read(self, entry: Entry) -> T:
        """Return the answer in ``entry``, a new object each time. Raises `CorruptEntry` for what is none."""
        ...

    def write(self, answer: T) -> Entry | None:
        """Return ``answer`` as an entry, ``None`` where it cannot be written down in full."""
        ...

    def responses(self, answer: T) -> Sequence[Response]:
        """Return what policy asks of ``answer``."""
        ...


class Served(Struct, Generic[T], frozen=True, kw_only=True):
    """An answer, and where it came from: the store, another's call, or the caller's own ("miss", "bypass")."""

    answer: T
    outcome: Literal["hit", "joined", "miss", "bypass"]


def serve(terms: Terms, call: Callable[[], T | Awaitable[T]], codec: Codec[T]) -> Flow[Served[T]]:
    """Return the stored answer, or that of another who asks the same at this moment, or what ``call`` returns.

    An error of ``call`` is its caller's alone, whose key or timeout may be why: who waits for it calls for himself.
    Cancelled, one of them calls in its place.
    """
    opened = yield from open_call(terms, codec.read)
    if opened.answer is not None:
        return Served(answer=opened.answer, outcome=opened.outcome)
    with landing(opened.flight):
        answer = yield from Call(call)
        yield from settle(terms, codec.responses(answer), lambda: codec.write(answer), opened.began)
    return Served(answer=answer, outcome=opened.outcome)
