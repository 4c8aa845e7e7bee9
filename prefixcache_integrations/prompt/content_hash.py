"""What a message says as a number, several times as fast as a digest: by it one is known again within a process.

The strings of a conversation are the same objects from turn to turn, and know their hashes.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence

from prefixcache_integrations.canonical import CacheMarker, JsonObject, Kept, Message, Part

_PLAIN = 2
"""How many fields a block has that says one thing: its type and that."""

_CALL = 4
"""How many fields a tool call has that says no more than every one: its type, id, name and arguments."""


def heads_of(messages: Sequence[Message]) -> tuple[int, ...]:
    """Return a hash of all that is said up to and with each message. Raises ValueError like `written`."""
    if isinstance(messages, Kept):
        return messages.heads
    heads, head = list[int](), 0
    for message in messages:
        raw, parts = message.raw, message.parts
        own = 0 if len(raw) == 1 else _fields_hash(raw)
        if len(parts) != 1:
            head = hash((head, message.role, own, *map(part_hash, parts)))
        elif message.bare and parts[0].marker is None:
            head = hash((head, message.role, own, parts[0].text))
        else:
            head = hash((head, message.role, own, part_hash(parts[0])))
        heads.append(head)
    return tuple(heads)


def part_hash(part: Part) -> int:
    """Return a hash of a block, its marker included. Raises ValueError like `written`."""
    raw, text = part.raw, part.text
    if len(raw) == _PLAIN and part.marker is None:
        if raw.get("text") is text:
            return hash((text, raw.get("type"), *raw))
        content = part.content
        if part.bare and len(content) == 1 and content[0].marker is None:
            answered = _fields_hash(raw) if part.call_id is None else hash((part.call_id, *raw))
            return hash((answered, content[0].text))
    if len(raw) == _CALL and part.kind == "tool_call" and part.marker is None:
        return hash((text, part.call_id, part.name, *raw))
    own = written(raw) if raw else (part.kind, text, part.call_id, part.name)
    return hash((own, marker_hash(part.marker), *map(part_hash, part.content)))


def _fields_hash(raw: JsonObject) -> int:
    """Return a hash of the fields of a message or block: few and flat as they mostly are, it takes no writing."""
    if len(raw) <= _PLAIN:
        try:
            return hash((*raw, *raw.values(), *map(type, raw.values())))
        except TypeError:  # a list or an object
            pass
    return hash(written(raw))


def marker_hash(marker: CacheMarker | None) -> int:
    """Return a hash of a marker; 0 without one."""
    return 0 if marker is None else hash((marker.ttl, written(marker.raw)))


def written(value: object) -> bytes:
    """Return ``value`` as bytes that tell it from any other, with the order of its keys and the types of its numbers.

    Raises ValueError for what is no JSON. Several times as fast as writing JSON.
    """
    return marshal.dumps(value, 2)  # type: ignore[arg-type] # that is what it tells
