"""What LangChain asks a cache, read once: the key of the two strings, under the settings of the call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeAlias

from langchain_core.runnables.config import var_child_runnable_config
from msgspec import Struct

from prefixcache_integrations.caching import CacheSettings, Controls, controls_of, current_controls
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.errors import ConfigurationError, MalformedRequest
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain.call_site import told_in_full
from prefixcache_integrations.langchain.messages import read_call
from prefixcache_integrations.prompt.keys import KeyPolicy, raw_key, response_key

CONTROL_FIELD = "x_cache_control"
"""The field of a runnable's ``configurable`` that controls the calls inside it."""

MEMO_SIZE = 1024
"""How many requests are remembered with their keys, so that the same two strings are not read again …"""

MEMO_CHARACTERS = 16 * 2**20
"""… and how long they may be together."""

_Question: TypeAlias = tuple[str, str, str, KeyPolicy]


class _Reading(Struct, frozen=True):
    digest: str
    model: str | None = None
    bypass: str | None = None


class Asked:
    """Turns what a cache is asked into the terms of the answer. Safe to share between threads."""

    def __init__(self, settings: CacheSettings, *, secret: bytes = b"", require_namespace: bool = False) -> None:
        self._settings = settings
        self._secret = secret
        self._require_namespace = require_namespace
        self._memo: OrderedDict[_Question, _Reading] = OrderedDict()
        self._memo_characters = 0
        self._lock = threading.Lock()

    def terms(self, prompt: str, llm_string: str) -> Terms:
        """Return the terms of LangChain's question; to be called in the frames that it is asked from."""
        settings, refused = self.settings()
        namespace = settings.namespace or ""
        question = (prompt, told_in_full(llm_string), namespace, settings.policy)
        reading = self._remembered(question) or self._remember(question, self._read(question))
        return self._terms(reading, settings, refused)

    def terms_of(self, request: Request) -> Terms:
        """Return the terms of a request that is already read."""
        settings, refused = self.settings()
        return self._terms(self._reading(request, settings.namespace or "", settings.policy), settings, refused)

    def settings(self) -> tuple[CacheSettings, str | None]:
        """Return the settings of the call in progress, and why it must not be cached, ``None`` if it may be.

        `caching` wins over `CONTROL_FIELD`, which wins over the cache's own settings.
        """
        try:
            settings = current_controls().over(_configured()).applied(self._settings)
        except ConfigurationError as error:
            return self._settings, f"its cache control is not understood ({error})"
        if settings.mode == "skip":
            return settings, "asked to skip the cache"
        if self._require_namespace and not settings.namespace:
            return settings, "no namespace is named"
        return settings, None

    @staticmethod
    def _terms(reading: _Reading, settings: CacheSettings, refused: str | None) -> Terms:
        return Terms(
            key=EntryKey(settings.namespace or "", reading.digest),
            model=reading.model,
            ttl=settings.ttl,
            tags=settings.tags,
            mode="use" if settings.mode == "skip" else settings.mode,
            bypass=refused or reading.bypass,
        )

    def _read(self, question: _Question) -> _Reading:
        prompt, llm_string, namespace, policy = question
        reading = read_call(prompt, llm_string)
        if reading.request is not None:
            try:
                return self._reading(reading.request, namespace, policy)
            except (MalformedRequest, RecursionError):
                pass
        raw = raw_key(prompt, llm_string, namespace=namespace, secret=self._secret)
        return _Reading(raw, bypass=reading.ambiguous)

    def _reading(self, request: Request, namespace: str, policy: KeyPolicy) -> _Reading:
        digest = response_key(request, namespace=namespace, policy=policy, secret=self._secret)
        return _Reading(digest, request.model or None, bypass(request))

    def _remembered(self, question: _Question) -> _Reading | None:
        hash(question)  # a string keeps its hash: made here, it is not made under the lock
        with self._lock:
            reading = self._memo.get(question)
            if reading is not None:
                self._memo.move_to_end(question)
            return reading

    def _remember(self, question: _Question, reading: _Reading) -> _Reading:
        with self._lock:
            if question not in self._memo:
                self._memo[question] = reading
                self._memo_characters += _characters(question)
            while len(self._memo) > MEMO_SIZE or self._memo_characters > MEMO_CHARACTERS:
                forgotten, _ = self._memo.popitem(last=False)
                self._memo_characters -= _characters(forgotten)
        return reading


def _characters(question: _Question) -> int:
    return len(question[0]) + len(question[1])


def _configured() -> Controls:
    """Read what the runnable around this call was configured with; a model called directly has none."""
    config = var_child_runnable_config.get() or {}
    fields = (as_object(config.get("configurable")) or {}).get(CONTROL_FIELD)
    return _NONE if fields is None else controls_of(fields)


_NONE = Controls()
