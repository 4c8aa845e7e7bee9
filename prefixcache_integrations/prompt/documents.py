"""Documents that were looked up for a question: which of them may move, and in which orders they could be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, combinations, groupby
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.pieces import Block, Blocks, Piece
from prefixcache_integrations.prompt.prefixes import ROOT
from prefixcache_integrations.prompt.prospects import Company, is_cached
from prefixcache_integrations.prompt.stability import Snapshot

LOOKS = 400
"""How many earlier prefixes a search for an order looks at, at most, beside those of the first order it follows."""

CORES = 8
"""How many similar requests give an order of their own: what both have leads."""


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
        if piece.at is not None and not piece.answers:
            seen.add(index)
            yield index, number


def message_of(piece: Piece) -> int:
    """Return the number of the message a block belongs to, -1 for none."""
    return piece.at.index if piece.at is not None and piece.at.section == "messages" else -1


def orders(path: Path, blocks: Sequence[Block], around: Company, found: Movable) -> Iterator[tuple[int, ...]]:
    """Yield orders of ``blocks`` that could pay, none that depends on the order they came in.

    First the one that follows ``path`` as far as that goes; then, for the requests most like this one, what they have
    in common in front. What is left goes before the last question, the likeliest to return first.
    """
    yield _completed(path.all, frozenset(), blocks, around, found)
    if path.settled:
        return  # what a conversation was sent with stays where it is
    begun = set(path.cached)
    by_key = {blocks[number].key: number for number in found.documents}
    begun_documents = begun.intersection(found.documents)
    tried = set[frozenset[int]]()
    for neighbour in around.neighbours[:CORES]:
        core = frozenset(by_key[key] for key in neighbour.documents if key in by_key)
        if core in tried or not begun_documents < core:
            continue
        tried.add(core)
        yield _completed(path.cached, core - begun, blocks, around, found)


class Path(Struct, frozen=True):
    """Blocks in an order sent before: ``all`` as far as it goes, to these ``prefixes``, and as far as it is ``cached``.

    ``settled``: a conversation was sent with them that these go on with. ``score``: tokens of what is cached, of all.
    ``as_it_came``: it was not sent in this order. ``instead`` is the order in which they are remembered, where that is
    another one.
    """

    settled: bool = False
    score: tuple[int, int] = (0, 0)
    all: tuple[int, ...] = ()
    cached: tuple[int, ...] = ()
    prefixes: tuple[int, ...] = ()
    as_it_came: bool = False
    instead: tuple[int, ...] = ()

    def as_given(self, found: Movable) -> Path:
        """Return the same in the order the prompt came in.

        What a conversation was sent with as it came stays so, if it comes in front again.
        """
        first = tuple(range(len(self.all)))
        if not self.settled or not self.as_it_came or not _alike(self.all, first, found):
            return self
        return replace(self, all=first, instead=self.all)


def _alike(one: Sequence[int], other: Sequence[int], found: Movable) -> bool:
    """Tell whether two orders have the same documents between the same fixed blocks."""
    fixed = frozenset(found.fixed)
    rows = ([(number in fixed, number) for number in order] for order in (one, other))
    runs = ([sorted(run) for _, run in groupby(row, key=itemgetter(0))] for row in rows)
    return next(runs) == next(runs)


def longest_path(blocks: Sequence[Block], found: Movable, profile: CacheProfile, snapshot: Snapshot) -> Path:
    """Return the order sent before that a prompt can follow furthest: in the cache, then at all."""
    paths = (_path(*each, blocks, profile, snapshot) for each in _Search(blocks, found, snapshot).ends())
    return max(paths, key=lambda path: (path.score, path.settled), default=Path())


def _path(
    numbers: Sequence[int], prefixes: Sequence[int], blocks: Sequence[Block], profile: CacheProfile, snapshot: Snapshot
) -> Path:
    ends = list(accumulate(blocks[number].tokens for number in numbers))
    known = (place for place in reversed(range(len(prefixes))) if is_cached(prefixes[place], profile, snapshot))
    cached = next(known, -1)
    hit = ends[cached] if cached >= 0 and ends[cached] >= profile.minimum_tokens else 0
    return Path(
        settled=snapshot.settled(prefixes) > 0,
        score=(hit, ends[-1]),
        all=tuple(numbers),
        cached=tuple(numbers[: cached + 1]) if hit else (),
        prefixes=tuple(prefixes),
        as_it_came=snapshot.as_it_came(prefixes[-1]),
    )


class _Search:
    """The orders sent before that a prompt can follow, depth first: the first one, and as much of others as `LOOKS`."""

    def __init__(self, blocks: Sequence[Block], found: Movable, snapshot: Snapshot) -> None:
        self._blocks, self._found, self._snapshot = blocks, found, snapshot
        self._by_key = dict(sorted((blocks[number].key, number) for number in found.documents))
        self._slots = frozenset(found.slots)
        self._due = Counter(room[-1] for room in found.room.values())
        self._taken = set[int]()
        self._place = 0

    def ends(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        """Yield each order as far as it goes: the numbers of its blocks, and of the prefixes that end with them.

        Both change with the next one.
        """
        numbers, prefixes, options = list[int](), list[int](), [self._options(ROOT)]
        looks, grown = LOOKS + len(self._blocks), False
        while options and looks:
            step = next(options[-1], None)
            if step is not None:
                looks, grown = looks - 1, True
                numbers.append(step[0])
                prefixes.append(step[1])
                self._put(step[0], 1)
                options.append(self._options(step[1]))
                continue
            if grown:
                yield numbers, prefixes
            grown = False
            options.pop()
            if numbers:
                prefixes.pop()
                self._put(numbers.pop(), -1)
        if grown:
            yield numbers, prefixes

    def _put(self, number: int, step: int) -> None:
        """Put a block behind the others, or take it back with a ``step`` of -1."""
        room = self._found.room.get(number)
        if room is None:
            self._place += step
            return
        self._due[room[-1]] -= step
        if step > 0:
            self._taken.add(number)
        else:
            self._taken.remove(number)

    def _options(self, prefix: int) -> Iterator[tuple[int, int]]:
        """Return the blocks that may come next, and did, with the prefixes that end with them; what is fixed last."""
        known, place, fixed = self._snapshot.continuations(prefix), self._place, self._found.fixed
        keys = self._keys(known) if place in self._slots else ()
        numbers = [self._by_key[key] for key in keys]
        free = [each for each in reversed(numbers) if each not in self._taken and place in self._found.room[each]]
        if place < len(fixed) and not self._due[place] and self._blocks[fixed[place]].key in known:
            free.append(fixed[place])
        return iter([(number, known[self._blocks[number].key]) for number in free])

    def _keys(self, known: Mapping[bytes, int]) -> Sequence[bytes]:
        if len(self._by_key) <= len(known):
            return [key for key in self._by_key if key in known]
        return sorted(key for key in known if key in self._by_key)


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


def _rank(block: Block, around: Company) -> tuple[float, bytes]:
    return -around.chances[block.key], block.key
