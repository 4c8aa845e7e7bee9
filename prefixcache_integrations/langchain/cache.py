"""The response cache as LangChain's `BaseCache`."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self
from uuid import uuid4

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation

from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.events import Event, Observer, StoreDegraded
from prefixcache_integrations.flows.op import Entry, EntryKey, Flow
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.flows.response_cache import Terms, empty, keep, look_up
from prefixcache_integrations.langchain import generations
from prefixcache_integrations.langchain.messages import read_call
from prefixcache_integrations.prompt.keys import KeyPolicy, raw_key, response_key
from prefixcache_integrations.runner import StoreIO, aclose, arun, async_io, run
from prefixcache_integrations.stores import Store, open_store

_logger = logging.getLogger("prefixcache_integrations")

MEMO_SIZE = 1024
"""How many requests are remembered with their keys, so that the same two strings are not read again."""


class ResponseCache(BaseCache):
    """Answers a repeated request from a store: ``set_llm_cache(ResponseCache.from_url("sqlite:///answers.db"))``.

    Two requests share an answer only where theirs could not differ: message and call ids, usage, transport
    settings, cache markers and key order do not count, everything else does (`response_key`). A hit is a fresh
    answer: new message id, zero usage, ``response_metadata["prefixcache"]`` with what the original had used.
    Refusals, cut or empty answers and invalid tool calls are not stored. A store that fails costs a miss and
    an event, which is also logged; no method but `clear` ever raises.

    What LangChain does not tell a cache it cannot see: the value of an API key, a base URL from the environment,
    a model changed after its first call, settings that a custom model leaves out of its identifying parameters,
    and, for completion models (`BaseLLM`), the keyword arguments of a call. Give each such case a ``namespace``
    of its own, or switch the cache off there with ``cache=False``. A request bound to a class whose fields
    LangChain does not print (``with_structured_output`` with a class, method ``json_schema``, on OpenAI) is never
    cached: two versions of the class would look the same. ``stream()`` on a model asks no cache.
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = "",
        ttl: float | None = None,
        exact: bool = False,
        observers: Sequence[Observer] = (),
        new_id: Callable[[], str] = lambda: f"lc_run--{uuid4()}",
    ) -> None:
        """Cache in ``store``.

        Args:
            store: Where answers are kept.
            namespace: The tenant boundary; nothing crosses it.
            ttl: Seconds an answer is kept, for good if ``None``.
            exact: Let white space around system and user text count.
            observers: Told every hit, miss, stored or rejected entry, and failure of the store.
            new_id: Makes the message id of a hit.
        """
        self._store = store
        self._namespace = namespace
        self._ttl = ttl
        self._exact = exact
        self._new_id = new_id
        self._io = StoreIO(store, (*observers, _log_degraded))
        self._async_io = async_io(store, (*observers, _log_degraded))
        self._memo: OrderedDict[str, Terms] = OrderedDict()
        self._memo_lock = threading.Lock()

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
        terms = self._terms(prompt, llm_string)
        revive: Callable[[Entry], list[Generation]] = partial(
            generations.read, key=terms.key.digest, new_id=self._new_id
        )
        return look_up(terms, revive)

    def _keep(self, prompt: str, llm_string: str, answer: Sequence[Generation]) -> Flow[None]:
        responses = [generations.as_response(generation) for generation in answer]
        return keep(self._terms(prompt, llm_string), responses, partial(generations.write, answer))

    def _empty(self, filters: dict[str, Any]) -> Flow[None]:
        if filters:
            raise TypeError(f"clear() deletes the whole namespace and knows no {', '.join(filters)}")
        return empty(self._namespace)

    def _terms(self, prompt: str, llm_string: str) -> Terms:
        raw = raw_key(prompt, llm_string, namespace=self._namespace)
        with self._memo_lock:
            terms = self._memo.get(raw)
            if terms is not None:
                self._memo.move_to_end(raw)
                return terms
        terms = self._read_terms(raw, prompt, llm_string)
        with self._memo_lock:
            self._memo[raw] = terms
            if len(self._memo) > MEMO_SIZE:
                self._memo.popitem(last=False)
        return terms

    def _read_terms(self, raw: str, prompt: str, llm_string: str) -> Terms:
        by_raw = Terms(key=EntryKey(self._namespace, raw), ttl=self._ttl)
        reading = read_call(prompt, llm_string)
        if reading.request is None:
            return Terms(key=by_raw.key, ttl=self._ttl, bypass=reading.ambiguous)
        try:
            digest = response_key(reading.request, namespace=self._namespace, policy=KeyPolicy(exact=self._exact))
        except (MalformedRequest, RecursionError):
            return by_raw
        return Terms(
            key=EntryKey(self._namespace, digest),
            model=reading.request.model or None,
            ttl=self._ttl,
            bypass=bypass(reading.request),
        )


def _log_degraded(event: Event) -> None:
    if isinstance(event, StoreDegraded):
        _logger.warning("The response cache went on without its store: %s failed with %s", event.operation, event.error)
