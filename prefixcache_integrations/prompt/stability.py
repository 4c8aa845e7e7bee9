"""What has been sent before, and how often such prompts come back: learned as requests go by, from digests alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct, field

from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.cache_key import Route, Routes
from prefixcache_integrations.prompt.classes import MANY, Class
from prefixcache_integrations.prompt.lookups import Allowance, Bill, Document, Lookups, Neighbour
from prefixcache_integrations.prompt.noticed import Noticed
from prefixcache_integrations.prompt.prefixes import Prefixes
from prefixcache_integrations.prompt.reading import Reading, Readings
from prefixcache_integrations.prompt.repeats import Attempts, Laid, Repeats
from prefixcache_integrations.prompt.reports import Report
from prefixcache_integrations.prompt.returns import Returns
from prefixcache_integrations.prompt.steps import Step
from prefixcache_integrations.prompt.templates import Recognition, Template, Templates
from prefixcache_integrations.prompt.tool_lists import ToolLists

TICK = 0.001
"""How many seconds at least lie between two requests as far as learning goes, also where the clock stands still."""


class Sighting(Struct, frozen=True):
    """One request, ready to be remembered: its steps in the order sent, and its documents by their digests.

    ``tools`` are the digests of its tools, in the order sent, and ``agent`` is whose they are; ``route`` is the way it
    goes. ``previous`` is the step at which the request before it in its conversation should have ended, ``None``
    without one; ``instead`` are the steps as which what it goes on with is remembered, if that is in another order.
    ``as_it_came``: it was sent so, which is not in the order of the steps. ``attempts`` is by what it is known if it is
    sent once more; ``steps`` are empty if it was. ``texts`` are its instructions, as they were recognised; ``places``
    are those that change, and were told. ``reading`` is its prompt.
    """

    steps: tuple[Step, ...]
    documents: Mapping[bytes, Document] = field(default_factory=dict)
    bill: Bill = Bill()
    tools: tuple[bytes, ...] = ()
    agent: bytes = b""
    route: Route | None = None
    previous: int | None = None
    instead: tuple[bytes, ...] = ()
    as_it_came: bool = False
    attempts: Attempts | None = None
    texts: tuple[Recognition, ...] = ()
    places: tuple[bytes, ...] = ()
    reading: Reading | None = None


class Known:
    """What one tenant has sent: its prefixes, the documents it looked up, its tool lists and instructions."""

    def __init__(self, *, limit: int, horizon: float) -> None:
        self.prefixes = Prefixes(limit=limit, horizon=horizon)
        self.lookups = Lookups(max(limit // 50, 16))
        self.repeats = Repeats()
        self.tools = ToolLists()
        self.texts = Templates()
        self.noticed = Noticed()
        self.readings = Readings()
        self._clock = 0.0

    def __len__(self) -> int:
        """Return how many prefixes are remembered."""
        return len(self.prefixes)

    def observe(self, sighting: Sighting, now: float, answer: Answer | None = None) -> None:
        """Remember a request that was sent at ``now``, to which this is the ``answer``."""
        self._clock = max(now, self._clock + TICK)
        reading = sighting.reading
        in_order = reading is not None and tuple(step.key for step in sighting.steps) == reading.blocks.keys
        path = self.prefixes.observe(
            sighting.steps,
            sighting.previous,
            now,
            self._clock,
            sent=reading.path if reading is not None and in_order else (),
            instead=sighting.instead,
            as_it_came=sighting.as_it_came,
            answer=answer,
        )
        self.lookups.observe(sighting.documents, sighting.bill)
        if sighting.attempts is not None:
            self.repeats.observe(sighting.attempts, now)
        if sighting.steps:
            self.tools.observe(sighting.tools, sighting.agent)
        self.texts.observe(sighting.texts)
        self.noticed.observe(sighting.places)
        if reading is not None:
            self.readings.observe(reading, path if in_order else ())


class PromptMemory:
    """What has been sent, by one application: prefixes as digests, and how often which kind of them came back.

    Nothing of a prompt is kept but digests and checksums; nothing that a tenant sent has a part in planning for
    another one. ``limit`` bounds the prefixes that are remembered, the least recent go first, and tenants as a
    whole; ``horizon`` is after how many seconds without a sighting one is forgotten. ``turn`` is to be held from a
    snapshot to the sighting that follows it, where threads share a memory.
    """

    def __init__(self, *, limit: int = 200_000, horizon: float = 86_400.0) -> None:
        self.turn = threading.Lock()
        self._limit = limit
        self._horizon = horizon
        self._tenants: OrderedDict[bytes, Known] = OrderedDict()
        self._size = 0
        self._routes = Routes()

    def __len__(self) -> int:
        """Return how many prefixes are remembered, of all tenants."""
        return self._size

    def snapshot(self, now: float, namespace: str = "") -> Snapshot:
        """Return what is known of the tenant ``namespace`` at ``now``, in seconds.

        It is a view, so that it changes with the next `observe`.
        """
        known = self._tenants.get(tenant_digest(namespace))
        return Snapshot(self._nothing() if known is None else known, routes=self._routes, now=now)

    def observe(self, sighting: Sighting, now: float, namespace: str = "", answer: Answer | None = None) -> None:
        """Remember a request of the tenant ``namespace`` that was sent at ``now``.

        Until its ``answer`` has begun, what it writes is not read, nor written once more; without one it has.
        """
        self._remember(sighting, now, tenant_digest(namespace), answer=answer)

    def learn(self, report: Report, now: float) -> None:
        """Remember at ``now`` a request that another process sent, or this application before it was started again."""
        sighting = Sighting(
            steps=report.steps,
            documents=dict(report.documents),
            bill=report.bill,
            tools=report.tools,
            agent=report.agent,
            route=None if report.cache_key is None else Route(report.cache_key),
            previous=report.previous,
            instead=report.instead,
            as_it_came=report.as_it_came,
            places=report.places,
        )
        self._remember(sighting, min(now, report.at), report.tenant, report.texts)

    def _remember(
        self,
        sighting: Sighting,
        now: float,
        tenant: bytes,
        texts: Iterable[Template] = (),
        answer: Answer | None = None,
    ) -> None:
        known = self._tenants.setdefault(tenant, self._tenants.get(tenant) or self._nothing())
        self._tenants.move_to_end(tenant)
        self._size -= len(known)
        known.observe(sighting, now, answer)
        for text in texts:
            known.texts.adopt(text)
        self._size += len(known)
        while self._size > self._limit and len(self._tenants) > 1:
            _, gone = self._tenants.popitem(last=False)
            self._size -= len(gone)
        if sighting.route is not None:
            self._routes.observe(sighting.route, now)

    def _nothing(self) -> Known:
        return Known(limit=self._limit, horizon=self._horizon)


@lru_cache(maxsize=4096)
def tenant_digest(namespace: str) -> bytes:
    """Return by what a tenant is known."""
    return blake2b(namespace.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Snapshot:
    """What is known at one time, for planning; reading it changes nothing."""

    def __init__(self, known: Known, *, routes: Routes, now: float) -> None:
        self._prefixes = known.prefixes
        self._lookups = known.lookups
        self._repeats = known.repeats
        self._texts = known.texts
        self.tools = known.tools
        self.noticed = known.noticed
        self.readings = known.readings
        self.routes = routes
        self.now = now

    @property
    def allowance(self) -> Allowance:
        """What the next request with documents may risk."""
        return self._lookups.allowance

    def just_sent(self, digest: bytes) -> Laid | None:
        """Return how a request was laid out that is now sent once more, ``None`` for one that is not."""
        return self._repeats.find(digest, self.now)

    def recognise(self, text: str) -> Recognition | None:
        """Hold instructions against those that were sent; ``None`` for a text too long to be learned."""
        return self._texts.recognise(text)

    def continuations(self, prefix: int) -> Mapping[bytes, int]:
        """Return the prefixes that continue ``prefix`` with one step, by that."""
        return self._prefixes.continuations(prefix)

    def path(self, keys: Sequence[bytes], begun: Sequence[int] = ()) -> list[int]:
        """Return the prefixes that the steps ``keys`` lead to, as far as they were sent; ``begun`` are known."""
        return self._prefixes.path(keys, begun)

    def sent_before(self, path: Sequence[int]) -> int:
        """Return how many prefixes of a path were sent before: those behind them are only just being sent."""
        return self._prefixes.sent_before(path, self.now)

    def written(self, prefix: int) -> bool:
        """Tell whether ``prefix`` is written by a request that is on its way."""
        known = self._prefixes.get(prefix)
        return known is not None and known.awaited(self.now) and known.alive_until >= self.now

    def sent_often(self, path: Sequence[int]) -> Iterator[int]:
        """Yield how many of the prefixes of a path were sent `MANY` times or more, then once less, down to once."""
        return self._prefixes.sent_often(path)

    def alive(self, prefix: int | None) -> bool:
        """Tell whether the provider should hold an entry for ``prefix``, where entries stand at markers."""
        known = self._prefixes.get(prefix)
        return known is not None and known.alive(self.now)

    def as_it_came(self, prefix: int) -> bool:
        """Tell whether what ends with ``prefix`` was sent as it came last, which was in another order."""
        known = self._prefixes.get(prefix)
        return known is not None and known.as_it_came

    def sent_within(self, prefix: int | None, seconds: float) -> bool:
        """Tell whether ``prefix`` was sent in the last ``seconds``."""
        known = self._prefixes.get(prefix)
        return known is not None and known.visits > 0 and self.now - known.seen_at <= seconds

    def begun(self, path: Sequence[int]) -> int:
        """Return how a prompt begins that was sent before as far as ``path``, as `Prefixes.begun` counts it."""
        return self._prefixes.begun(path)

    def settled(self, path: Sequence[int]) -> int:
        """Return how many steps of ``path`` a conversation was sent with that they go on with; 0 where it begins."""
        return len(path) if self.begun(path) > MANY else 0

    def returns(self, kind: Class) -> Returns:
        """Return how likely a prefix comes again if it is sent now."""
        return self._prefixes.rates.returns(kind)

    def neighbours(self, documents: Mapping[bytes, int]) -> list[Neighbour]:
        """Return the earlier requests that share most of these documents, given with their tokens."""
        return self._lookups.neighbours(documents)

    def kept(self, known: int) -> float:
        """Return how often a document that so many similar requests had came again in the next one like its own."""
        return self._lookups.kept(known)
