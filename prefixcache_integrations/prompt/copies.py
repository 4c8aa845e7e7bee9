"""Documents that a conversation has twice: which are left out the second time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Move, Part, Request
from prefixcache_integrations.prompt.content import is_document, wire_form
from prefixcache_integrations.prompt.identity import wire_bytes
from prefixcache_integrations.prompt.tail_note import is_note


def copies(request: Request) -> Iterator[Move]:
    """Yield the documents in the user's messages that are, byte for byte, one before them, which is their target.

    Those of a message that says nothing else stay. What is left out depends on what comes before it alone, so that a
    conversation that goes on keeps its beginning.
    """
    first = dict[bytes, Address]()
    for index, message in enumerate(request.messages):
        if message.role != "user":
            continue
        for number in [number for number, part in enumerate(message.parts) if is_document(part)]:
            at = Address("messages", index, number)
            original = first.setdefault(wire_bytes(wire_form(message.parts[number]), at), at)
            if original != at and _speaks(message):
                yield Move(source=at, target=original, reason="copy")


def _speaks(message: Message) -> bool:
    """Tell whether the user says something; a note at the end that an earlier plan added is none."""
    said = (part for part in message.parts if part.kind != "tool_result" and not is_note(part.text))
    return not all(map(is_document, said))


def without_copies(request: Request, moves: Sequence[Move]) -> Request:
    """Return ``request`` without the copies among ``moves``; the marker of one goes to the block before it."""
    gone = {move.source for move in moves if move.reason == "copy"}
    if not gone:
        return request
    messages = list(request.messages)
    for index in {at.index for at in gone}:
        numbers = {at.part for at in gone if at.index == index}
        messages[index] = replace(messages[index], parts=_without(messages[index].parts, numbers))
    return replace(request, messages=tuple(messages))


def _without(parts: Sequence[Part], gone: Collection[int | None]) -> tuple[Part, ...]:
    kept = list[Part]()
    for number, part in enumerate(parts):
        if number not in gone:
            kept.append(part)
        elif kept and part.marker is not None and kept[-1].markable and kept[-1].marker is None:
            kept[-1] = replace(kept[-1], marker=part.marker)
    return tuple(kept)
