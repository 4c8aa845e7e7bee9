"""Values that leave the instructions for the end of the prompt: what stands in their place, and the note that has them.

In place stands ``[value 1: stated at the end]``, and the note, behind everything else, is ``[value 1: 2026-01-02
10:00:05]``, a line for each. The numbers count from the front of the prompt, so that the instructions are the same in
every call.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Move, Part, Request, Role, Tokenizer
from prefixcache_integrations.prompt.segments import MESSAGE_TOKENS

_PLACEHOLDER = re.compile(r"\[value (\d{1,4}): stated at the end\]")
_NOTE = re.compile(r"\[value \d{1,4}: .*\]", re.DOTALL)
_TEXT_TYPES = {"anthropic_messages": "text", "openai_chat": "text", "openai_responses": "input_text"}
_INSTRUCTIONS = frozenset({"system", "developer"})


class Note(Struct, frozen=True):
    """What stands at the end of a prompt, in a message of its own with this ``role``, or in the user's for ``None``."""

    text: str
    role: Role | None


def placeholders(text: str) -> list[tuple[int, int]]:
    """Return where values were taken out of ``text``, in characters."""
    return [match.span() for match in _PLACEHOLDER.finditer(text)]


def instructions(request: Request) -> Iterator[tuple[Address, Part]]:
    """Yield every block of text that leads the prompt: the system prompt, and messages of its role in front."""
    for index, part in enumerate(request.system):
        if part.kind == "text":
            yield Address("system", index), part
    for index, message in enumerate(request.messages):
        if message.role not in _INSTRUCTIONS:
            return
        for number, part in enumerate(message.parts):
            if part.kind == "text":
                yield Address("messages", index, number), part


def note_target(request: Request, role: Role | None) -> Address | None:
    """Return where a note of new values goes, ``None`` where there is no place.

    A message of ``role`` follows the last message of the user or a tool; without a role, the note becomes the last
    block of the last message, which must be the user's. An answer that was begun for the model stays last. Claude docs,
    *Mid-conversation system messages*: they follow the user's turn, and precede the assistant's or end the list.
    """
    last = len(request.messages) - 1
    while last >= 0 and request.messages[last].role == "assistant":
        last -= 1
    spoken = request.messages[last].role if last >= 0 else None
    if role is not None:
        return Address("messages", last + 1, 0) if spoken in {"user", "tool"} else None
    parts = request.messages[last].parts if spoken == "user" else ()
    return Address("messages", last, len(parts)) if parts else None


def without_values(request: Request, moves: Sequence[Move]) -> tuple[Request, Note | None]:
    """Return ``request`` as it is to be planned, with no note at its end, and the note that goes there afterwards.

    Values are taken out of the instructions and blocks are split as ``moves`` say. A marker that the provider would
    put on the note, which it never reads again, is put on the block before it.
    """
    rest, note = _detached(request)
    values = [move for move in moves if move.reason == "volatile"]
    rest, lines = _cut(rest, [move for move in moves if move.reason in {"volatile", "split"}])
    if lines:
        role = values[0].role if note is None else note.role
        note = Note("\n".join([*([] if note is None else [note.text]), *lines]), role)
    return (rest if note is None else _marked_before_note(rest)), note


def with_note(request: Request, note: Note | None) -> Request:
    """Return ``request`` with ``note`` at its end."""
    if note is None:
        return request
    target = note_target(request, note.role)
    if target is None:
        raise ValueError("there is no place for a note")
    part = Part(
        kind="text",
        raw={"type": _TEXT_TYPES[request.dialect], "text": note.text},
        text=note.text,
        markable=True,
    )
    messages = list(request.messages)
    if note.role is not None:
        messages.insert(target.index, Message(role=note.role, parts=(part,), raw={"role": note.role}, bare=True))
    else:
        spoken = messages[target.index]
        messages[target.index] = replace(spoken, parts=(*spoken.parts, part), bare=False)
    return replace(request, messages=tuple(messages))


def note_tokens(note: Note | None, request: Request, tokenizer: Tokenizer) -> int:
    """Return what ``note`` adds to the prompt."""
    if note is None:
        return 0
    framing = MESSAGE_TOKENS if note.role is not None and request.dialect != "anthropic_messages" else 0
    return framing + tokenizer.count(note.text)


def _detached(request: Request) -> tuple[Request, Note | None]:
    """Return ``request`` without the note that an earlier plan put at its end, and that."""
    if not any(_PLACEHOLDER.search(part.text) for _, part in instructions(request)):
        return request, None
    last = len(request.messages) - 1
    while last >= 0 and request.messages[last].role == "assistant":
        last -= 1
    if last < 0 or not request.messages[last].parts:
        return request, None
    message = request.messages[last]
    text = message.parts[-1].text
    if message.parts[-1].kind != "text" or not _NOTE.fullmatch(text):
        return request, None
    if message.role in _INSTRUCTIONS and len(message.parts) == 1:
        return _with_messages(request, last, ()), Note(text, message.role)
    if message.role == "user" and len(message.parts) > 1:
        return _with_messages(request, last, (replace(message, parts=message.parts[:-1]),)), Note(text, None)
    return request, None


def _with_messages(request: Request, index: int, messages: tuple[Message, ...]) -> Request:
    return replace(request, messages=(*request.messages[:index], *messages, *request.messages[index + 1 :]))


def _cut(request: Request, moves: Sequence[Move]) -> tuple[Request, list[str]]:
    """Return ``request`` with values replaced and blocks split, and the lines of the note."""
    if not moves:
        return request, []
    numbers = [int(found.group(1)) for _, part in instructions(request) for found in _PLACEHOLDER.finditer(part.text)]
    number, lines = max(numbers, default=0), list[str]()
    pieces = defaultdict[Address, list[tuple[int, int, str | None]]](list)
    texts = {at: part.text for at, part in instructions(request)}
    for move in moves:
        start, end = move.span or (0, 0)
        if move.reason == "split":
            pieces[move.source].append((start, start, None))
            continue
        number += 1
        lines.append(f"[value {number}: {texts[move.source][start:end]}]")
        pieces[move.source].append((start, end, f"[value {number}: stated at the end]"))
    new = {at: _parts(part, pieces[at]) for at, part in instructions(request) if at in pieces}
    return _with_instructions(request, new), lines


def _parts(part: Part, pieces: Sequence[tuple[int, int, str | None]]) -> tuple[Part, ...]:
    """Return what becomes of a block: its text with other pieces in it, cut at those that are ``None``."""
    texts, done = [""], 0
    for start, end, piece in sorted(pieces, key=lambda each: each[:2]):
        texts[-1] += part.text[done:start] + (piece or "")
        if piece is None:
            texts.append("")
        done = end
    texts[-1] += part.text[done:]
    blocks = [replace(part, text=text, raw={**part.raw, "text": text} if part.raw else {}) for text in texts]
    return (*(replace(block, marker=None) for block in blocks[:-1]), blocks[-1])


def _with_instructions(request: Request, new: Mapping[Address, tuple[Part, ...]]) -> Request:
    system = tuple(
        block for index, part in enumerate(request.system) for block in new.get(Address("system", index), (part,))
    )
    messages = list(request.messages)
    for index in {at.index for at in new if at.section == "messages"}:
        message = messages[index]
        parts = tuple(
            block
            for number, part in enumerate(message.parts)
            for block in new.get(Address("messages", index, number), (part,))
        )
        messages[index] = replace(message, parts=parts, bare=message.bare and len(parts) == 1)
    bare = request.bare_system and len(system) == len(request.system)
    return replace(request, system=system, messages=tuple(messages), bare_system=bare)


def _marked_before_note(request: Request) -> Request:
    """Return ``request`` with its top-level marker on the last block that can carry it."""
    if request.marker is None:
        return request
    for index in range(len(request.messages) - 1, -1, -1):
        message = request.messages[index]
        for number in range(len(message.parts) - 1, -1, -1):
            part = message.parts[number]
            if part.markable:
                marked = part if part.marker is not None else replace(part, marker=request.marker)
                parts = (*message.parts[:number], marked, *message.parts[number + 1 :])
                return replace(_with_messages(request, index, (replace(message, parts=parts),)), marker=None)
    return replace(request, marker=None)
