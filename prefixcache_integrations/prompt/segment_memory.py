"""How messages read and how long they are, remembered by the object: those of a conversation are the same each turn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias

from prefixcache_integrations.canonical import DialectName, Message, Request, Tokenizer
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


_Key: TypeAlias = tuple[DialectName, int, int, bool, bool]


class SegmentMemory:
    """Remembers the ``size`` messages that were read last, and up to as many before. Not thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, size: int = 8192) -> None:
        self.tokenizer = tokenizer
        self._size = size
        self._recent: dict[_Key, tuple[Message, Counted]] = {}
        self._before: dict[_Key, tuple[Message, Counted]] = {}

    def read(self, request: Request) -> Counted:
        """Return `segments` of ``request`` with their lengths. Raises `MalformedRequest` like it."""
        leading, trailing = self._counted(leading_segments(request)), self._counted(trailing_segments(request))
        rows = [leading, *self.added(request, 0), trailing]
        return Counted(*(tuple(chain.from_iterable(each)) for each in zip(*rows, strict=True)))

    def added(self, request: Request, since: int) -> Iterator[Counted]:
        """Yield what there is of each message from number ``since`` on."""
        framing = framing_of(request)
        padded = framing.padded.index if framing.padded and framing.padded.section == "messages" else None
        dialect, messages = request.dialect, request.messages
        for index in range(since, len(messages)):
            # By the object: nothing that is remembered goes away before it is forgotten.
            key = (dialect, id(messages[index]), index, index < framing.opening, index == padded)
            found = self._recent.get(key) or self._promoted(key)
            yield found[1] if found is not None else self._new(request, index, framing, key)

    def _promoted(self, key: _Key) -> tuple[Message, Counted] | None:
        found = self._before.get(key)
        if found is not None:
            self._keep(key, found)
        return found

    def _new(self, request: Request, index: int, framing: Framing, key: _Key) -> Counted:
        made = self._counted(message_segments(request, index, framing))
        self._keep(key, (request.messages[index], made))
        return made

    def _counted(self, segments: tuple[Segment, ...]) -> Counted:
        return Counted(segments, token_counts(segments, self.tokenizer))

    def _keep(self, key: _Key, found: tuple[Message, Counted]) -> None:
        if len(self._recent) >= self._size:
            self._recent, self._before = {}, self._recent
        self._recent[key] = found
