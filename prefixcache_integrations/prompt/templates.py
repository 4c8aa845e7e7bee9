"""Instructions that are the same in every call but for some places: where those are, learned from digests alone.

A text is cut into sentences and lines, which are compared with those of the texts before; where they differ, word by
word. What is kept are checksums of both. They only decide where a text is looked upon as changing: the text itself is
always that of the request at hand, so that a collision costs a cache entry and nothing else.
"""

from __future__ import annotations

import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.prompt.patterns import text_digest

ALIKE = 0.5
"""Which share of the characters two texts have in common that are taken for one with changing places."""

LONGEST = 200_000
"""Longer texts, in characters, are not learned."""

TEMPLATES = 32
"""How many texts are remembered, at most: an application and its sub-agents have a few."""

_ENDS = re.compile(r"[.!?]\s+|\n\s*")
_WORDS = re.compile(r"\s+|[\"'`(\[{<]+|=|[^\s\"'`(\[{<=][^\s=]*?(?=[.,;:!?)\]}>\"'`]*(?:[\s=]|\Z))|\S")
_WIDTH = 4


class Sentence(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A sentence or line that was the same in every text so far: its checksum and those of its words."""

    digest: int
    words: bytes
    size: int


class Gap(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A place that changes: the words before and after it, as checksums.

    ``value`` is the checksum of what stood there last, ``other`` that of what stood there before that; ``changes`` is
    how often it was something else than the time before, ``values`` how many there were, of which the last two are
    known again. ``empty``: once, nothing stood there.
    """

    head: bytes
    tail: bytes
    value: int
    changes: int = 1
    empty: bool = False
    other: int = 0
    values: int = 2


class Template(Struct, frozen=True, array_like=True, gc=False):
    """What texts had in common that were sent ``sightings`` times.

    ``name`` is the digest of the first of them, by which they are known, and ``latest`` that of the last one.
    """

    pieces: tuple[Sentence | Gap, ...]
    name: bytes
    latest: bytes
    sightings: int = 1


class Change(NamedTuple):
    """A place of a text, ``start`` to ``end`` in characters, that was another before; all else is as in `Gap`."""

    start: int
    end: int
    changes: int
    empty: bool
    values: int


class Recognition(NamedTuple):
    """A text held against those before: what is remembered of it from now on, under which number, and its changes."""

    number: int | None
    template: Template
    changes: tuple[Change, ...] = ()


class Templates:
    """The instructions that were sent: a bounded number, the least recent go first."""

    def __init__(self) -> None:
        self._next = 0
        self._all: OrderedDict[int, Template] = OrderedDict()
        self._same: dict[bytes, int] = {}

    def recognise(self, text: str) -> Recognition | None:
        """Hold ``text`` against what was sent before; ``None`` for one that is not to be learned. Changes nothing."""
        if len(text) > LONGEST:
            return None
        latest = text_digest(text)
        number = self._same.get(latest)
        if number is not None:
            return Recognition(number, _seen(self._all[number], self._all[number].pieces, latest))
        cuts = _cuts(text)
        digests = [crc32(text[start:end].encode()) for start, end in pairwise(cuts)]
        best = self._most_alike(digests, cuts)
        if best is None:
            return Recognition(None, Template(tuple(_sentences(text, cuts, digests)), latest, latest))
        pieces, changes = _Held(self._all[best].pieces, text, cuts, digests).compared()
        return Recognition(best, _seen(self._all[best], pieces, latest), changes)

    def observe(self, recognitions: Iterable[Recognition]) -> None:
        """Remember texts that were sent."""
        for given, template, _ in recognitions:
            number = given if given in self._all else None
            if number is None:
                number, self._next = self._next, self._next + 1
            before = self._all.get(number)
            self._all[number] = template
            self._all.move_to_end(number)
            if before is None or before.pieces is not template.pieces or before.latest != template.latest:
                self._forget_same(number, before)
                if not any(isinstance(piece, Gap) for piece in template.pieces):
                    self._same[template.latest] = number
        while len(self._all) > TEMPLATES:
            self._forget_same(*self._all.popitem(last=False))

    def _forget_same(self, number: int, template: Template | None) -> None:
        if template is not None and self._same.get(template.latest) == number:
            del self._same[template.latest]

    def adopt(self, template: Template) -> None:
        """Remember a text as another process knew it, where that has seen more of it; without pieces it had no news."""
        numbers = {each.name: number for number, each in self._all.items()}
        sentences = [piece for piece in template.pieces if isinstance(piece, Sentence)]
        sizes = [sum(piece.size for piece in sentences)]
        number = numbers.get(template.name)
        if number is None:
            number = self._most_alike([piece.digest for piece in sentences], sizes) if sentences else None
        known = None if number is None else self._all[number]
        if known is None:
            if template.pieces:
                self.observe([Recognition(None, template)])
        elif template.sightings > known.sightings:
            told = template if template.pieces else replace(template, pieces=known.pieces)
            self.observe([Recognition(number, told)])

    def _most_alike(self, digests: Sequence[int], cuts: Sequence[int]) -> int | None:
        best, most = None, ALIKE
        for number, template in reversed(self._all.items()):
            sizes = {piece.digest: piece.size for piece in template.pieces if isinstance(piece, Sentence)}
            shared = sum(sizes.get(digest, 0) for digest in digests)
            share = shared / max(cuts[-1], sum(sizes.values()), 1)
            if share > most:
                best, most = number, share
        return best


def _seen(template: Template, pieces: tuple[Sentence | Gap, ...], latest: bytes) -> Template:
    return Template(pieces, template.name, latest, template.sightings + 1)


def _cuts(text: str) -> list[int]:
    ends = [match.end() for match in _ENDS.finditer(text)]
    return [0, *ends] if ends and ends[-1] == len(text) else [0, *ends, len(text)]


def _sentences(text: str, cuts: Sequence[int], digests: Sequence[int]) -> Iterator[Sentence]:
    for digest, (start, end) in zip(digests, pairwise(cuts), strict=True):
        yield Sentence(digest, _words(text[start:end]), end - start)


def _words(text: str) -> bytes:
    words = _WORDS.findall(text)
    return struct.pack(f">{len(words)}I", *map(crc32, map(str.encode, words)))


class _Held:
    """A text beside a template: sentences that are equal are passed over, what lies between is compared by words."""

    def __init__(
        self, pieces: Sequence[Sentence | Gap], text: str, cuts: Sequence[int], digests: Sequence[int]
    ) -> None:
        self._pieces, self._text, self._cuts, self._digests = pieces, text, cuts, digests
        known = [piece.digest if isinstance(piece, Sentence) else None for piece in pieces]
        self._known = known
        often = Counter(known)
        self._anchors: Mapping[int, int] = {
            digest: place for place, digest in enumerate(known) if digest is not None and often[digest] == 1
        }

    def compared(self) -> tuple[tuple[Sentence | Gap, ...], tuple[Change, ...]]:
        merged, changes = list[Sentence | Gap](), list[Change]()
        done = 0
        for first, last, begin, end in self._differences():
            merged.extend(self._pieces[done:first])
            gap, change = self._gap(self._pieces[first:last], begin, end)
            merged.append(gap)
            changes.append(change)
            done = last
        return (*merged, *self._pieces[done:]), tuple(changes)

    def _differences(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the runs of pieces and sentences between those that are equal: from and to, of each."""
        at, place = 0, 0
        while at < len(self._pieces) or place < len(self._digests):
            if self._equal(at, place):
                at, place = at + 1, place + 1
                continue
            last, end = self._next_equal(at, place)
            while last > at and end > place and self._equal(last - 1, end - 1):
                last, end = last - 1, end - 1
            yield at, last, place, end
            at, place = last, end

    def _equal(self, at: int, place: int) -> bool:
        return at < len(self._known) and place < len(self._digests) and self._known[at] == self._digests[place]

    def _next_equal(self, at: int, place: int) -> tuple[int, int]:
        for end in range(place, len(self._digests)):
            last = self._anchors.get(self._digests[end], -1)
            if last >= at:
                return last, end
        return len(self._pieces), len(self._digests)

    def _gap(self, pieces: Sequence[Sentence | Gap], begin: int, end: int) -> tuple[Gap, Change]:
        offset = self._cuts[begin]
        text = self._text[offset : self._cuts[end]]
        words, gaps = _words(text), [piece for piece in pieces if isinstance(piece, Gap)]
        before, after = _around(pieces)
        head = _common(before, words)
        room = len(words) - head if gaps else min(len(words), len(before)) - head
        tail = _common_end(after, words, room)
        start, stop = _characters(text, head, len(words) - tail)
        empty = start == stop or any(gap.empty for gap in gaps) or (not gaps and head + tail >= len(before))
        value, gap = crc32(words[head : len(words) - tail]), _joined(gaps, crc32(before[head : len(before) - tail]))
        known = gap.value == value
        same = not gaps or [(len(each.head), len(each.tail)) for each in gaps] == [(head, tail)]
        gap = Gap(
            words[:head],
            words[len(words) - tail :],
            value,
            gap.changes + (not known),
            empty,
            other=gap.other if known else gap.value,
            values=gap.values + (not known and not (same and gap.other == value)),
        )
        return gap, Change(offset + start, offset + stop, gap.changes, empty, gap.values)


def _joined(gaps: Sequence[Gap], value: int) -> Gap:
    """Return what is known of a place by the ``gaps`` in it; without any, a ``value`` stood there."""
    if not gaps:
        return Gap(b"", b"", value, 0, values=1)
    if len(gaps) == 1:
        return gaps[0]
    return replace(gaps[-1], changes=sum(gap.changes for gap in gaps), values=max(gap.values for gap in gaps))


def _around(pieces: Sequence[Sentence | Gap]) -> tuple[bytes, bytes]:
    """Return the words of ``pieces`` before the first gap and after the last one; all of them twice without a gap."""
    before = list(takewhile(lambda piece: isinstance(piece, Sentence), pieces))
    after = list(takewhile(lambda piece: isinstance(piece, Sentence), reversed(pieces)))[::-1]
    first = pieces[len(before)] if len(before) < len(pieces) else None
    last = pieces[-len(after) - 1] if len(after) < len(pieces) else None
    head, tail = (b"".join(piece.words for piece in side if isinstance(piece, Sentence)) for side in (before, after))
    return head + (first.head if isinstance(first, Gap) else b""), (last.tail if isinstance(last, Gap) else b"") + tail


def _common(one: bytes, other: bytes) -> int:
    most = min(len(one), len(other))
    return next((at for at in range(0, most, _WIDTH) if one[at : at + _WIDTH] != other[at : at + _WIDTH]), most)


def _common_end(one: bytes, other: bytes, most: int) -> int:
    most = min(len(one), len(other), most)
    steps = range(_WIDTH, most + _WIDTH, _WIDTH)
    different = (at for at in steps if one[len(one) - at :][:_WIDTH] != other[len(other) - at :][:_WIDTH])
    return next((at - _WIDTH for at in different), most)


def _characters(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the words from ``start`` to ``end``, in bytes of checksums, stand; white space around left out."""
    ends = [0, *(match.end() for match in _WORDS.finditer(text))]
    first, last = ends[start // _WIDTH], ends[end // _WIDTH]
    value = text[first:last]
    if not value.strip():
        return first, first
    return first + len(value) - len(value.lstrip()), first + len(value.rstrip())
