"""Thinking that a model no longer reads: some drop that of earlier turns once a user says something new.

Claude docs, *Thinking*: with anything but tool results in a user's message, Opus before 4.5, Sonnet before 4.6 and
Haiku up to 4.5 leave out all thinking before it. What was cached behind that is not found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.segment_memory import Counted, SegmentMemory


def read_segments(request: Request, profile: CacheProfile, memory: SegmentMemory) -> Counted:
    """Return the segments of ``request``, but those that the model does not read."""
    dropped = dropped_thinking(request, profile)
    found = memory.read(request)
    if not dropped:
        return found
    is_read = [segment.at not in dropped for segment in found.segments]
    return Counted(tuple(compress(found.segments, is_read)), tuple(compress(found.tokens, is_read)))


def dropped_thinking(request: Request, profile: CacheProfile) -> frozenset[Address]:
    """Return the places of the thinking in ``request`` that the model does not read."""
    return frozenset(_thinking(request, 0, last_said(request.messages) if profile.strips_thinking else 0))


def kept_thinking(request: Request, profile: CacheProfile, until: int) -> Address | None:
    """Return the first thinking before message ``until`` that the model reads, ``None`` without any."""
    start = last_said(request.messages) if profile.strips_thinking else 0
    return min(_thinking(request, start, until), default=None)


def last_said(messages: Sequence[Message], since: int = 1) -> int:
    """Return the number of the last message in which a user says something, which tool results do not.

    It is 0 where there is none from number ``since`` on.
    """
    return next((number for number in range(len(messages) - 1, since - 1, -1) if _says(messages[number])), 0)


def _says(message: Message) -> bool:
    return message.role == "user" and any(part.kind != "tool_result" for part in message.parts)


def without_thinking(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return ``messages`` without the thinking in them."""
    return tuple(
        replace(message, parts=tuple(part for part in message.parts if part.kind != "thinking"))
        if any(part.kind == "thinking" for part in message.parts)
        else message
        for message in messages
    )


def _thinking(request: Request, start: int, end: int) -> list[Address]:
    return [
        Address("messages", index, number)
        for index, message in enumerate(request.messages[start:end], start=start)
        for number, part in enumerate(message.parts)
        if part.kind == "thinking"
    ]
