"""One order of a prompt held against what was sent before: what it finds again, and what could find it again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from math import log2
from operator import attrgetter

from msgspec import Struct

from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.classes import DEEPER, MANY, Likeness, depth
from prefixcache_integrations.prompt.lookups import Document, Neighbour
from prefixcache_integrations.prompt.pieces import Block, Blocks
from prefixcache_integrations.prompt.pricing import Ahead, First
from prefixcache_integrations.prompt.priors import OWN
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.steps import Step, beyond_tools, ending

_key, _tokens, _markable = attrgetter("key"), attrgetter("tokens"), attrgetter("markable")

SHARPNESS = 4
"""How much more a request counts whose documents are nearly the same than one that shares a few."""

PRIOR_WEIGHT = 0.1
"""What all documents of the same standing count for, against one request with exactly these documents."""

MOST_SURPRISE = 8
MOST_SUPPORT = 3
MOST_KNOWN = 2
"""Beyond these, more is the same: likenesses stay few enough to be learned."""


class Company(Struct, frozen=True):
    """The documents of a request: how likely each comes again with others like these, and who had them before.

    ``documents`` are their tokens, and in how many similar requests each was, up to `MOST_KNOWN`. ``having`` tells
    which of the ``neighbours`` had each: the bits of their numbers are set.
    """

    chances: Mapping[bytes, float]
    documents: Mapping[bytes, Document]
    having: Mapping[bytes, int]
    neighbours: tuple[Neighbour, ...] = ()


ALONE = Company({}, {}, {})
"""That of a request without documents."""


def company(tokens: Mapping[bytes, int], snapshot: Snapshot) -> Company:
    """Return what is known of documents together; ``tokens`` are their lengths by digest."""
    if not tokens:
        return ALONE
    near = tuple(snapshot.neighbours(tokens))
    weights, having = dict.fromkeys(tokens, 0.0), dict.fromkeys(tokens, 0)
    total, bit = 0.0, 1
    for neighbour in near:
        weight = neighbour.share**SHARPNESS
        total += weight
        for key in neighbour.documents:
            weights[key] += weight
            having[key] |= bit
        bit += bit
    documents = {key: Document(count, min(having[key].bit_count(), MOST_KNOWN)) for key, count in tokens.items()}
    prior = [PRIOR_WEIGHT * snapshot.kept(known) for known in range(MOST_KNOWN + 1)]
    whole = total + PRIOR_WEIGHT
    chances = {key: (weights[key] + prior[document.known]) / whole for key, document in documents.items()}
    return Company(chances, documents, having, near)


def ahead(
    blocks: Sequence[Block],
    around: Company,
    profile: CacheProfile,
    snapshot: Snapshot,
    *,
    plain: Blocks | None = None,
    path: Sequence[int] | None = None,
    begun: Sequence[int] = (),
    asked: int | None = None,
) -> Ahead:
    """Return what is known of every prefix of ``blocks`` in this order.

    Documents that the conversation was sent with are settled. ``plain`` are the same, as they were read, if there are
    no documents among them; ``path`` are those that were sent, if that is known; ``begun`` those that the prompt
    begins with, if these were sent in another order. ``asked`` is the block with which the latest turn begins. What is
    only just being sent for the first time counts as not sent.
    """
    ends = tuple(accumulate(map(_tokens, blocks))) if plain is None else plain.ends
    sent = snapshot.path(list(map(_key, blocks))) if path is None else path
    path = sent[: snapshot.sent_before(sent)]
    begun = begun or path
    settled = snapshot.settled(begun)
    asked = len(blocks) if asked is None else asked
    steps = _with_last(_steps(blocks, around, settled) if plain is None else plain.steps, asked)
    reads = (place for place in reversed(range(len(path))) if is_cached(path[place], profile, snapshot))
    read = next(reads, -1)
    written = (place for place in reversed(range(read + 1, len(sent))) if snapshot.written(sent[place]))
    return Ahead(
        steps=steps,
        ends=ends,
        markable=tuple(map(_markable, blocks)) if plain is None else plain.markable,
        firsts=tuple(
            _firsts(steps, path, snapshot, None if plain is None else {*plain.firsts, *range(asked, len(steps))})
        ),
        own=_own(blocks) if plain is None else plain.own,
        read=read if read >= 0 and ends[read] >= profile.minimum_tokens else -1,
        begun=snapshot.begun(begun if begun is not path else beyond_tools(steps, path)),
        settled=settled,
        with_documents=bool(around.documents),
        written=next(written, -1) if profile.max_breakpoints else -1,
    )


def _own(blocks: Sequence[Block]) -> list[int]:
    return [place for place, block in enumerate(blocks) if block.markable and block.kind in OWN]


def _steps(blocks: Sequence[Block], around: Company, settled: int) -> list[Step]:
    """Return each block with the likeness of its prefix; documents that are settled are a part of the conversation."""
    steps, new = list[Step](), False
    row: tuple[()] | tuple[bool, int, int] = ()
    chances, having, surprise, all_had = around.chances, around.having, 0.0, (1 << len(around.neighbours)) - 1
    for place, block in enumerate(blocks):
        key, kind = block.key, block.kind
        if kind == "document":
            new = new or place >= settled
            surprise -= log2(chances[key])
            all_had &= having[key]
            row = new, min(int(surprise), MOST_SURPRISE), min(all_had.bit_count(), MOST_SUPPORT)
            kind = "turn" if place < settled else kind
        steps.append(Step(key, _alike(kind, *row)))
    return steps


def _with_last(steps: Sequence[Step], asked: int) -> tuple[Step, ...]:
    end = ending(steps)
    if end < 0:
        return tuple(steps)
    since = min(asked, end)
    turn = (_last(step) if place == end or _is_said(step) else step for place, step in enumerate(steps[since:], since))
    return (*steps[:since], *turn)


def _is_said(step: Step) -> bool:
    return step.likeness.kind == "turn" and not step.likeness.after_documents


def _last(step: Step) -> Step:
    return Step(step.key, _alike(*step.likeness[:-1], last=True))


def _firsts(
    steps: Sequence[Step], path: Sequence[int], snapshot: Snapshot, alike: Collection[int] | None = None
) -> Iterator[First]:
    """Yield the first step of each likeness among those that were sent equally often: the longer, the less often.

    ``alike`` are the first of all, if that is known, and those that are like no other before them.
    """
    start, first = 0, range(len(steps)) if alike is None else sorted({*alike, *DEEPER, max(ending(steps), 0)})
    for visits, end in zip(range(MANY, -1, -1), (*snapshot.sent_often(path), len(steps)), strict=True):
        seen: set[tuple[Likeness, int]] = set()
        for place in range(start, end) if start else [place for place in first if place < end]:
            likeness = steps[place].likeness
            deep = 0 if visits else depth(likeness.kind, place - start)
            if (likeness, deep) not in seen:
                seen.add((likeness, deep))
                yield First(place, likeness, visits, deep)
        start = end


def is_cached(prefix: int, profile: CacheProfile, snapshot: Snapshot) -> bool:
    """Tell whether the provider should have ``prefix`` in its cache, by the rule of the model's family."""
    if profile.max_breakpoints:
        return snapshot.alive(prefix)
    return snapshot.sent_within(prefix, profile.lifetimes[0].seconds if profile.lifetimes else 300.0)


_alike = cache(Likeness)
"""Return a likeness; there are few of them, and many prefixes of each."""
