"""Documents that change their place in a request: as a list, and done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Move, Part, Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.pieces import Piece
from prefixcache_integrations.prompt.ranking import ends_in_ranking, ranking
from prefixcache_integrations.prompt.tail_note import Note, marked_before_note, note_target, question
from prefixcache_integrations.prompt.volatile import may_add_note


def may_move(request: Request, profile: CacheProfile, note: Note | None, rules: DocumentRules) -> bool:
    """Tell whether the documents of ``request`` may, behind which ``note`` will stand.

    None does where a note says already in which order they came, nor where one is wanted and has no place.
    """
    if not rules.move or (note is not None and ends_in_ranking(note.text)):
        return False
    return not rules.ranking_note or _ranking_move(request, profile) is not None


def with_ranking(
    request: Request, moves: tuple[Move, ...], profile: CacheProfile, rules: DocumentRules
) -> tuple[Move, ...]:
    """Return ``moves``, and that the order of the latest question's documents is said if they change it."""
    if not moves or not rules.ranking_note:
        return moves
    after = moved(request, moves)
    telling = _ranking_move(after, profile)
    if telling is None or ranking(request, after, telling.source.index) is None:
        return moves
    return (*moves, telling)


def _ranking_move(request: Request, profile: CacheProfile) -> Move | None:
    role, asked = profile.late_instructions, question(request)
    target = note_target(request, role) if may_add_note(request, profile) else None
    if asked is None or target is None:
        return None
    return Move(source=Address("messages", asked), target=target, reason="ranking", role=role)


def rearranged(request: Request, moves: Sequence[Move], note: Note | None) -> tuple[Request, Note | None]:
    """Return ``request`` with its documents moved, and ``note`` with the order in which they came if ``moves`` ask."""
    after = moved(request, moves)
    telling = next((move for move in moves if move.reason == "ranking"), None)
    line = None if telling is None else ranking(request, after, telling.source.index)
    if telling is None or line is None:
        return after, note
    if note is not None:
        return after, replace(note, text=f"{note.text}\n{line}")
    return marked_before_note(after), Note(line, telling.role)


def moves_for(prompt: Sequence[Piece], order: Sequence[int], movable: Sequence[int]) -> tuple[Move, ...]:
    """Return where everything movable goes so that the blocks of ``prompt`` come in ``order``.

    Those that end up in their old place are among them: what stands before them may not. Each of the ``movable``
    blocks goes to the message of the first other block that follows it.
    """
    given = range(len(prompt))
    if order == given or list(order) == list(given):
        return ()
    return tuple(_moves(prompt, order, frozenset(movable)))


def _moves(prompt: Sequence[Piece], order: Sequence[int], movable: frozenset[int]) -> Iterator[Move]:
    message, count = -1, 0
    for number, index in zip(order, _messages(prompt, order, movable), strict=True):
        source = prompt[number].at
        message, count = (message, count) if index == message else (index, 0)
        if number in movable and source is not None:
            yield Move(source=source, target=Address("messages", index, count), reason="documents")
        count += source is not None


def _messages(prompt: Sequence[Piece], order: Sequence[int], movable: frozenset[int]) -> list[int]:
    """Return in which message each block stands in this ``order``, -1 for none."""
    messages, index = list[int](), -1
    for number in reversed(order):
        anchor = prompt[number].at
        if number not in movable:
            index = anchor.index if anchor is not None and anchor.section == "messages" else -1
        messages.append(index)
    return messages[::-1]


def moved(request: Request, moves: Sequence[Move]) -> Request:
    """Return ``request`` with its documents moved: all sources are taken out, then each is put at its target."""
    moves = [move for move in moves if move.reason == "documents"]
    if not moves:
        return request
    parts = {move.source: _part(request, move.source) for move in moves}
    coming = defaultdict[int, list[tuple[int, Part]]](list)
    for move in moves:
        coming[move.target.index].append((move.target.part or 0, parts[move.source]))
    messages = tuple(
        _with_parts(message, index, parts.keys(), sorted(coming[index], key=lambda pair: pair[0]))
        for index, message in enumerate(request.messages)
    )
    return replace(request, messages=messages)


def _part(request: Request, at: Address) -> Part:
    return request.messages[at.index].parts[at.part or 0]


def _with_parts(message: Message, index: int, gone: Collection[Address], coming: Sequence[tuple[int, Part]]) -> Message:
    kept = [part for number, part in enumerate(message.parts) if Address("messages", index, number) not in gone]
    if len(kept) == len(message.parts) and not coming:
        return message
    for place, part in coming:
        kept.insert(place, part)
    return replace(message, parts=tuple(kept), bare=message.bare and len(kept) == 1)
