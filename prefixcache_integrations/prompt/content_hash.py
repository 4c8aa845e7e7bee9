"""What a message says as a number, several times as fast as a digest: by it one is known again within a process.

The strings of a conversation are the same objects from turn to turn, and know their hashes.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator

from prefixcache_integrations.canonical import CacheMarker, Message, Part


def message_hashes(messages: Iterable[Message], seed: int) -> Iterator[int]:
    """Yield a hash of all that is said up to and with each message. Raises ValueError like `written`."""
    for message in messages:
        own = written(message.raw) if len(message.raw) != 1 else b""
        seed = hash((seed, message.role, own, *map(part_hash, message.parts)))
        yield seed


def part_hash(part: Part) -> int:
    """Return a hash of a block, its marker included. Raises ValueError like `written`."""
    raw, text = part.raw, part.text
    if len(raw) == 2 and raw.get("text") is text and part.marker is None:  # noqa: PLR2004 - and its type
        return hash((text, raw.get("type"), *raw))
    own = written(raw) if raw else (part.kind, text, part.call_id, part.name)
    return hash((own, marker_hash(part.marker), *map(part_hash, part.content)))


def marker_hash(marker: CacheMarker | None) -> int:
    """Return a hash of a marker; 0 without one."""
    return 0 if marker is None else hash((marker.ttl, written(marker.raw)))


def written(value: object) -> bytes:
    """Return ``value`` as bytes that tell it from any other, with the order of its keys and the types of its numbers.

    Raises ValueError for what is no JSON. Several times as fast as writing JSON.
    """
    return marshal.dumps(value, 2)  # type: ignore[arg-type] # that is what it tells
