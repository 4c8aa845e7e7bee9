"""What has been sent before, and how often such prompts come back: learned as requests go by, from digests alone."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct, field

from prefixcache_integrations.prompt.cache_key import Routes
from prefixcache_integrations.prompt.rates import FOREVER, MANY, Likeness, Prefix, Rates

TOOLS = 4096
"""How many tool names are remembered, at most."""

STAKE = 0.005
"""Which share of all tokens sent with documents may be lost on writes that nobody read: beyond it none is risked."""


class Step(Struct, frozen=True):
    """One block of a prompt as it is remembered: its digest and what kind of prefix ends with it.

    ``writes`` is the lifetime in seconds that a marker here asks for, 0 without one.
    """

    key: bytes
    likeness: Likeness
    writes: float = 0.0


class Document(NamedTuple):
    """A document of one request: its tokens, and in how many similar requests it had been by then."""

    tokens: int
    known: int


class Bill(NamedTuple):
    """The tokens of one request, and how many uncached ones it should have saved: less than none where it wrote."""

    tokens: int = 0
    saved: float = 0.0


class Sighting(Struct, frozen=True):
    """One request, ready to be remembered: its steps in the order sent, and its documents by their digests.

    ``tools`` are the names of its tools, in the order sent; ``cache_key`` is the one that routes it, before spreading.
    """

    steps: tuple[Step, ...]
    documents: Mapping[bytes, Document] = field(default_factory=dict)
    bill: Bill = Bill()
    tools: tuple[str, ...] = ()
    cache_key: str | None = None


class PromptMemory:
    """What has been sent, by one application: prefixes as digests, and how often which kind of them came back.

    Nothing of a prompt is kept but digests, and the names of tools. ``limit`` bounds the prefixes that are remembered,
    the least recent go first; ``horizon`` is after how many seconds without a sighting one is forgotten. ``turn`` is to
    be held from a snapshot to the sighting that follows it, where threads share a memory.
    """

    def __init__(self, *, limit: int = 200_000, horizon: float = 86_400.0) -> None:
        self.turn = threading.Lock()
        self._limit = limit
        self._horizon = horizon
        self._next = 1
        self._prefixes: OrderedDict[int, Prefix] = OrderedDict({0: Prefix(parent=-1, key=b"")})
        self._rates = Rates()
        self._documents = _DocumentMemory(max(limit // 50, 16))
        self._tools: dict[str, int] = {}
        self._routes = Routes()

    def __len__(self) -> int:
        """Return how many prefixes are remembered."""
        return len(self._prefixes) - 1

    def snapshot(self, now: float) -> Snapshot:
        """Return what is known at ``now``, in seconds: a view, so that it changes with the next `observe`."""
        return Snapshot(self._prefixes, self._rates, self._documents, self._tools, routes=self._routes, now=now)

    def observe(self, sighting: Sighting, now: float) -> None:
        """Remember a request that was sent at ``now``."""
        self._rates.grow_older(now)
        at, alive = 0, self._read(sighting, now)
        for number, step in enumerate(sighting.steps):
            at = self._visited(at, step, now)
            prefix = self._prefixes[at]
            if step.writes or number == alive:
                prefix.lifetime = max(step.writes, prefix.lifetime if prefix.alive_until >= now else 0.0)
                prefix.alive_until = now + prefix.lifetime
        self._documents.observe(sighting.documents, sighting.bill)
        if sighting.cache_key is not None:
            self._routes.observe(sighting.cache_key, now)
        for name in sighting.tools:
            if len(self._tools) < TOOLS:
                self._tools.setdefault(name, len(self._tools))
        self._forget(now)

    def _read(self, sighting: Sighting, now: float) -> int:
        """Return which step ends the longest entry that the request finds, which that keeps alive; -1 without one."""
        at, found = 0, -1
        for number, step in enumerate(sighting.steps):
            children = self._prefixes[at].children or {}
            following = children.get(step.key)
            if following is None:
                break
            at = following
            if self._prefixes[at].alive_until > 0 and self._prefixes[at].alive_until >= now:
                found = number
        return found

    def _visited(self, parent: int, step: Step, now: float) -> int:
        above = self._prefixes[parent]
        if above.children is None:
            above.children = {}
        at = above.children.get(step.key)
        if at is None:
            at, self._next = self._next, self._next + 1
            above.children[step.key] = at
            self._prefixes[at] = Prefix(parent=parent, key=step.key)
        prefix = self._prefixes[at]
        if prefix.likeness is not None:
            self._rates.returned(prefix, prefix.likeness, now)
        prefix.visits += 1
        prefix.seen_at, prefix.likeness = now, step.likeness
        self._rates.sent(prefix, step.likeness, now)
        self._prefixes.move_to_end(at)
        return at

    def _forget(self, now: float) -> None:
        """Drop what is too old or too much; children are more recent than their parents, so leaves may be left."""
        while len(self._prefixes) > 1:
            oldest = next(iter(self._prefixes))
            if oldest == 0:
                self._prefixes.move_to_end(0)
                continue
            prefix = self._prefixes[oldest]
            if len(self._prefixes) - 1 <= self._limit and now - prefix.seen_at <= self._horizon:
                return
            del self._prefixes[oldest]
            above = self._prefixes.get(prefix.parent)
            if above is not None and above.children is not None:
                above.children.pop(prefix.key, None)


class _DocumentMemory:
    """Which documents were sent together in the latest requests, and how well each was known at that time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: OrderedDict[int, Mapping[bytes, Document]] = OrderedDict()
        self._holding: dict[bytes, deque[int]] = {}
        self._next = 0
        self._sent: Counter[int] = Counter()
        self._kept: Counter[int] = Counter()
        self.allowance = 0.0

    def observe(self, documents: Mapping[bytes, Document], bill: Bill) -> None:
        if not documents:
            return
        self.allowance += STAKE * bill.tokens + bill.saved
        near = self.nearest({key: document.tokens for key, document in documents.items()}, 1)
        if near:
            for key, document in self._requests[near[0][0]].items():
                self._sent[document.known] += 1
                self._kept[document.known] += key in documents
        self._requests[self._next] = documents
        for key in documents:
            self._holding.setdefault(key, deque(maxlen=NEIGHBOURS)).append(self._next)
        self._next += 1
        while len(self._requests) > self._limit:
            _, gone = self._requests.popitem(last=False)
            for key in gone:
                self._drop(key)

    def _drop(self, key: bytes) -> None:
        holding = self._holding.get(key)
        while holding and holding[0] not in self._requests:
            holding.popleft()
        if not holding:
            self._holding.pop(key, None)

    def nearest(self, documents: Mapping[bytes, int], most: int) -> list[tuple[int, int]]:
        """Return the requests that share most of these documents' tokens, the latest first among equals; how many."""
        shared: Counter[int] = Counter()
        for key, tokens in documents.items():
            for number in self._holding.get(key, ()):
                shared[number] += tokens
        found = ((number, tokens) for number, tokens in shared.items() if number in self._requests)
        return sorted(found, key=lambda pair: (-pair[1], -pair[0]))[:most]

    def request(self, number: int) -> frozenset[bytes]:
        return frozenset(self._requests[number])

    def kept(self, known: int) -> float:
        """Return how often a document that was ``known`` so well came again in the next request like its own."""
        return (self._kept[known] + 0.5) / (self._sent[known] + 1.5)


NEIGHBOURS = 64
"""How many similar requests are looked at, so that the work stays the same however many there were."""


class Neighbour(NamedTuple):
    """An earlier request that had some of the same documents; ``share`` of them, by tokens."""

    documents: frozenset[bytes]
    share: float


class Snapshot:
    """What is known at one time, for planning; reading it changes nothing."""

    def __init__(
        self,
        prefixes: Mapping[int, Prefix],
        rates: Rates,
        documents: _DocumentMemory,
        tools: Mapping[str, int],
        *,
        routes: Routes,
        now: float,
    ) -> None:
        self._prefixes = prefixes
        self._rates = rates
        self._documents = documents
        self._tools = tools
        self.routes = routes
        self.now = now

    @property
    def allowance(self) -> float:
        """How many uncached input tokens may be risked on documents that might come together again."""
        return self._documents.allowance

    def tool_rank(self, name: str) -> int:
        """Return which tool this was of all that were ever sent, in the order they came up; new ones come last."""
        return self._tools.get(name, len(self._tools))

    def follow(self, prefix: int | None, key: bytes) -> int | None:
        """Return the prefix that continues ``prefix`` (0: the empty one) with a step, ``None`` if it was never sent."""
        known = None if prefix is None else self._prefixes.get(prefix)
        return None if known is None or known.children is None else known.children.get(key)

    def alive(self, prefix: int | None) -> bool:
        """Tell whether the provider should hold an entry for ``prefix``, where entries stand at markers."""
        known = None if prefix is None else self._prefixes.get(prefix)
        return known is not None and known.alive_until > 0 and known.alive_until >= self.now

    def sent_within(self, prefix: int | None, seconds: float) -> bool:
        """Tell whether ``prefix`` was sent in the last ``seconds``."""
        known = None if prefix is None else self._prefixes.get(prefix)
        return known is not None and known.visits > 0 and self.now - known.seen_at <= seconds

    def visits(self, prefix: int | None) -> int:
        """Return how often ``prefix`` was sent."""
        known = None if prefix is None else self._prefixes.get(prefix)
        return 0 if known is None else known.visits

    def expected_reads(self, likeness: Likeness, visits: int, lifetime: float) -> float:
        """Return how often a prefix will be read before its entry ends, if it is written at its ``visits``-th time."""
        chance = self._rates.chance(likeness, MANY, lifetime)
        reads = min(chance / (1 - chance), FOREVER) if chance < 1 else FOREVER
        for seen in range(MANY - 1, min(visits, MANY) - 1, -1):
            reads = self._rates.chance(likeness, seen, lifetime) * (1 + reads)
        return reads

    def neighbours(self, documents: Mapping[bytes, int]) -> list[Neighbour]:
        """Return the earlier requests that share most of these documents, given with their tokens."""
        near = self._documents.nearest(documents, NEIGHBOURS)
        total = sum(documents.values()) or 1
        return [Neighbour(self._documents.request(number), tokens / total) for number, tokens in near]

    def kept(self, known: int) -> float:
        """Return how often a document that so many similar requests had came again in the next one like its own."""
        return self._documents.kept(known)
