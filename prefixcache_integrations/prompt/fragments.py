"""Pieces of the instructions that change: seen to, filled in by a template, or by their looks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Part, VolatileKind
from prefixcache_integrations.prompt.known import Slot, SlotKind
from prefixcache_integrations.prompt.patterns import Pattern, patterns
from prefixcache_integrations.prompt.templates import Change, Recognition

ALTERNATIVES = 2
"""So many values at one place may be wordings of the application's own: before an edit and after, or of two agents."""

CONSTANT = 4
"""After how many calls with the same text what only looks as if it changed is no longer taken for it.

After so many changes of a clock another one that stood still is none, but part of an example.
"""

CLOCKS = frozenset[VolatileKind]({"timestamp", "time", "epoch"})


class Fragment(Struct, frozen=True):
    """A piece of the instructions, ``start`` to ``end`` in characters of the block ``at``, that changes or may.

    ``rate`` is in how many of the calls that went by it was another than in the one before, ``None`` where that is not
    known. ``known``: it changes, which was seen often enough, or goes without saying. ``stays``: it cannot be taken
    out, as in some calls it is not there, or as it goes on in the next block.
    ``slot`` is what a template calls it, if one fills it in.
    """

    at: Address
    start: int
    end: int
    kind: VolatileKind
    rate: float | None
    known: bool
    stays: bool = False
    slot: SlotKind | None = None


def fragments(text: str, recognised: Recognition | None) -> Iterator[Fragment]:
    """Yield what changes in ``text``: what was seen to, as far as it looks like one thing, and what looks like it."""
    looks = patterns(text, None if recognised is None else recognised.template.latest)
    calls = 1 if recognised is None else max(recognised.template.sightings - 1, 1)
    changes = () if recognised is None else _merged(recognised.changes, looks)
    if not looks and not changes:
        return
    seen = {(each.start, each.end) for each in changes}
    at = Address("system", 0)
    rows = [_changing(at, each, _kind(each, looks), calls) for each in changes]
    went = any(row.kind in CLOCKS and change.changes >= CONSTANT for row, change in zip(rows, changes, strict=True))
    rows += [
        Fragment(at, each.start, each.end, each.kind, None, known=each.certain)
        for each in looks
        if (calls < CONSTANT or (each.certain and not (went and each.kind in CLOCKS)))
        and not any(start < each.end and each.start < end for start, end in seen)
    ]
    yield from sorted(rows, key=lambda row: row.start)


def _changing(at: Address, change: Change, kind: VolatileKind, calls: int) -> Fragment:
    known = kind != "text" or change.values > ALTERNATIVES
    return Fragment(at, change.start, change.end, kind, change.changes / calls, known=known, stays=change.empty)


def _merged(changes: Sequence[Change], looks: Sequence[Pattern]) -> list[Change]:
    """Return ``changes`` widened to what they are a part of: a second that changes is a time that does."""
    result = list[Change]()
    for change in changes:
        inside = [each for each in looks if each.start < change.end and change.start < each.end]
        start = min([change.start, *(each.start for each in inside)])
        end = max([change.end, *(each.end for each in inside)])
        wide = change._replace(start=start, end=end)
        result.append(_one_change(result.pop(), wide) if result and start < result[-1].end else wide)
    return result


def _one_change(one: Change, other: Change) -> Change:
    start, end = min(one.start, other.start), max(one.end, other.end)
    changes, values = max(one.changes, other.changes), max(one.values, other.values)
    return Change(start, end, changes, one.empty or other.empty, values)


def _kind(change: Change, looks: Sequence[Pattern]) -> VolatileKind:
    inside = [each.kind for each in looks if change.start <= each.start and each.end <= change.end]
    return inside[0] if inside else "text"


def in_blocks(found: Iterable[Fragment], blocks: Sequence[tuple[Address, Part]]) -> Iterator[Fragment]:
    """Yield fragments of the text of all ``blocks`` as fragments of the block in which each begins.

    So a text is the same however it is cut into blocks. What goes on in the next block stays where it is.
    """
    starts = [0, *accumulate(len(part.text) for _, part in blocks)][:-1]
    for each in found:
        number = bisect_right(starts, each.start) - 1
        at, part = blocks[number]
        start, end = each.start - starts[number], each.end - starts[number]
        beyond = end > len(part.text)
        yield replace(each, at=at, start=start, end=min(end, len(part.text)), stays=each.stays or beyond)


def named(text: str, rows: Sequence[Fragment]) -> bytes:
    """Return a digest of ``text`` without the fragments in it: the same in calls that differ there alone."""
    ends, starts = [0, *(row.end for row in rows)], [*(row.start for row in rows), len(text)]
    rest = "\0".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    return blake2b(rest.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def filled_in(at: Address, part: Part, slots: Sequence[Slot]) -> list[Fragment]:
    """Return what a template fills in to a block, and what else in it looks as if it changes."""
    rows = [Fragment(at, slot.start, slot.end, "text", 1.0, known=True, slot=slot.kind) for slot in slots]
    rows += [
        each
        for each in in_blocks(fragments(part.text, None), [(at, part)])
        if not any(slot.start < each.end and each.start < slot.end for slot in slots)
    ]
    return sorted(rows, key=lambda row: (row.start, row.end))
