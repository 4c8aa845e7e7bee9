"""Documents that were looked up for a question: which of them may move, and how far they were moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby

from msgspec import Struct

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.prompt.pieces import Blocks, Piece


class Movable(Struct, frozen=True):
    """The blocks of a prompt by number: ``documents`` may move, ``fixed`` keep their order.

    ``slots`` are the places in ``fixed`` before which documents may stand: the first thing a user says in a message.
    ``room`` are the places from the first to the last before which a document may. ``recognised`` are the documents,
    those that could move but are to stay among them.
    """

    documents: tuple[int, ...]
    fixed: Sequence[int]
    slots: tuple[int, ...]
    room: Mapping[int, range]
    recognised: tuple[int, ...]


def movable(request: Request, blocks: Blocks, keep_top: int = 0) -> Movable:
    """Return which of the ``blocks`` of a prompt are documents that may move.

    Documents with citations stay: answers refer to them by number. So do those that are there twice, those of
    a message that says nothing else, and the first ``keep_top`` of each message, whose others then stay behind them.
    """
    prompt = blocks.pieces
    if not blocks.documents:
        return Movable((), range(len(prompt)), (), {}, ())
    often = Counter(blocks.keys)
    free = {number for number in blocks.documents if often[prompt[number].key] == 1}
    opening = dict(_openings(request, prompt, free))
    recognised = tuple(number for number in sorted(free) if message_of(prompt[number]) in opening)
    kept = set(_kept(recognised, prompt, opening, keep_top))
    documents = tuple(number for number in recognised if number not in kept)
    fixed = sorted(set(range(len(prompt))).difference(documents))
    places = {number: place for place, number in enumerate(fixed)}
    slots = {message: places[number] for message, number in opening.items()}
    anywhere = range(max(slots.values(), default=0) + 1)
    homes = {number: slots[message_of(prompt[number])] for number in documents}
    room = {number: range(home, home + 1) if keep_top else anywhere for number, home in homes.items()}
    return Movable(documents, tuple(fixed), tuple(slots.values()), room, recognised)


def _kept(
    documents: Sequence[int], prompt: Sequence[Piece], opening: Mapping[int, int], keep_top: int
) -> Iterator[int]:
    """Yield the first ``keep_top`` documents of each message, and all of one where these are behind what it says."""
    for message, together in groupby(documents, key=lambda number: message_of(prompt[number])):
        numbers = list(together)
        first = numbers[:keep_top]
        yield from numbers if first and first[-1] > opening[message] else first


def _openings(request: Request, prompt: Sequence[Piece], free: set[int]) -> Iterator[tuple[int, int]]:
    """Yield each user message that has something of its own to say, with the first block of that."""
    seen = set[int]()
    for number, piece in enumerate(prompt):
        index = message_of(piece)
        if index < 0 or index in seen or request.messages[index].role != "user" or number in free:
            continue
        if piece.at is not None and not piece.answers and not piece.blank:
            seen.add(index)
            yield index, number


def message_of(piece: Piece) -> int:
    """Return the number of the message a block belongs to, -1 for none."""
    return piece.at.index if piece.at is not None and piece.at.section == "messages" else -1


def distance(order: Sequence[int], found: Movable, prompt: Sequence[Piece]) -> float:
    """Return how far ``order`` is from the one in which documents came: normalised Kendall tau distance, 0 to 1.

    It is that of all documents, or of the message whose have changed most, if that is more.
    """
    recognised = set(found.recognised)
    documents = [number for number in order if number in recognised]
    together = dict[int, list[int]]()
    for number in documents:
        together.setdefault(message_of(prompt[number]), []).append(number)
    return max(map(_inverted, (documents, *together.values())))


def _inverted(numbers: Sequence[int]) -> float:
    pairs = list(combinations(numbers, 2))
    return sum(one > other for one, other in pairs) / len(pairs) if pairs else 0.0
