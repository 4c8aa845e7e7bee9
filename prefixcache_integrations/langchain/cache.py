"""The response cache as LangChain's `BaseCache`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self
from uuid import uuid4

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation
from msgspec.structs import replace

from prefixcache_integrations.caching import CacheSettings
from prefixcache_integrations.events import Event, Observer, StoreDegraded
from prefixcache_integrations.flows.op import Entry, Flow
from prefixcache_integrations.flows.response_cache import empty, keep, look_up
from prefixcache_integrations.langchain import generations
from prefixcache_integrations.langchain.asked import Asked
from prefixcache_integrations.prompt.keys import STRICT, KeyPolicy
from prefixcache_integrations.runner import StoreIO, aclose, arun, async_io, run
from prefixcache_integrations.stores import Store, open_store

_logger = logging.getLogger("prefixcache_integrations")


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
        store: Store,
        *,
        namespace: str = "",
        ttl: float | None = None,
        exact: bool = False,
        policy: KeyPolicy = STRICT,
        tags: Sequence[str] = (),
        secret: bytes = b"",
        require_namespace: bool = False,
        observers: Sequence[Observer] = (),
        new_id: Callable[[], str] = lambda: f"lc_run--{uuid4()}",
    ) -> None:
        """Cache in ``store``.

        Args:
            store: Where answers are kept.
            namespace: The tenant boundary; nothing crosses it.
            ttl: Seconds an answer is kept, for good if ``None``.
            exact: Let white space around system and user text count.
            policy: What else may differ between requests that share an answer.
            tags: Names by which what is stored can be invalidated.
            secret: Keeps keys from being computed, and so prompts from being guessed, by others who see the store.
            require_namespace: Cache only calls that somebody named a namespace for, here or for the call.
            observers: Told every hit, miss, stored or rejected entry, and failure of the store.
            new_id: Makes the message id of a hit.
        """
        self._store = store
        self._namespace = namespace
        settings = CacheSettings(
            ttl=ttl, policy=replace(policy, exact=exact or policy.exact), tags=tuple(tags), namespace=namespace or None
        )
        self._asked = Asked(settings, secret=secret, require_namespace=require_namespace)
        self._new_id = new_id
        self._io = StoreIO(store, (*observers, _log_degraded))
        self._async_io = async_io(store, (*observers, _log_degraded))

    @classmethod
    def from_url(cls, url: str, *, secrets: Sequence[bytes] = (), **settings: Any) -> Self:  # noqa: ANN401 - the settings of the constructor
        """Cache in the store that ``url`` names (`open_store`); ``settings`` are those of the constructor.

        With ``secrets``, keys and values are sealed (`prefixcache_integrations.stores.sealed.Sealed`).
        """
        return cls(open_store(url, secrets=secrets, observers=settings.get("observers", ())), **settings)

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the stored answer as fresh generations, ``None`` if there is none."""
        return run(self._look_up(prompt, llm_string), self._io)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Do what `lookup` does, awaiting."""
        return await arun(self._look_up(prompt, llm_string), self._async_io)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer, if policy allows; what is kept is a copy."""
        run(self._keep(prompt, llm_string, return_val), self._io)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Do what `update` does, awaiting."""
        await arun(self._keep(prompt, llm_string, return_val), self._async_io)

    def clear(self, **kwargs: Any) -> None:  # noqa: ANN401 - LangChain's signature
        """Delete every entry of this cache's namespace. Raises `StoreError` if the store cannot."""
        run(self._empty(kwargs), self._io)

    async def aclear(self, **kwargs: Any) -> None:  # noqa: ANN401 - LangChain's signature
        """Do what `clear` does, awaiting."""
        await arun(self._empty(kwargs), self._async_io)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    async def aclose(self) -> None:
        """Close the store, with what the running event loop holds open."""
        await aclose(self._store)

    def _look_up(self, prompt: str, llm_string: str) -> Flow[list[Generation] | None]:
        terms = self._asked.terms(prompt, llm_string)
        revive: Callable[[Entry], list[Generation]] = partial(
            generations.read, key=terms.key.digest, new_id=self._new_id
        )
        return look_up(terms, revive)

    def _keep(self, prompt: str, llm_string: str, answer: Sequence[Generation]) -> Flow[None]:
        responses = [generations.as_response(generation) for generation in answer]
        return keep(self._asked.terms(prompt, llm_string), responses, partial(generations.write, answer))

    def _empty(self, filters: dict[str, Any]) -> Flow[None]:
        if filters:
            raise TypeError(f"clear() deletes the whole namespace and knows no {', '.join(filters)}")
        return empty(self._namespace)


def _log_degraded(event: Event) -> None:
    if isinstance(event, StoreDegraded):
        _logger.warning("The response cache went on without its store: %s failed with %s", event.operation, event.error)
