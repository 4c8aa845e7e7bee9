"""One order of a prompt held against what was sent before: what it finds again, and what could find it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import log2

from msgspec import Struct

from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.lookups import Document, Neighbour
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.pricing import Ahead
from prefixcache_integrations.prompt.rates import Kind, Likeness
from prefixcache_integrations.prompt.stability import Snapshot

SHARPNESS = 4
"""How much more a request counts whose documents are nearly the same than one that shares a few."""

PRIOR_WEIGHT = 0.1
"""What all documents of the same standing count for, against one request with exactly these documents."""

MOST_SURPRISE = 8
MOST_SUPPORT = 3
MOST_KNOWN = 2
"""Beyond these, more is the same: likenesses stay few enough to be learned."""


class Block(Struct, frozen=True):
    """One step of a prompt before it has a place: its digest, kind, tokens, and whether it may carry a marker."""

    key: bytes
    kind: Kind
    tokens: int
    markable: bool


class Company(Struct, frozen=True):
    """The documents of a request: how likely each comes again with others like these, and who had them before.

    ``documents`` are their tokens, and in how many similar requests each was, up to `MOST_KNOWN`.
    """

    chances: Mapping[bytes, float]
    documents: Mapping[bytes, Document]
    neighbours: tuple[Neighbour, ...] = ()


def company(tokens: Mapping[bytes, int], snapshot: Snapshot) -> Company:
    """Return what is known of documents together; ``tokens`` are their lengths by digest."""
    near = tuple(snapshot.neighbours(tokens)) if tokens else ()
    weights = [neighbour.share**SHARPNESS for neighbour in near]
    total = sum(weights) + PRIOR_WEIGHT
    chances, documents = dict[bytes, float](), dict[bytes, Document]()
    for key, count in tokens.items():
        having = [weight for weight, each in zip(weights, near, strict=True) if key in each.documents]
        documents[key] = Document(count, min(len(having), MOST_KNOWN))
        chances[key] = (sum(having) + PRIOR_WEIGHT * snapshot.kept(documents[key].known)) / total
    return Company(chances, documents, near)


def ahead(blocks: Sequence[Block], around: Company, profile: CacheProfile, snapshot: Snapshot) -> Ahead:
    """Return what is known of every prefix of ``blocks`` in this order."""
    ends = tuple(accumulate(block.tokens for block in blocks))
    steps, visits, read = list[Step](), list[int](), -1
    at: int | None = 0
    likenesses = _Likenesses(around)
    last = len(blocks) - 1
    for number, block in enumerate(blocks):
        at = snapshot.follow(at, block.key)
        steps.append(Step(block.key, likenesses.next(block, last=number == last)))
        visits.append(snapshot.visits(at))
        if at is not None and ends[number] >= profile.minimum_tokens and is_cached(at, profile, snapshot):
            read = number
    return Ahead(tuple(steps), ends, tuple(block.markable for block in blocks), tuple(visits), read)


def is_cached(prefix: int, profile: CacheProfile, snapshot: Snapshot) -> bool:
    """Tell whether the provider should have ``prefix`` in its cache, by the rule of the model's family."""
    if profile.max_breakpoints:
        return snapshot.alive(prefix)
    return snapshot.sent_within(prefix, profile.lifetimes[0].seconds if profile.lifetimes else 300.0)


class _Likenesses:
    """The likeness of each prefix in turn."""

    def __init__(self, around: Company) -> None:
        self._around = around
        self._having = [each.documents for each in around.neighbours]
        self._surprise = 0.0
        self._seen = False

    def next(self, block: Block, *, last: bool) -> Likeness:
        if block.kind == "document":
            self._seen = True
            self._surprise -= log2(self._around.chances[block.key])
            self._having = [documents for documents in self._having if block.key in documents]
        if not self._seen:
            return Likeness(block.kind, last=last)
        surprise = min(int(self._surprise), MOST_SURPRISE)
        return Likeness(block.kind, True, surprise, min(len(self._having), MOST_SUPPORT), last)  # noqa: FBT003 - a field
