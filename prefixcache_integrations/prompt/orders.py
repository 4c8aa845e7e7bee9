"""In which orders the documents of a prompt could be sent: as others were before, or likely to be found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import filterfalse, groupby
from operator import itemgetter
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.documents import Movable
from prefixcache_integrations.prompt.pieces import Block
from prefixcache_integrations.prompt.prefixes import ROOT
from prefixcache_integrations.prompt.prospects import Company, is_cached
from prefixcache_integrations.prompt.stability import Snapshot

LOOKS = 400
"""How many earlier prefixes a search for an order looks at, at most, beside those of the first order it follows."""

CORES = 8
"""How many similar requests give an order of their own: what both have leads."""


def orders(path: Path, blocks: Sequence[Block], around: Company, found: Movable) -> Iterator[tuple[int, ...]]:
    """Yield orders of ``blocks`` that could pay, none that depends on the order they came in.

    First the one that follows ``path`` as far as that goes; then, for the requests most like this one, what they have
    in common in front. What is left goes before the last question, the likeliest to return first.
    """
    ranked = sorted(found.documents, key=lambda number: _rank(blocks[number], around))
    yield _completed(path.all, frozenset(), ranked, found)
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
        yield _completed(path.cached, core - begun, ranked, found)


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
    search, best, most = _Search(blocks, found, profile, snapshot), Path(), ((-1, -1), False)
    for worth in search.ends():
        if worth > most:
            best, most = search.path(), worth
    return best


_Worth: TypeAlias = tuple[tuple[int, int], bool]
"""What a path is chosen by: its score, and whether it is settled."""


class _Step(Struct, frozen=True, gc=False):
    """A step of a path: the number of its block, its prefix, and up to it all tokens, and how many steps are cached.

    ``taken`` are the documents up to it, as the bits of their numbers, ``place`` is how many other blocks there are.
    """

    number: int = -1
    prefix: int = ROOT
    end: int = 0
    cached: int = 0
    taken: int = 0
    place: int = 0


class _Search:
    """The orders sent before that a prompt can follow, depth first: the first one, and as much of others as `LOOKS`."""

    def __init__(self, blocks: Sequence[Block], found: Movable, profile: CacheProfile, snapshot: Snapshot) -> None:
        self._blocks, self._found, self._profile, self._snapshot = blocks, found, profile, snapshot
        self._by_key = {blocks[number].key: number for number in found.documents}
        self._slots = frozenset(found.slots)
        self._due: dict[int, int] = {}
        for number, room in found.room.items():
            self._due[room[-1]] = self._due.get(room[-1], 0) | 1 << number
        self._steps: list[_Step] = []

    def ends(self) -> Iterator[_Worth]:
        """Yield what each order is worth as far as it goes; `path` is then that order."""
        options = [self._options(_Step())]
        looks, grown = LOOKS + len(self._blocks), False
        while options and looks:
            step = next(options[-1], None)
            if step is not None:
                looks, grown = looks - 1, True
                self._steps.append(step)
                options.append(self._options(step))
                continue
            if grown:
                yield self._worth()
            grown = False
            options.pop()
            if self._steps:
                self._steps.pop()
        if grown:
            yield self._worth()

    def path(self) -> Path:
        """Return the order at hand."""
        score, settled = self._worth()
        numbers = tuple(step.number for step in self._steps)
        last = self._steps[-1]
        return Path(
            settled=settled,
            score=score,
            all=numbers,
            cached=numbers[: last.cached] if score[0] else (),
            prefixes=tuple(step.prefix for step in self._steps),
            as_it_came=self._snapshot.as_it_came(last.prefix),
        )

    def _worth(self) -> _Worth:
        last = self._steps[-1]
        hit = self._steps[last.cached - 1].end if last.cached else 0
        score = hit if hit >= self._profile.minimum_tokens else 0, last.end
        return score, self._snapshot.settled([last.prefix]) > 0

    def _options(self, last: _Step) -> Iterator[_Step]:
        """Yield the steps that came next, and may; what is fixed last."""
        known, place, fixed = self._snapshot.continuations(last.prefix), last.place, self._found.fixed
        if not known:
            return
        for key in sorted(known.keys() & self._by_key.keys(), reverse=True) if place in self._slots else ():
            number = self._by_key[key]
            if place in self._found.room[number] and not last.taken >> number & 1:
                yield self._next(last, number, known[key], last.taken | 1 << number, place)
        if place < len(fixed) and not self._due.get(place, 0) & ~last.taken:
            prefix = known.get(self._blocks[fixed[place]].key)
            if prefix is not None:
                yield self._next(last, fixed[place], prefix, last.taken, place + 1)

    def _next(self, last: _Step, number: int, prefix: int, taken: int, place: int) -> _Step:
        alive = is_cached(prefix, self._profile, self._snapshot)
        cached = len(self._steps) + 1 if alive else last.cached
        return _Step(number, prefix, last.end + self._blocks[number].tokens, cached, taken, place)


def _completed(begun: Sequence[int], core: frozenset[int], ranked: Sequence[int], found: Movable) -> tuple[int, ...]:
    """Return ``begun`` with all that is missing: fixed blocks in their order, documents as far behind as they may.

    Those of ``core`` lead, in the order in which all are ``ranked``.
    """
    order, taken = [*begun], frozenset(begun)
    due: dict[int, list[int]] = {}
    for number in (*filter(core.__contains__, ranked), *filterfalse(core.__contains__, ranked)):
        if number not in taken:
            due.setdefault(found.room[number][-1], []).append(number)
    for place, number in enumerate(found.fixed):
        order += due.get(place, ())
        if number not in taken:
            order.append(number)
    return tuple(order)


def _rank(block: Block, around: Company) -> tuple[float, bytes]:
    return -around.chances[block.key], block.key
