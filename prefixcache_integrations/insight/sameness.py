"""Which messages of two requests are the same on the wire, cache markers apart: told in bulk, as most are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress
from operator import is_not

import msgspec

from prefixcache_integrations.canonical import JsonObject, Message
from prefixcache_integrations.prompt.content import wire_form

_encode = msgspec.msgpack.Encoder().encode


def grown(known: tuple[Message, ...], messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """Return ``messages`` if they begin with all the known ones, and these as the very same objects; else ``None``.

    What came as other objects is compared once here, and by identity from then on. Messages whose markers differ stay
    the new ones. The last is compared first: it tells most conversations apart.
    """
    old, new = known, messages[: len(known)]
    if not old or len(new) < len(old):
        return None
    changed = [*compress(range(len(old)), map(is_not, old, new))]
    if not changed:
        return messages
    shared = [*old, *messages[len(old) :]]
    for index in _unequal(old, new, changed[::-1]):
        if not _are_same_but_for_markers(old[index], new[index]):
            return None
        shared[index] = new[index]
    return tuple(shared)


def are_same_messages(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Compare as many messages but for their markers: most are the same objects."""
    changed = [*compress(range(len(old)), map(is_not, old, new))]
    return all(_are_same_but_for_markers(old[index], new[index]) for index in _unequal(old, new, changed))


def _unequal(old: Sequence[Message], new: Sequence[Message], changed: Sequence[int]) -> Iterator[int]:
    """Yield those of the numbers ``changed`` at which messages differ as they are written, markers included.

    Equality is not enough: in ``{"a": 1, "b": 2}`` the order counts, and 1 is equal to 1.0.
    """
    for index in changed:
        try:
            if _encode(old[index]) != _encode(new[index]):
                yield index
        except _NO_JSON:
            yield index


def _are_same_but_for_markers(old: Message, new: Message) -> bool:
    return are_same_json([_form(old)], [_form(new)])


def _form(message: Message) -> JsonObject:
    """Return what the provider sees of a message, which has no markers."""
    return {
        "role": message.role,
        "name": message.raw.get("name") or "",
        "parts": [wire_form(part) for part in message.parts],
    }


def written_size(values: Iterable[object]) -> int:
    """Return of how many bytes ``values`` are, written down; what is no JSON counts nothing."""
    size = 0
    for value in values:
        with suppress(*_NO_JSON):
            size += len(_encode(value))
    return size


def are_same_json(old: Sequence[JsonObject], new: Sequence[JsonObject]) -> bool:
    """Compare JSON in wire order; what is no JSON is not the same."""
    if len(old) != len(new):
        return False
    if all(left is right for left, right in zip(old, new, strict=True)):
        return True
    try:
        return _encode(old) == _encode(new)
    except _NO_JSON:
        return False


_NO_JSON = (TypeError, ValueError, OverflowError, RecursionError)
