"""The response cache behind enabled LLMs: which call has which key, and the way to the store and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.errors import CorruptEntry, MalformedRequest
from prefixcache_integrations.events import EntryRejected, Event, Observer, PassedThrough, StoreDegraded, tell
from prefixcache_integrations.flows.op import Emit, Entry, EntryKey, Flow
from prefixcache_integrations.flows.response_cache import Terms, keep, look_up
from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.calls import Uncacheable
from prefixcache_integrations.prompt.keys import KeyPolicy, response_key
from prefixcache_integrations.runner import StoreIO, arun, async_io, run
from prefixcache_integrations.stores import Store

T = TypeVar("T")

_logger = logging.getLogger("prefixcache_integrations")


class AnswerCache:
    """Looks calls of LLMs up in a store and keeps their answers. No method raises, whatever the store does."""

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = "",
        ttl: float | None = None,
        exact: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._namespace = namespace
        self._exact = exact
        self._ttl = ttl
        self._observers = (*observers, _log_degraded)
        self._io = StoreIO(store, self._observers)
        self._async_io = async_io(store, self._observers)

    def terms(self, request: Callable[[], Request]) -> Terms | None:
        """Return how a call is cached, ``None`` if it is not; the observers are told why."""
        try:
            asked = request()
            # A completion goes on where its prompt ends: there white space is not nothing.
            policy = KeyPolicy(exact=self._exact or asked.options["llama_index"] == "complete")
            digest = response_key(asked, namespace=self._namespace, policy=policy)
        except (Uncacheable, MalformedRequest, RecursionError) as error:
            reason = str(error) if isinstance(error, Uncacheable) else "the call cannot be written down"
            tell(self._observers, PassedThrough(reason=reason))
            return None
        return Terms(key=EntryKey(self._namespace, digest), model=asked.model or None, ttl=self._ttl)

    def look_up(self, terms: Terms, kind: str, live: Callable[[Answer, str], T]) -> T | None:
        """Return the stored answer, made live by ``live``, ``None`` if there is none."""
        return run(_look_up(terms, kind, live), self._io)

    async def alook_up(self, terms: Terms, kind: str, live: Callable[[Answer, str], T]) -> T | None:
        """Do what `look_up` does, awaiting."""
        return await arun(_look_up(terms, kind, live), self._async_io)

    def keep(self, terms: Terms, taken: Callable[[], Answer], stopped: str | None) -> None:
        """Keep an answer, taken down by ``taken``, if policy allows."""
        run(_keep(terms, taken, stopped), self._io)

    async def akeep(self, terms: Terms, taken: Callable[[], Answer], stopped: str | None) -> None:
        """Do what `keep` does, awaiting."""
        await arun(_keep(terms, taken, stopped), self._async_io)


def _look_up(terms: Terms, kind: str, live: Callable[[Answer, str], T]) -> Flow[T | None]:
    def revive(entry: Entry) -> T:
        answer = answers.read(entry, kind)
        try:
            return live(answer, terms.key.digest)
        except Exception as error:
            raise CorruptEntry("cannot be made an answer of this class") from error

    return look_up(terms, revive)


def _keep(terms: Terms, taken: Callable[[], Answer], stopped: str | None) -> Flow[None]:
    try:
        answer = taken()
    except Exception:  # noqa: BLE001 - a response of a foreign class may hold anything; its caller has it already
        yield from Emit(EntryRejected(key=terms.key.digest, reason="cannot be written down in full"))
        return
    yield from keep(terms, [answers.as_response(answer, stopped)], lambda: answers.write(answer))


def _log_degraded(event: Event) -> None:
    if isinstance(event, StoreDegraded):
        _logger.warning("The response cache went on without its store: %s failed with %s", event.operation, event.error)
