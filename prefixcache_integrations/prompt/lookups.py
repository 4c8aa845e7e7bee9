"""Documents that were looked up together: which the latest requests had, and how well each was known by then."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from msgspec import Struct

STAKE = 0.005
"""Which share of all tokens sent with documents may be lost on writes that nobody read: beyond it none is risked."""

START = 1.0
"""How many such requests' tokens may be lost besides, on conversations while nothing is known of them."""

NEIGHBOURS = 64
"""How many similar requests are looked at, so that the work stays the same however many there were."""


class Document(Struct, frozen=True, array_like=True, gc=False):
    """A document of one request: its tokens, and in how many similar requests it had been by then."""

    tokens: int
    known: int


class Bill(NamedTuple):
    """The tokens of one request, and how many uncached ones it should have saved: less than none where it wrote.

    ``saved`` is what documents are to pay for, ``beyond`` what all is that comes after an application's own.
    """

    tokens: int = 0
    saved: float = 0.0
    beyond: float = 0.0


class Allowance(NamedTuple):
    """How many uncached input tokens may be risked: on ``documents`` that might come together again, and ``beyond``.

    The latter is what may be risked on anything that comes after an application's own, where it comes with documents.
    """

    documents: float = 0.0
    beyond: float = inf


class Neighbour(Struct, frozen=True, gc=False):
    """An earlier request that had some of the same documents: these, which are a ``share`` of them by tokens."""

    documents: frozenset[bytes]
    share: float


class _Request(Struct, frozen=True, gc=False):
    """The documents of a request, and in the same order in how many similar ones each had been."""

    documents: frozenset[bytes]
    known: tuple[int, ...]


class Lookups:
    """Which documents were sent together in the latest ``limit`` requests, and what that cost."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: OrderedDict[int, _Request] = OrderedDict()
        self._holding: dict[bytes, deque[int]] = {}
        self._next = 0
        self._sent: Counter[int] = Counter()
        self._kept: Counter[int] = Counter()
        self._count = self._tokens = 0
        self._documents = self._beyond = 0.0

    @property
    def allowance(self) -> Allowance:
        """What the next request may risk."""
        start = START * self._tokens / self._count if self._count else inf
        return Allowance(self._documents, self._beyond + start)

    def observe(self, documents: Mapping[bytes, Document], bill: Bill) -> None:
        """Remember the documents of a request that was sent, and what it should have been billed."""
        if not documents:
            return
        self._count, self._tokens = self._count + 1, self._tokens + bill.tokens
        self._documents += STAKE * bill.tokens + bill.saved
        self._beyond += STAKE * bill.tokens + bill.beyond
        near = self._nearest({key: document.tokens for key, document in documents.items()}, 1)
        if near:
            before = self._requests[near[0][1]]
            for key, known in zip(before.documents, before.known, strict=True):
                self._sent[known] += 1
                self._kept[known] += key in documents
        keys = frozenset(documents)
        self._requests[self._next] = _Request(keys, tuple(documents[key].known for key in keys))
        for key in documents:
            self._holding.setdefault(key, deque(maxlen=NEIGHBOURS)).append(self._next)
        self._next += 1
        while len(self._requests) > self._limit:
            _, gone = self._requests.popitem(last=False)
            for key in gone.documents:
                self._drop(key)

    def _drop(self, key: bytes) -> None:
        holding = self._holding.get(key)
        while holding and holding[0] not in self._requests:
            holding.popleft()
        if not holding:
            self._holding.pop(key, None)

    def _nearest(self, documents: Mapping[bytes, int], most: int) -> list[tuple[int, int]]:
        """Return how many of these documents' tokens the requests share that share most, the latest first of equals."""
        shared: dict[int, int] = {}
        for key, tokens in documents.items():
            for number in self._holding.get(key, ()):
                shared[number] = shared.get(number, 0) + tokens
        least = next(iter(sorted(shared.values())[-most:]), 0)
        found = [(tokens, number) for number, tokens in shared.items() if tokens >= least]
        return sorted(found, reverse=True)[:most]

    def neighbours(self, documents: Mapping[bytes, int]) -> list[Neighbour]:
        """Return the earlier requests that share most of these documents, given with their tokens."""
        total, keys = sum(documents.values()) or 1, frozenset(documents)
        near = self._nearest(documents, NEIGHBOURS)
        return [Neighbour(keys & self._requests[number].documents, tokens / total) for tokens, number in near]

    def kept(self, known: int) -> float:
        """Return how often a document that was ``known`` so well came again in the next request like its own."""
        return (self._kept[known] + 0.5) / (self._sent[known] + 1.5)
