"""The front door: one response cache, opened by URL, that serves calls, counts what came of them, and explains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import perf_counter
from typing import Self, TypeAlias, TypeVar

from msgspec.structs import replace

from prefixcache_integrations import tokens
from prefixcache_integrations.body_codec import BodyCodec
from prefixcache_integrations.caching import CacheSettings, current_controls
from prefixcache_integrations.canonical import JsonObject, Level, PromptPlan, Request, Response, Usage
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import Observer, checked_observers
from prefixcache_integrations.flows.op import Entry, EntryFacts, Flow, model_tag
from prefixcache_integrations.flows.open_settle import Opened, open_call, settle
from prefixcache_integrations.flows.response_cache import DEFAULT_PATIENCE, Terms, empty, invalidate, invalidate_where
from prefixcache_integrations.flows.serve import Codec, Served, serve
from prefixcache_integrations.insight.diagnosis import Explanation, explain
from prefixcache_integrations.outages import OutageLog
from prefixcache_integrations.profiles import Provider, resolve
from prefixcache_integrations.prompt.layout import plan
from prefixcache_integrations.runner import arun, run
from prefixcache_integrations.stats import Counters, Evictions, Stats
from prefixcache_integrations.store_io import StoreIO, aclose, async_io, new_flights
from prefixcache_integrations.stores import Store, open_store
from prefixcache_integrations.terms import terms_of

Where: TypeAlias = Callable[[EntryFacts], object]
"""Says of an entry whether to delete it."""

T = TypeVar("T")
R = TypeVar("R")


class PrefixCache:
    """A response cache: ``PrefixCache.from_url("sqlite:///answers.db")``. Adapters hold one; `serve` is for direct use.

    Of callers who ask the same at the same time one calls, in this process and among all that share the store, as
    far as it has leases (files and servers do); the others get its answer. `caching` overrides settings for a while.
    A store that fails costs a miss and an event; an outage is logged once. Safe to share between threads and loops.
    """

    def __init__(
        self,
        store: Store,
        settings: CacheSettings = CacheSettings(),  # noqa: B008 - frozen
        *,
        secret: bytes = b"",
        require_namespace: bool = False,
        patience: float = DEFAULT_PATIENCE,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Cache in ``store``.

        Args:
            store: Where answers are kept.
            settings: How calls are cached that do not ask for anything else.
            secret: Keeps keys from being computed by others who see the store.
            require_namespace: Cache only calls that somebody named a namespace for.
            patience: Seconds a call may wait for another's of the same before it is made as well.
            observers: Told every hit, miss, joined call, stored, rejected or evicted entry, and failure of the store.

        Raises `ConfigurationError` for what cannot be meant.
        """
        _check(store, patience, secret)
        observers = checked_observers(observers)
        self._store = store
        self.settings = settings
        self.secret = secret
        self.require_namespace = require_namespace
        self._patience = patience
        self._counters = Counters()
        self._flights = new_flights()
        self._evictions = Evictions(store, observers)
        # None of these leads back to this cache: it goes with its last user, and who waits for its calls with it.
        told = (self._counters.count, *observers, OutageLog().beside(self._evictions.notice))
        self._io = StoreIO(store, told, self._flights)
        self._async_io = async_io(store, told, self._flights)

    @classmethod
    def from_url(
        cls,
        url: str,
        settings: CacheSettings = CacheSettings(),  # noqa: B008 - frozen
        *,
        secrets: Sequence[bytes] = (),
        secret: bytes = b"",
        require_namespace: bool = False,
        patience: float = DEFAULT_PATIENCE,
        observers: Sequence[Observer] = (),
    ) -> Self:
        """Cache in the store that ``url`` names, with what its kind needs around it (`open_store`).

        The settings are those of the constructor. With ``secrets``, keys and values are sealed.
        """
        store = open_store(url, secrets=secrets, observers=observers)
        return cls(
            store,
            settings,
            secret=secret,
            require_namespace=require_namespace,
            patience=patience,
            observers=observers,
        )

    def check_own(self, settings: CacheSettings, *others: object) -> None:
        """Raise `ConfigurationError` where who is given this cache is also given ``settings`` or ``others``."""
        if settings != CacheSettings() or any(others):
            raise ConfigurationError("a cache that is shared has settings of its own: give them to the PrefixCache")

    def __deepcopy__(self, _: object) -> Self:
        """Return this very cache: what holds it shares it with its copies."""
        return self

    def serve(
        self, request: Request, call: Callable[[], JsonObject], *, new_id: Callable[[], str] | None = None
    ) -> Served[JsonObject]:
        """Return the body of the response to ``request``: the stored one, another caller's, or that of ``call``.

        ``call`` returns what the provider answers, in the wire format of ``request``. A body that was not called for
        here has a new id (``new_id``), which the provider does not know and no later request can refer to, and its
        usage as it was billed once. What ``call`` raises comes out; who waited for it calls for himself.
        """
        return self.serve_as(self.terms(request), call, BodyCodec(request, new_id))

    async def aserve(
        self, request: Request, call: Callable[[], Awaitable[JsonObject]], *, new_id: Callable[[], str] | None = None
    ) -> Served[JsonObject]:
        """Do what `serve` does, awaiting."""
        return await self.aserve_as(self.terms(request), call, BodyCodec(request, new_id))

    def serve_as(self, terms: Terms, call: Callable[[], T], codec: Codec[T]) -> Served[T]:
        """Serve an answer of any kind that ``codec`` writes down."""
        start = perf_counter()
        served: Served[T] = run(serve(self._patient(terms), self._timed(call, start), codec), self._io)
        return self._counted(served, start)

    async def aserve_as(self, terms: Terms, call: Callable[[], Awaitable[T]], codec: Codec[T]) -> Served[T]:
        """Do what `serve_as` does, awaiting."""
        start = perf_counter()
        flow: Flow[Served[T]] = serve(self._patient(terms), self._timed(call, start), codec)
        return self._counted(await arun(flow, self._async_io), start)

    def open(self, terms: Terms, revive: Callable[[Entry], T], *, alone: bool = False) -> Opened[T]:
        """Do the first half of `serve_as` (`open_call`), for who makes the call himself."""
        start = perf_counter()
        opened = run(open_call(self._patient(terms), revive, alone=alone), self._io)
        self._counters.since(start, opened.outcome)
        return opened

    async def aopen(self, terms: Terms, revive: Callable[[Entry], T], *, alone: bool = False) -> Opened[T]:
        """Do what `open` does, awaiting."""
        start = perf_counter()
        opened = await arun(open_call(self._patient(terms), revive, alone=alone), self._async_io)
        self._counters.since(start, opened.outcome)
        return opened

    def settle(
        self, terms: Terms, answers: Sequence[Response], pack: Callable[[], Entry | None], began: int | None
    ) -> None:
        """Do the second half: keep what was answered to the call that ``began`` then, and give it to who waits.

        ``began`` is `Opened.began`, ``None`` for an answer to no call that was opened here.
        """
        run(settle(terms, answers, pack, began), self._io)
        self._counters.shorten()

    async def asettle(
        self, terms: Terms, answers: Sequence[Response], pack: Callable[[], Entry | None], began: int | None
    ) -> None:
        """Do what `settle` does, awaiting."""
        await arun(settle(terms, answers, pack, began), self._async_io)
        self._counters.shorten()

    def terms(self, request: Request) -> Terms:
        """Return how ``request`` is cached under the settings of this moment."""
        settings = current_controls().applied(self.settings)
        return terms_of(request, settings, secret=self.secret, require_namespace=self.require_namespace)

    def plan(self, request: Request, *, provider: Provider | None = None, level: Level = "canonical") -> PromptPlan:
        """Return how ``request`` would be laid out for the provider's prompt cache. Raises `MalformedRequest`."""
        return plan(request, resolve(request.model, provider), tokens.load(), level=level)

    def explain(
        self,
        previous: Request,
        current: Request,
        *,
        provider: Provider | None = None,
        usage: Usage | None = None,
        elapsed: float | None = None,
    ) -> Explanation:
        """Say what ``current`` reads of what ``previous`` left in the provider's prompt cache, and why not all.

        See `insight.diagnosis.explain`. Raises `MalformedRequest`.
        """
        profile = resolve(current.model, provider)
        return explain(previous, current, profile=profile, tokenizer=tokens.load(), usage=usage, elapsed=elapsed)

    def stats(self) -> Stats:
        """Return what came of the calls since this cache was opened."""
        return self._counters.stats(self._evictions.total())

    def clear(self, namespace: str | None = None) -> None:
        """Delete every entry of ``namespace``, by default the cache's own. Raises `StoreError` if the store cannot.

        Calls in flight get their answers, which are not kept, whatever process makes them, if the store is a
        `SharedStore`. What another process keeps in memory in front of the store (``memory_ttl``), it answers from so
        long.
        """
        run(empty(self._named(namespace)), self._io)

    async def aclear(self, namespace: str | None = None) -> None:
        """Do what `clear` does, awaiting."""
        await arun(empty(self._named(namespace)), self._async_io)

    def invalidate(
        self,
        *,
        tag: str | None = None,
        model: str | None = None,
        where: Where | None = None,
        namespace: str | None = None,
    ) -> None:
        """Delete the entries with ``tag``, those that ``model`` answered, and those of which ``where`` is true.

        ``where`` is given the `EntryFacts` of every entry of the namespace; no prompt and no answer is among them.
        Answers to calls in flight are as with `clear`; those of all of the namespace where there is a ``where``, which
        reaches no call of another process.
        Raises `StoreError`, and `ConfigurationError` where nothing is named.
        """
        for flow in self._invalidations(tag, model, where, namespace):
            run(flow, self._io)

    async def ainvalidate(
        self,
        *,
        tag: str | None = None,
        model: str | None = None,
        where: Where | None = None,
        namespace: str | None = None,
    ) -> None:
        """Do what `invalidate` does, awaiting."""
        for flow in self._invalidations(tag, model, where, namespace):
            await arun(flow, self._async_io)

    def close(self) -> None:
        """Close the store; who waits for a call of another waits no longer."""
        self._flights.give_up()
        self._store.close()

    async def aclose(self) -> None:
        """Close the store, with what the running event loop holds open."""
        self._flights.give_up()
        await aclose(self._store)

    def _invalidations(
        self, tag: str | None, model: str | None, where: Where | None, namespace: str | None
    ) -> Iterator[Flow[None]]:
        if tag is None and model is None and where is None:
            raise ConfigurationError("invalidate by a tag, a model or a predicate; `clear` deletes all there is")
        name = self._named(namespace)
        if tag is not None:
            yield invalidate(name, tag)
        if model is not None:
            yield invalidate(name, model_tag(model))
        if where is not None:
            yield invalidate_where(name, where)

    def _patient(self, terms: Terms) -> Terms:
        return terms if self._patience == terms.patience else replace(terms, patience=self._patience)

    def _named(self, namespace: str | None) -> str:
        return self.settings.namespace or "" if namespace is None else namespace

    def _timed(self, call: Callable[[], T], start: float) -> Callable[[], T]:
        def begin() -> T:
            self._counters.since(start, "miss")
            return call()

        return begin

    def _counted(self, served: Served[T], start: float) -> Served[T]:
        if served.outcome in ("hit", "joined"):
            self._counters.since(start, served.outcome)
        return served


def _check(store: object, patience: object, secret: object) -> None:
    if not all(callable(getattr(store, name, None)) for name in ("get", "put", "delete")):
        raise ConfigurationError(f"a store is one of `stores`, not a {type(store).__name__}: `from_url` opens one")
    if not isinstance(patience, int | float) or not 0 <= patience < float("inf"):
        raise ConfigurationError(f"patience is a number of seconds, or 0 for none, not {patience!r}")
    if not isinstance(secret, bytes):
        raise ConfigurationError("a secret is bytes")  # which of them is nobody's business
