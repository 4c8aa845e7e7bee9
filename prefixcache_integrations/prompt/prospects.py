"""One order of a prompt held against what was sent before: what it finds again, and what could find it again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from math import log2
from operator import attrgetter

from msgspec import Struct

from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.lookups import Document, Neighbour
from prefixcache_integrations.prompt.pieces import Block, Blocks
from prefixcache_integrations.prompt.pricing import Ahead, First
from prefixcache_integrations.prompt.priors import OWN
from prefixcache_integrations.prompt.rates import DEEPER, MANY, Likeness, depth
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.steps import Step, Steps, beyond_tools
from prefixcache_integrations.prompt.unfolding import Unfolding

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


def company(tokens: Mapping[bytes, int], snapshot: Snapshot) -> Company:
    """Return what is known of documents together; ``tokens`` are their lengths by digest."""
    near = tuple(snapshot.neighbours(tokens)) if tokens else ()
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
    prior = {key: PRIOR_WEIGHT * snapshot.kept(document.known) for key, document in documents.items()}
    chances = {key: (weight + prior[key]) / (total + PRIOR_WEIGHT) for key, weight in weights.items()}
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
    sent = snapshot.path(list(map(_key, blocks))) if path is None else path
    path = sent[: snapshot.sent_before(sent)]
    begun = begun or path
    settled = snapshot.settled(begun)
    asked, end = len(blocks) if asked is None else asked, _end(blocks)
    if plain is None:
        ends, markable, own = tuple(accumulate(map(_tokens, blocks))), tuple(map(_markable, blocks)), _own(blocks)
        steps: Steps = Unfolding(_steps(blocks, around, settled, range(asked, end), end))
        alike: Sequence[int] = range(len(blocks))
    else:
        ends, markable, own = plain.ends, plain.markable, plain.own
        steps = _with_last(plain.steps, min(asked, end), end)
        alike = sorted({*plain.firsts, *DEEPER, *range(asked, len(blocks)), max(end, 0)})
    read = next((place for place in reversed(range(len(path))) if is_cached(path[place], profile, snapshot)), -1)
    written = (place for place in reversed(range(read + 1, len(sent))) if snapshot.written(sent[place]))
    return Ahead(
        steps=steps,
        ends=ends,
        markable=markable,
        firsts=Unfolding(_firsts(steps, (*snapshot.sent_often(path), len(blocks)), alike)),
        own=own,
        known=len(path),
        read=read if read >= 0 and ends[read] >= profile.minimum_tokens else -1,
        begun=snapshot.begun(begun if begun is not path else beyond_tools(steps, path)),
        settled=settled,
        written=next(written, -1) if profile.max_breakpoints else -1,
    )


def _own(blocks: Sequence[Block]) -> tuple[int, ...]:
    return tuple(place for place, block in enumerate(blocks) if block.markable and block.kind in OWN)


def _end(blocks: Sequence[Block]) -> int:
    """Return the block that ends what is said; behind it is what primes the reply. -1 without one."""
    return next((place for place in reversed(range(len(blocks))) if blocks[place].kind != "framing"), -1)


def _steps(blocks: Sequence[Block], around: Company, settled: int, turn: range, end: int) -> Iterator[Step]:
    """Yield each block with the likeness of its prefix; documents that are settled are a part of the conversation."""
    new = False
    row: tuple[()] | tuple[bool, int, int] = ()
    surprise, having = 0.0, (1 << len(around.neighbours)) - 1
    for place, block in enumerate(blocks):
        key, kind = block.key, block.kind
        if kind == "document":
            new = new or place >= settled
            surprise -= log2(around.chances[key])
            having &= around.having[key]
            row = new, min(int(surprise), MOST_SURPRISE), min(having.bit_count(), MOST_SUPPORT)
            kind = "turn" if place < settled else kind
        step = Step(key, _alike(kind, *row))
        yield _last(step) if place == end or (place in turn and _is_said(step)) else step


def _with_last(steps: Sequence[Step], since: int, end: int) -> tuple[Step, ...]:
    turn = (_last(step) if place == end or _is_said(step) else step for place, step in enumerate(steps[since:], since))
    return (*steps[:since], *turn) if end >= 0 else tuple(steps)


def _is_said(step: Step) -> bool:
    return step.likeness.kind == "turn" and not step.likeness.after_documents


def _last(step: Step) -> Step:
    return Step(step.key, _alike(*step.likeness[:-1], last=True))


def _firsts(steps: Steps, often: Iterable[int], alike: Sequence[int]) -> Iterator[First]:
    """Yield the first step of each likeness among those that were sent equally often: the longer, the less often.

    ``often`` is how many were sent `MANY` times or more, then once less, down to never; ``alike`` are the first of all
    that are alike, and those that are like no other before them.
    """
    start = 0
    for visits, end in zip(range(MANY, -1, -1), often, strict=True):
        seen = set[tuple[Likeness, int]]()
        for place in range(start, end) if start else alike[: bisect_left(alike, end)]:
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
