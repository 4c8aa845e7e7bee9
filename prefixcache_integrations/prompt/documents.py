"""Documents that were looked up for a question: which of them may move, and in which orders they could be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby

from msgspec import Struct

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.pieces import Block, Blocks, Piece
from prefixcache_integrations.prompt.prospects import Company, is_cached
from prefixcache_integrations.prompt.stability import Snapshot

LOOKS = 400
"""How many earlier prefixes a search for an order looks at, at most."""

CORES = 8
"""How many similar requests give an order of their own: what both have leads."""


class Movable(Struct, frozen=True):
    """The blocks of a prompt by number: ``documents`` may move, ``fixed`` keep their order.

    ``slots`` are the places in ``fixed`` before which documents may stand: the first thing a user says in a message.
    ``room`` are the places from the first to the last before which a document may. ``recognised`` are the documents,
    those that could move but are to stay among them; ``looked_up`` those of them that are new in a conversation.
    """

    documents: tuple[int, ...]
    fixed: Sequence[int]
    slots: tuple[int, ...]
    room: Mapping[int, range]
    recognised: tuple[int, ...]
    looked_up: tuple[int, ...]


def movable(request: Request, blocks: Blocks, keep_top: int = 0, settled: int = 0) -> Movable:
    """Return which of the ``blocks`` of a prompt are documents that may move.

    Documents with citations stay: answers refer to them by number. So do those that are there twice, those of
    a message that says nothing else, and the first ``keep_top`` of each message, whose others then stay behind them,
    and those among the first ``settled`` blocks: the conversation was sent with these where they are.
    """
    prompt = blocks.pieces
    if not blocks.documents:
        return Movable((), range(len(prompt)), (), {}, (), ())
    often = Counter(blocks.keys)
    free = {number for number in blocks.documents if often[prompt[number].key] == 1}
    opening = dict(_openings(request, prompt, free))
    recognised = tuple(number for number in sorted(free) if message_of(prompt[number]) in opening)
    kept = set(_kept(recognised, prompt, opening, keep_top))
    looked_up = tuple(number for number in recognised if number >= settled)
    documents = tuple(number for number in looked_up if number not in kept)
    fixed = sorted(set(range(len(prompt))).difference(documents))
    places = {number: place for place, number in enumerate(fixed)}
    slots = {message: places[number] for message, number in opening.items()}
    anywhere = range(max(slots.values(), default=0) + 1)
    homes = {number: slots[message_of(prompt[number])] for number in documents}
    room = {number: range(home, home + 1) if keep_top else anywhere for number, home in homes.items()}
    return Movable(documents, tuple(fixed), tuple(slots.values()), room, recognised, looked_up)


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
        if piece.at is not None and not piece.answers:
            seen.add(index)
            yield index, number


def message_of(piece: Piece) -> int:
    """Return the number of the message a block belongs to, -1 for none."""
    return piece.at.index if piece.at is not None and piece.at.section == "messages" else -1


def orders(
    blocks: Sequence[Block], around: Company, found: Movable, profile: CacheProfile, snapshot: Snapshot
) -> Iterator[tuple[int, ...]]:
    """Yield orders of ``blocks`` that could pay, none that depends on the order they came in.

    First the one that follows an order sent before as far as that goes; then, for the requests most like this one,
    what they have in common in front. What is left goes before the last question, the likeliest to return first.
    """
    by_key = dict(sorted((blocks[number].key, number) for number in found.documents))
    path = _longest_path(blocks, by_key, found, profile, snapshot)
    yield _completed(path.all, frozenset(), blocks, around, found)
    if snapshot.gone_on_with(snapshot.path([blocks[number].key for number in path.all])):
        return  # what a conversation was sent with stays where it is
    begun = set(path.cached)
    begun_documents = {number for number in path.cached if number in set(found.documents)}
    tried = set[frozenset[int]]()
    for neighbour in around.neighbours[:CORES]:
        core = frozenset(by_key[key] for key in neighbour.documents if key in by_key)
        if core in tried or not begun_documents < core:
            continue
        tried.add(core)
        yield _completed(path.cached, core - begun, blocks, around, found)


class _Path(Struct, frozen=True):
    """Blocks in an order sent before: as far as it goes, and as far as it is cached. ``score``: tokens of both."""

    score: tuple[int, int] = (0, 0)
    all: tuple[int, ...] = ()
    cached: tuple[int, ...] = ()


def _longest_path(
    blocks: Sequence[Block],
    by_key: Mapping[bytes, int],
    found: Movable,
    profile: CacheProfile,
    snapshot: Snapshot,
) -> _Path:
    """Search the orders sent before for the one that this prompt can follow furthest in the cache, then at all."""
    best, looks = _Path(), 0
    slots = set(found.slots)
    stack: list[tuple[int, int, int, _Path]] = [(0, 0, 0, best)]
    while stack and looks < LOOKS:
        prefix, place, tokens, path = stack.pop()
        best = max(best, path, key=lambda each: each.score)
        taken = set(path.all)
        free = [number for number in by_key.values() if number not in taken] if place in slots else []
        options = [number for number in free if place in found.room[number]]
        if place < len(found.fixed) and not any(place == found.room[number][-1] for number in options):
            options = [found.fixed[place], *options]
        for number in options:
            looks += 1
            following = snapshot.follow(prefix, blocks[number].key)
            if following is None:
                continue
            sum_ = tokens + blocks[number].tokens
            numbers = (*path.all, number)
            hit = sum_ >= profile.minimum_tokens and is_cached(following, profile, snapshot)
            cached = numbers if hit else path.cached
            score = (sum_ if hit else path.score[0], sum_)
            stack.append((following, place + (number not in by_key.values()), sum_, _Path(score, numbers, cached)))
    return best


def _completed(
    begun: Sequence[int], core: frozenset[int], blocks: Sequence[Block], around: Company, found: Movable
) -> tuple[int, ...]:
    """Return ``begun`` with all that is missing: fixed blocks in their order, documents as far behind as they may."""
    taken = set(begun)
    documents = [number for number in found.documents if number not in taken]
    documents.sort(key=lambda number: (number not in core, *_rank(blocks[number], around)))
    rest = [(found.room[number][-1], False, number) for number in documents]
    rest += [(place, True, number) for place, number in enumerate(found.fixed) if number not in taken]
    return (*begun, *(number for *_, number in sorted(rest, key=lambda each: each[:2])))


def distance(order: Sequence[int], found: Movable, prompt: Sequence[Piece]) -> float:
    """Return how far ``order`` is from the one in which documents came: normalised Kendall tau distance, 0 to 1.

    It is that of the message whose documents have changed most.
    """
    recognised = set(found.recognised)
    together = dict[int, list[int]]()
    for number in order:
        if number in recognised:
            together.setdefault(message_of(prompt[number]), []).append(number)
    return max(map(_inverted, together.values()), default=0.0)


def _inverted(numbers: Sequence[int]) -> float:
    pairs = list(combinations(numbers, 2))
    return sum(one > other for one, other in pairs) / len(pairs) if pairs else 0.0


def _rank(block: Block, around: Company) -> tuple[float, bytes]:
    return -around.chances[block.key], block.key
