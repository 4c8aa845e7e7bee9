"""In which orders the documents of a prompt could be sent: as others were before, or likely to be found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import filterfalse, groupby
from operator import itemgetter
from typing import NamedTuple, TypeAlias

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


class _Step(NamedTuple):
    """A step of a path: the number of its block, its prefix, and up to it all tokens, and how many steps are cached."""

    number: int
    prefix: int
    end: int
    cached: int


_NOWHERE = _Step(-1, ROOT, 0, 0)


class _Search:
    """The orders sent before that a prompt can follow, depth first: the first one, and as much of others as `LOOKS`."""

    def __init__(self, blocks: Sequence[Block], found: Movable, profile: CacheProfile, snapshot: Snapshot) -> None:
        self._blocks, self._found, self._profile, self._snapshot = blocks, found, profile, snapshot
        self._by_key = dict(sorted(((blocks[number].key, number) for number in found.documents), reverse=True))
        self._slots = frozenset(found.slots)
        self._due = Counter(room[-1] for room in found.room.values())
        self._steps: list[_Step] = []
        self._taken = set[int]()
        self._place = 0

    def ends(self) -> Iterator[_Worth]:
        """Yield what each order is worth as far as it goes; `path` is then that order."""
        options = [self._options(ROOT)]
        looks, grown = LOOKS + len(self._blocks), False
        while options and looks:
            step = next(options[-1], None)
            if step is not None:
                looks, grown = looks - 1, True
                self._go(*step)
                options.append(self._options(step[1]))
                continue
            if grown:
                yield self._worth()
            grown = False
            options.pop()
            if self._steps:
                self._put(self._steps.pop().number, -1)
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

    def _go(self, number: int, prefix: int) -> None:
        """Put a block behind the others."""
        before = self._steps[-1] if self._steps else _NOWHERE
        alive = is_cached(prefix, self._profile, self._snapshot)
        end = before.end + self._blocks[number].tokens
        self._steps.append(_Step(number, prefix, end, len(self._steps) + 1 if alive else before.cached))
        self._put(number, 1)

    def _put(self, number: int, step: int) -> None:
        """Note that a block stands behind the others, or that it is taken back with a ``step`` of -1."""
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
        if not known:
            return iter(())
        rows = [(self._by_key[key], known[key]) for key in self._keys(known)] if place in self._slots else []
        free = [row for row in rows if row[0] not in self._taken and place in self._found.room[row[0]]]
        if place < len(fixed) and not self._due[place]:
            following = known.get(self._blocks[fixed[place]].key)
            if following is not None:
                free.append((fixed[place], following))
        return iter(free)

    def _keys(self, known: Mapping[bytes, int]) -> Sequence[bytes]:
        if len(self._by_key) <= len(known):
            return [key for key in self._by_key if key in known]
        return sorted((key for key in known if key in self._by_key), reverse=True)


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
