"""Values that leave the instructions for the end of the prompt: what stands in their place, and where they are said.

In place stands ``[value1: stated at the end]``, and the note, behind everything else, is ``[value1] 2026-01-02
10:00:05``, a line for each. What was retrieved for a question goes before that question, in ``<documents_1>``. Numbers
count from the front of the prompt, so that the instructions are the same in every call. The note is never read from a
cache: it is as short as it can be said.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Move, Part, Request, Role, Tokenizer
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.ranking import is_ranking

_PLACEHOLDER = re.compile(r"\[value(\d{1,4}): stated at the end\]")
_STAND_IN = re.compile(rf"{_PLACEHOLDER.pattern}|\[stated in <documents_\d+>, before the question\]")
_NOTE = re.compile(r"\[value\d{1,4}\] .*", re.DOTALL)
_OURS = re.compile(rf"{_STAND_IN.pattern}|^\[value\d{{1,4}}\] ", re.MULTILINE)
_TEXT_TYPES = {"anthropic_messages": "text", "openai_chat": "text", "openai_responses": "input_text"}
_INSTRUCTIONS = frozenset({"system", "developer"})


class Note(Struct, frozen=True):
    """What stands at the end of a prompt, in a message of its own with this ``role``, or in the user's for ``None``."""

    text: str
    role: Role | None


def has_placeholders(text: str) -> bool:
    """Tell whether values were taken out of ``text``."""
    return _PLACEHOLDER.search(text) is not None


def is_note(text: str) -> bool:
    """Tell whether ``text`` states values that were taken out."""
    return _NOTE.fullmatch(text) is not None


def stated_before(tag: str) -> str:
    """Return what stands in the place of what was retrieved, and stands before the question in these tags."""
    return f"[stated in <{tag}>, before the question]"


def can_be_stated(value: str) -> bool:
    """Tell whether a note can state ``value`` so that nobody takes a line of it for another value."""
    return _OURS.search(value) is None


def own_words(text: str) -> str:
    """Return ``text`` without what stands in it for values and documents that were taken out."""
    return _STAND_IN.sub("", text) if "stated " in text else text


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
    if last < 0 or not request.messages[last].parts:
        return None
    speaker = request.messages[last].role
    if role is not None:
        return Address("messages", last + 1, 0) if speaker in {"user", "tool"} else None
    takes_more = speaker == "user" and not all(map(_is_blank, request.messages[last].parts))
    return Address("messages", last, len(request.messages[last].parts)) if takes_more else None


def _is_blank(part: Part) -> bool:
    """Tell whether nothing is said: as the string of a message that passes, as a block Claude refuses it."""
    return part.kind == "text" and (not part.text or part.text.isspace())


def question(request: Request) -> int | None:
    """Return the message of the user's that is the latest, and holds more than the results of tools.

    ``None`` where that says nothing.
    """
    for index in range(len(request.messages) - 1, -1, -1):
        message = request.messages[index]
        if message.role == "user" and message.parts and not any(part.kind == "tool_result" for part in message.parts):
            return None if all(map(_is_blank, message.parts)) else index
    return None


def without_values(request: Request, moves: Sequence[Move]) -> tuple[Request, Note | None]:
    """Return ``request`` as it is to be planned, with no note at its end, and the note that goes there afterwards.

    Values are taken out of the instructions, documents put before the question and blocks split, as ``moves`` say. A
    marker that the provider would put on the note, which it never reads again, is put on the block before it.
    """
    rest, note = _detached(request)
    values = [move for move in moves if move.reason == "volatile"]
    rest, lines = _cut(rest, [move for move in moves if move.span is not None])
    if lines:
        role = values[0].role if note is None else note.role
        note = Note("\n".join([*([] if note is None else [note.text]), *lines]), role)
    return (rest if note is None else marked_before_note(rest)), note


def with_note(request: Request, note: Note | None) -> Request:
    """Return ``request`` with ``note`` at its end."""
    if note is None:
        return request
    target = note_target(request, note.role)
    if target is None:
        raise ValueError("there is no place for a note")
    part = _text_part(request, note.text)
    messages = list(request.messages)
    if note.role is not None:
        messages.insert(target.index, Message(role=note.role, parts=(part,), raw={"role": note.role}, bare=True))
    else:
        spoken = messages[target.index]
        messages[target.index] = _of_blocks(spoken, (*spoken.parts, part))
    return replace(request, messages=tuple(messages))


def _of_blocks(message: Message, parts: tuple[Part, ...]) -> Message:
    """Return ``message`` with ``parts``; what was the whole input, as a string, becomes a message of its own."""
    return replace(message, parts=parts, raw=message.raw or {"role": message.role}, bare=False)


def _text_part(request: Request, text: str) -> Part:
    return Part(kind="text", raw={"type": _TEXT_TYPES[request.dialect], "text": text}, text=text, markable=True)


def note_tokens(note: Note | None, request: Request, tokenizer: Tokenizer) -> int:
    """Return what ``note`` adds to the prompt."""
    if note is None:
        return 0
    framing = 0 if note.role is None else COSTS[request.dialect].message
    return framing + tokenizer.count(note.text)


def without_note(request: Request) -> Request:
    """Return ``request`` without the note that a plan has put at its end, which no later request begins with."""
    return _detached(request)[0]


def _detached(request: Request) -> tuple[Request, Note | None]:
    """Return ``request`` without the note that an earlier plan put at its end, and that."""
    last = len(request.messages) - 1
    while last >= 0 and request.messages[last].role == "assistant":
        last -= 1
    if last < 0 or not request.messages[last].parts:
        return request, None
    message = request.messages[last]
    text = message.parts[-1].text
    if message.parts[-1].kind != "text" or not _is_note(request, text):
        return request, None
    if message.role in _INSTRUCTIONS and len(message.parts) == 1:
        return _with_messages(request, last, ()), Note(text, message.role)
    if message.role == "user" and len(message.parts) > 1:
        return _with_messages(request, last, (replace(message, parts=message.parts[:-1]),)), Note(text, None)
    return request, None


def _is_note(request: Request, text: str) -> bool:
    if is_ranking(text):
        return True
    return _NOTE.fullmatch(text) is not None and any(has_placeholders(part.text) for _, part in instructions(request))


def _with_messages(request: Request, index: int, messages: tuple[Message, ...]) -> Request:
    return replace(request, messages=(*request.messages[:index], *messages, *request.messages[index + 1 :]))


def _cut(request: Request, moves: Sequence[Move]) -> tuple[Request, list[str]]:
    """Return ``request`` with values replaced, documents moved and blocks split, and the lines of the note."""
    if not moves:
        return request, []
    numbers = [int(found.group(1)) for _, part in instructions(request) for found in _PLACEHOLDER.finditer(part.text)]
    number, lines = max(numbers, default=0), list[str]()
    pieces = defaultdict[Address, list[tuple[int, int, str | None]]](list)
    documents = list[tuple[Address, str]]()
    for move in moves:
        start, end = move.span or (0, 0)
        value = _part(request, move.source).text[start:end]
        match move.reason:
            case "split":
                pieces[move.source].append((start, start, None))
            case "retrieved":
                documents.append((move.target, value))
                pieces[move.source].append((start, end, stated_before(f"documents_{len(documents)}")))
            case _:
                number += 1
                lines.append(f"[value{number}] {value}")
                pieces[move.source].append((start, end, f"[value{number}: stated at the end]"))
    new = {at: _parts(_part(request, at), found) for at, found in pieces.items()}
    return _with_documents(_with_blocks(request, new), documents), lines


def _part(request: Request, at: Address) -> Part:
    return request.system[at.index] if at.section == "system" else request.messages[at.index].parts[at.part or 0]


def _with_documents(request: Request, documents: Sequence[tuple[Address, str]]) -> Request:
    """Return ``request`` with ``documents`` put in front of the message that they go to, one block each."""
    for number, (target, text) in enumerate(documents, start=1):
        part = _text_part(request, f"<documents_{number}>\n{text}\n</documents_{number}>")
        message = request.messages[target.index]
        place = target.part or 0
        parts = (*message.parts[:place], part, *message.parts[place:])
        request = _with_messages(request, target.index, (_of_blocks(message, parts),))
    return request


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


def _with_blocks(request: Request, new: Mapping[Address, tuple[Part, ...]]) -> Request:
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
        messages[index] = replace(message, parts=parts) if len(parts) == 1 else _of_blocks(message, parts)
    bare = request.bare_system and len(system) == len(request.system)
    return replace(request, system=system, messages=tuple(messages), bare_system=bare)


def marked_before_note(request: Request) -> Request:
    """Return ``request`` with its top-level marker on the last block that can carry it, and says something."""
    if request.marker is None:
        return request
    for index in range(len(request.messages) - 1, -1, -1):
        message = request.messages[index]
        for number in range(len(message.parts) - 1, -1, -1):
            part = message.parts[number]
            if part.markable and not _is_blank(part):
                marked = part if part.marker is not None else replace(part, marker=request.marker)
                parts = (*message.parts[:number], marked, *message.parts[number + 1 :])
                return replace(_with_messages(request, index, (replace(message, parts=parts),)), marker=None)
    return replace(request, marker=None)
