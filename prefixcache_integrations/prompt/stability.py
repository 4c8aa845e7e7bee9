"""What has been sent before, and how often such prompts come back: learned as requests go by, from digests alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from msgspec import Struct, field

from prefixcache_integrations.prompt.cache_key import Routes
from prefixcache_integrations.prompt.lookups import Bill, Document, Lookups, Neighbour
from prefixcache_integrations.prompt.prefixes import Prefixes, Step
from prefixcache_integrations.prompt.rates import FOREVER, MANY, Likeness
from prefixcache_integrations.prompt.templates import Recognition, Templates
from prefixcache_integrations.prompt.tool_lists import ToolLists

TICK = 0.001
"""How many seconds at least lie between two requests as far as learning goes, also where the clock stands still."""


class Sighting(Struct, frozen=True):
    """One request, ready to be remembered: its steps in the order sent, and its documents by their digests.

    ``tools`` are the names of its tools, in the order sent, and ``agent`` is whose they are; ``cache_key`` is the one
    that routes it, before spreading. ``previous`` is the step at which the request before it in its conversation should
    have ended, ``None`` without one. ``texts`` are its instructions, as they were recognised.
    """

    steps: tuple[Step, ...]
    documents: Mapping[bytes, Document] = field(default_factory=dict)
    bill: Bill = Bill()
    tools: tuple[str, ...] = ()
    agent: bytes = b""
    cache_key: str | None = None
    previous: int | None = None
    texts: tuple[Recognition, ...] = ()


class PromptMemory:
    """What has been sent, by one application: prefixes as digests, and how often which kind of them came back.

    Nothing of a prompt is kept but digests, and the names of tools. ``limit`` bounds the prefixes that are remembered,
    the least recent go first; ``horizon`` is after how many seconds without a sighting one is forgotten. ``turn`` is to
    be held from a snapshot to the sighting that follows it, where threads share a memory.
    """

    def __init__(self, *, limit: int = 200_000, horizon: float = 86_400.0) -> None:
        self.turn = threading.Lock()
        self._prefixes = Prefixes(limit=limit, horizon=horizon)
        self._lookups = Lookups(max(limit // 50, 16))
        self._tools = ToolLists()
        self._routes = Routes()
        self._texts = Templates()
        self._clock = 0.0

    def __len__(self) -> int:
        """Return how many prefixes are remembered."""
        return len(self._prefixes)

    def snapshot(self, now: float) -> Snapshot:
        """Return what is known at ``now``, in seconds: a view, so that it changes with the next `observe`."""
        return Snapshot(self._prefixes, self._lookups, self._tools, self._texts, routes=self._routes, now=now)

    def observe(self, sighting: Sighting, now: float) -> None:
        """Remember a request that was sent at ``now``."""
        self._clock = max(now, self._clock + TICK)
        self._prefixes.observe(sighting.steps, sighting.previous, now, self._clock)
        self._lookups.observe(sighting.documents, sighting.bill)
        if sighting.cache_key is not None:
            self._routes.observe(sighting.cache_key, now)
        self._texts.observe(sighting.texts)
        self._tools.observe(sighting.tools, sighting.agent)


class Snapshot:
    """What is known at one time, for planning; reading it changes nothing."""

    def __init__(
        self,
        prefixes: Prefixes,
        lookups: Lookups,
        tools: ToolLists,
        texts: Templates,
        *,
        routes: Routes,
        now: float,
    ) -> None:
        self._prefixes = prefixes
        self._lookups = lookups
        self.tools = tools
        self._texts = texts
        self.routes = routes
        self.now = now

    @property
    def allowance(self) -> float:
        """How many uncached input tokens may be risked on documents that might come together again."""
        return self._lookups.allowance

    def recognise(self, text: str) -> Recognition | None:
        """Hold instructions against those that were sent; ``None`` for a text too long to be learned."""
        return self._texts.recognise(text)

    def follow(self, prefix: int | None, key: bytes) -> int | None:
        """Return the prefix that continues ``prefix`` (0: the empty one) with a step, ``None`` if it was never sent."""
        return self._prefixes.follow(prefix, key)

    def alive(self, prefix: int | None) -> bool:
        """Tell whether the provider should hold an entry for ``prefix``, where entries stand at markers."""
        known = self._prefixes.get(prefix)
        return known is not None and known.alive(self.now)

    def sent_within(self, prefix: int | None, seconds: float) -> bool:
        """Tell whether ``prefix`` was sent in the last ``seconds``."""
        known = self._prefixes.get(prefix)
        return known is not None and known.visits > 0 and self.now - known.seen_at <= seconds

    def visits(self, prefix: int | None) -> int:
        """Return how often ``prefix`` was sent."""
        known = self._prefixes.get(prefix)
        return 0 if known is None else known.visits

    def expected_reads(self, likeness: Likeness, visits: int, lifetime: float) -> float:
        """Return how often a prefix will be read before its entry ends, if it is written at its ``visits``-th time.

        What ends a prompt now will be followed by something when it comes again.
        """
        rates, later, first = self._prefixes.rates, likeness._replace(last=False), min(visits, MANY)
        chance = rates.chance(later, MANY, lifetime)
        reads = min(chance / (1 - chance), FOREVER) if chance < 1 else FOREVER
        for seen in range(MANY - 1, first, -1):
            reads = rates.chance(later, seen, lifetime) * (1 + reads)
        return rates.chance(likeness, first, lifetime) * (1 + reads)

    def neighbours(self, documents: Mapping[bytes, int]) -> list[Neighbour]:
        """Return the earlier requests that share most of these documents, given with their tokens."""
        return self._lookups.neighbours(documents)

    def kept(self, known: int) -> float:
        """Return how often a document that so many similar requests had came again in the next one like its own."""
        return self._lookups.kept(known)
