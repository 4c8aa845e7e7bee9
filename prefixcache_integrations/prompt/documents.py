"""Documents that were looked up for a question: which of them may move, and in which orders they could be sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from prefixcache_integrations.canonical import Part, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.prospects import Block, Company, is_cached
from prefixcache_integrations.prompt.segments import Segment
from prefixcache_integrations.prompt.stability import Snapshot

LOOKS = 400
"""How many earlier prefixes a search for an order looks at, at most."""

CORES = 8
"""How many similar requests give an order of their own: what both have leads."""

_MARKED = re.compile(r"\s*<document\b[^>]*>.*</document>\s*", re.DOTALL)
"""Claude docs, *Long context prompting tips*: documents are wrapped in such tags."""


class Movable(Struct, frozen=True):
    """The blocks of a prompt by number: ``documents`` may move, ``fixed`` keep their order.

    ``slots`` are the places in ``fixed`` before which documents may stand: the first thing a user says in a message.
    """

    documents: tuple[int, ...]
    fixed: tuple[int, ...]
    slots: tuple[int, ...]


def movable(request: Request, prompt: Sequence[Segment], keys: Sequence[bytes]) -> Movable:
    """Return which blocks of ``prompt`` are documents that may move.

    Documents with citations stay: answers refer to them by number. So do those that are there twice, and those of
    a message that says nothing else.
    """
    often = Counter(keys)
    free = {
        number
        for number, segment in enumerate(prompt)
        if often[keys[number]] == 1 and _is_document(_part(request, segment))
    }
    opening = dict(_openings(request, prompt, free))
    documents = tuple(number for number in sorted(free) if message_of(prompt[number]) in opening)
    fixed = tuple(number for number in range(len(prompt)) if number not in set(documents))
    starts = set(opening.values())
    return Movable(documents, fixed, tuple(place for place, number in enumerate(fixed) if number in starts))


def _openings(request: Request, prompt: Sequence[Segment], free: set[int]) -> Iterator[tuple[int, int]]:
    """Yield each user message that has something of its own to say, with the first block of that."""
    seen = set[int]()
    for number, segment in enumerate(prompt):
        index = message_of(segment)
        if index < 0 or index in seen or request.messages[index].role != "user" or number in free:
            continue
        if segment.at is not None and segment.kind != "tool_result":
            seen.add(index)
            yield index, number


def message_of(segment: Segment) -> int:
    """Return the number of the message a block belongs to, -1 for none."""
    return segment.at.index if segment.at is not None and segment.at.section == "messages" else -1


def _part(request: Request, segment: Segment) -> Part | None:
    at = segment.at
    if at is None or at.section != "messages" or at.part is None or request.messages[at.index].role != "user":
        return None
    return request.messages[at.index].parts[at.part]


def _is_document(part: Part | None) -> bool:
    if part is None or (as_object(part.raw.get("citations")) or {}).get("enabled") is True:
        return False
    if part.kind == "text":
        return _MARKED.fullmatch(part.text) is not None
    return part.kind == "document" or part.raw.get("type") == "search_result"


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
    slots, last = set(found.slots), found.slots[-1]
    stack: list[tuple[int, int, int, _Path]] = [(0, 0, 0, best)]
    while stack and looks < LOOKS:
        prefix, place, tokens, path = stack.pop()
        best = max(best, path, key=lambda each: each.score)
        taken = set(path.all)
        options = [] if place not in slots else [number for number in by_key.values() if number not in taken]
        if place < len(found.fixed) and not (place == last and options):
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
    """Return ``begun`` with all that is missing: fixed blocks in their order, documents before the last question."""
    taken = set(begun)
    fixed = [number for number in found.fixed if number not in taken]
    documents = [number for number in found.documents if number not in taken]
    documents.sort(key=lambda number: (number not in core, *_rank(blocks[number], around)))
    if not documents:
        return (*begun, *fixed)
    question = fixed.index(found.fixed[found.slots[-1]])
    return (*begun, *fixed[:question], *documents, *fixed[question:])


def _rank(block: Block, around: Company) -> tuple[float, bytes]:
    return -around.chances[block.key], block.key
