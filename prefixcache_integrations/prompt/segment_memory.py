"""How messages read and how long they are, remembered by the object: those of a conversation are the same each turn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, DialectName, Message, Request, Tokenizer
from prefixcache_integrations.prompt.segments import (
    Framing,
    Segment,
    framing_of,
    leading_segments,
    message_segments,
    token_counts,
    trailing_segments,
)


class Counted(NamedTuple):
    """Segments in wire order, and the length of each in tokens."""

    segments: tuple[Segment, ...]
    tokens: tuple[int, ...]


class _Known(NamedTuple):
    """A message that was read, as number ``at`` of its request."""

    message: Message
    at: int
    counted: Counted

    def length(self) -> int:
        """Return of how many bytes it is as it goes to the provider."""
        return sum(len(segment.identity) for segment in self.counted.segments)

    def moved(self, index: int) -> _Known:
        """Return it as it reads as another number."""
        segments = (
            segment if segment.at is None else replace(segment, at=Address("messages", index, segment.at.part))
            for segment in self.counted.segments
        )
        return _Known(self.message, index, Counted(tuple(segments), self.counted.tokens))


_Key: TypeAlias = tuple[DialectName, int, bool, bool]


class SegmentMemory:
    """Remembers the ``size`` messages that were read last, and up to as many before. Not thread-safe.

    Fewer where they are longer than ``max_bytes`` in all, as they go to the provider.
    """

    def __init__(self, tokenizer: Tokenizer, *, size: int = 8192, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.tokenizer = tokenizer
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._recent: dict[_Key, _Known] = {}
        self._before: dict[_Key, _Known] = {}

    def read(self, request: Request) -> Counted:
        """Return `segments` of ``request`` with their lengths. Raises `MalformedRequest` like it."""
        leading, trailing = self._counted(leading_segments(request)), self._counted(trailing_segments(request))
        rows = [leading, *self._messages(request), trailing]
        return Counted(*(tuple(chain.from_iterable(each)) for each in zip(*rows, strict=True)))

    def _messages(self, request: Request) -> Iterator[Counted]:
        framing = framing_of(request)
        padded = framing.padded.index if framing.padded and framing.padded.section == "messages" else None
        dialect = request.dialect
        for index, message in enumerate(request.messages):
            # By the object: nothing that is remembered goes away before it is forgotten.
            key = (dialect, id(message), index < framing.opening, index == padded)
            found = self._recent.get(key)
            if found is None or found.at != index:
                found = self._placed(request, index, framing, self._before.get(key) if found is None else found)
                self._keep(key, found)
            yield found.counted

    def _placed(self, request: Request, index: int, framing: Framing, known: _Known | None) -> _Known:
        if known is None:
            return _Known(request.messages[index], index, self._counted(message_segments(request, index, framing)))
        return known if known.at == index else known.moved(index)

    def _counted(self, segments: tuple[Segment, ...]) -> Counted:
        return Counted(segments, token_counts(segments, self.tokenizer))

    def _keep(self, key: _Key, found: _Known) -> None:
        if key not in self._recent:
            length = found.length()
            if len(self._recent) >= self._size or self._bytes + length > self._max_bytes:
                self._recent, self._before, self._bytes = {}, self._recent, 0
            self._bytes += length
        self._recent[key] = found
