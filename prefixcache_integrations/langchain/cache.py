"""The response cache as LangChain's `BaseCache`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation
from msgspec.structs import replace

from prefixcache_integrations.cache import PrefixCache, Where
from prefixcache_integrations.caching import CacheSettings, tag_names
from prefixcache_integrations.canonical import Response
from prefixcache_integrations.events import Observer
from prefixcache_integrations.flows.response_cache import DEFAULT_PATIENCE, Terms
from prefixcache_integrations.langchain import generations, guard
from prefixcache_integrations.langchain.asked import Asked
from prefixcache_integrations.langchain.call_site import call_in_progress
from prefixcache_integrations.langchain.message_ids import new_message_id
from prefixcache_integrations.langchain.traces import mark_traces
from prefixcache_integrations.prompt.keys import STRICT, KeyPolicy
from prefixcache_integrations.stats import Stats
from prefixcache_integrations.stores import Store, open_store


class ResponseCache(BaseCache):
    """Answers a repeated request from a store: ``set_llm_cache(ResponseCache.from_url("sqlite:///answers.db"))``.

    Two requests share an answer only where theirs could not differ: message and call ids, usage, transport
    settings, cache markers and key order do not count, everything else does (`response_key`). A hit is a fresh
    answer: new message id, zero usage, ``response_metadata["prefixcache"]`` with what the original had used.
    Refusals, cut or empty answers and invalid tool calls are not stored. A store that fails costs a miss and
    an event, which is also logged; no method but `clear` ever raises.

    What the two strings of LangChain do not say is read from the call itself: the settings of a model that was changed
    or copied, the schema of a class, the arguments of a completion. API keys never count: give tenants namespaces. A
    request with an object that prints neither its value nor a schema is not cached. Single calls are cached otherwise
    under `caching` and by ``x_cache_control``. ``stream()`` on a model asks no cache; `with_response_cache` does.
    """

    def __init__(
        self,
        store: Store | PrefixCache,
        *,
        namespace: str = "",
        ttl: float | None = None,
        exact: bool = False,
        policy: KeyPolicy = STRICT,
        tags: Sequence[str] = (),
        secret: bytes = b"",
        require_namespace: bool = False,
        patience: float = DEFAULT_PATIENCE,
        observers: Sequence[Observer] = (),
        new_id: Callable[[], str] = new_message_id,
    ) -> None:
        """Cache in ``store``.

        Args:
            store: Where answers are kept; or a cache that other adapters use, too: all but ``new_id`` is its own.
            namespace: The tenant boundary; nothing crosses it.
            ttl: Seconds an answer is kept, for good if ``None``.
            exact: Let white space around system and user text count.
            policy: What else may differ between requests that share an answer.
            tags: Names by which what is stored can be invalidated.
            secret: Keeps keys from being computed, and so prompts from being guessed, by others who see the store.
            require_namespace: Cache only calls that somebody named a namespace for, here or for the call.
            patience: Seconds a call may wait for another's of the same before it is made as well.
            observers: Told every hit, miss, joined call, stored or rejected entry, and failure of the store.
            new_id: Makes the message id of a hit.

        Raises:
            ConfigurationError: A setting cannot be meant.
        """
        settings = CacheSettings(ttl=ttl, policy=policy, tags=tag_names(tags), namespace=namespace or None)
        if exact:
            settings = replace(settings, policy=replace(settings.policy, exact=True))
        if isinstance(store, PrefixCache):
            store.check_own(settings, secret, require_namespace, patience != DEFAULT_PATIENCE, observers)
            self._cache = store
        else:
            self._cache = PrefixCache(
                store,
                settings,
                secret=secret,
                require_namespace=require_namespace,
                patience=patience,
                observers=observers,
            )
        self._asked = Asked(
            self._cache.settings, secret=self._cache.secret, require_namespace=self._cache.require_namespace
        )
        self._reader = partial(partial, generations.read, new_id=new_id)

    @classmethod
    def from_url(cls, url: str, *, secrets: Sequence[bytes] = (), **settings: Any) -> Self:  # noqa: ANN401 - the settings of the constructor
        """Cache in the store that ``url`` names (`open_store`); ``settings`` are those of the constructor.

        With ``secrets``, keys and values are sealed (`prefixcache_integrations.stores.sealed.Sealed`).
        """
        return cls(open_store(url, secrets=secrets, observers=settings.get("observers", ())), **settings)

    def __deepcopy__(self, _: object) -> Self:
        """Return this very cache: what holds it shares it with its copies."""
        return self

    @property
    def front(self) -> PrefixCache:
        """The cache behind this one, for adapters that share its answers."""
        return self._cache

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the stored answer as fresh generations, ``None`` if there is none.

        Where another asks the same at this moment, that is waited for, but not where no model asks: then what is stored
        is all there is. Raises `AnswerNotCached` in mode ``only``.
        """
        call = call_in_progress()
        terms = self._asked.terms(prompt, llm_string, call)
        opened = self._cache.open(terms, self._reader(key=terms.key.digest), alone=call is None)
        if opened.flight is not None:
            guard.watch(opened.flight, self, prompt, llm_string, awaited=False)
        if call is not None:
            if opened.answer is None:
                guard.note(self, prompt, llm_string, opened.began)
            else:
                mark_traces(call.run_manager, opened.answer)
        return opened.answer

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Do what `lookup` does, awaiting."""
        call = call_in_progress()
        terms = self._asked.terms(prompt, llm_string, call)
        opened = await self._cache.aopen(terms, self._reader(key=terms.key.digest), alone=call is None)
        if opened.flight is not None:
            guard.watch(opened.flight, self, prompt, llm_string, awaited=True)
        if call is not None:
            if opened.answer is None:
                guard.note(self, prompt, llm_string, opened.began)
            else:
                mark_traces(call.run_manager, opened.answer)
        return opened.answer

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer, if policy allows, and give it to who waits for it; what is kept is a copy."""
        terms, began = self._answered(prompt, llm_string)
        self._cache.settle(terms, _responses(return_val), partial(generations.write, return_val), began)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Do what `update` does, awaiting."""
        terms, began = self._answered(prompt, llm_string)
        await self._cache.asettle(terms, _responses(return_val), partial(generations.write, return_val), began)

    def clear(self, **kwargs: Any) -> None:  # noqa: ANN401 - LangChain's signature
        """Delete every entry of this cache's namespace as `PrefixCache.clear` does. Raises `StoreError`."""
        _refuse(kwargs)
        self._cache.clear()

    async def aclear(self, **kwargs: Any) -> None:  # noqa: ANN401 - LangChain's signature
        """Do what `clear` does, awaiting."""
        _refuse(kwargs)
        await self._cache.aclear()

    def invalidate(self, *, tag: str | None = None, model: str | None = None, where: Where | None = None) -> None:
        """Delete this namespace's entries as `PrefixCache.invalidate` does. Raises `StoreError`."""
        self._cache.invalidate(tag=tag, model=model, where=where)

    async def ainvalidate(
        self, *, tag: str | None = None, model: str | None = None, where: Where | None = None
    ) -> None:
        """Do what `invalidate` does, awaiting."""
        await self._cache.ainvalidate(tag=tag, model=model, where=where)

    def stats(self) -> Stats:
        """Return what came of the calls since this cache was opened."""
        return self._cache.stats()

    def close(self) -> None:
        """Close the store."""
        self._cache.close()

    async def aclose(self) -> None:
        """Close the store, with what the running event loop holds open."""
        await self._cache.aclose()

    def _answered(self, prompt: str, llm_string: str) -> tuple[Terms, int | None]:
        """Return the terms of an answer, which is one to what was asked, whatever has changed since, and since when."""
        terms = self._asked.terms(prompt, llm_string, call_in_progress())
        flight = guard.flight_of(self, prompt, llm_string)
        asked = terms if flight is None else replace(terms, key=flight.key)
        return asked, guard.began(self, prompt, llm_string)


def _responses(answer: Sequence[Generation]) -> list[Response]:
    return [generations.as_response(generation) for generation in answer]


def _refuse(filters: dict[str, Any]) -> None:
    if filters:
        raise TypeError(f"clear() deletes the whole namespace and knows no {', '.join(filters)}")
