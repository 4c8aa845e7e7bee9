"""What LangChain asks a cache, read once: the key of the two strings, under the settings of the call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from langchain_core.runnables.config import var_child_runnable_config
from msgspec.structs import replace

from prefixcache_integrations.caching import NO_CONTROLS, CacheSettings, controls_of, current_controls
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.errors import ConfigurationError, MalformedRequest
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain.call_site import Call, added_to, told_in_full
from prefixcache_integrations.langchain.messages import Reading, bypass_of, frame_of, read_call
from prefixcache_integrations.prompt.keys import KeyPolicy, framed_key, raw_key

CONTROL_FIELD = "x_cache_control"
"""The field of a runnable's ``configurable`` that controls the calls inside it, and can name their namespace."""

MEMO_SIZE = 1024
"""How many requests are remembered with their keys, so that the same two strings are not read again …"""

MEMO_CHARACTERS = 2 * 2**20
"""… and how long they may be together."""

_Question: TypeAlias = tuple[str, str, str, str, KeyPolicy]
"""A prompt, the string of the model and what is added to it, namespace and policy."""


class Asked:
    """Turns what a cache is asked into the terms of the answer. Safe to share between threads."""

    def __init__(self, settings: CacheSettings, *, secret: bytes = b"", require_namespace: bool = False) -> None:
        self._settings = settings
        self._secret = secret
        self._require_namespace = require_namespace
        self._uncontrolled = self._checked(settings)
        self._memo: dict[_Question, Terms] = {}  # read without the lock, so in the order of first sight
        self._memo_characters = 0
        self._lock = threading.Lock()

    def terms(self, prompt: str, llm_string: str, call: Call | None = None) -> Terms:
        """Return the terms of LangChain's question, asked by ``call`` (`call_in_progress`)."""
        plainly = current_controls() is NO_CONTROLS and var_child_runnable_config.get() is None
        settings, refused = self._uncontrolled if plainly else self.settings()
        namespace = settings.namespace or ""
        question = (prompt, *told_in_full(llm_string, call), namespace, settings.policy)
        terms = self._memo.get(question) or self._remember(question)
        return terms if settings is self._settings and refused is None else self._under(settings, refused, terms)

    def terms_of(self, reading: Reading) -> Terms:
        """Return the terms of a request that is already read; of one that is not understood, that it passes by."""
        settings, refused = self.settings()
        namespace = settings.namespace or ""
        if reading.request is None:
            return self._default_terms(EntryKey(namespace, ""), None, refused or reading.ambiguous)
        try:
            terms = self._read(reading.request, reading.llm_string, namespace, settings.policy)
        except (MalformedRequest, RecursionError):
            model = reading.request.model or None
            terms = self._default_terms(EntryKey(namespace, ""), model, "it cannot be written down")
        return self._under(settings, refused, terms)

    def terms_by(self, key: Callable[[str], str]) -> Terms:
        """Return the terms of what has the key that ``key`` returns for a namespace."""
        settings, refused = self.settings()
        namespace = settings.namespace or ""
        return self._under(settings, refused, self._default_terms(EntryKey(namespace, key(namespace)), None, None))

    def settings(self) -> tuple[CacheSettings, str | None]:
        """Return the settings of the call in progress, and why it must not be cached, ``None`` if it may be.

        `caching` wins over `CONTROL_FIELD`, which wins over the cache's own settings.
        """
        controls, config = current_controls(), var_child_runnable_config.get()
        configured = None if config is None else (config.get("configurable") or {}).get(CONTROL_FIELD)
        if configured is None and controls is NO_CONTROLS:
            return self._uncontrolled
        try:
            asked = controls if configured is None else controls.over(controls_of(configured))
        except ConfigurationError as error:
            return self._settings, f"its cache control is not understood ({error})"
        return self._checked(asked.applied(self._settings))

    def _checked(self, settings: CacheSettings) -> tuple[CacheSettings, str | None]:
        if settings.mode == "skip":
            return settings, "asked to skip the cache"
        if self._require_namespace and not settings.namespace:
            return settings, "no namespace is named"
        return settings, None

    def _under(self, settings: CacheSettings, refused: str | None, terms: Terms) -> Terms:
        if settings is self._settings and refused is None:
            return terms
        mode = "use" if settings.mode == "skip" else settings.mode
        return replace(terms, ttl=settings.ttl, tags=settings.tags, mode=mode, bypass=refused or terms.bypass)

    def _read_question(self, question: _Question) -> Terms:
        prompt, llm_string, items, namespace, policy = question
        llm_string = added_to(llm_string, items)
        reading = read_call(prompt, llm_string)
        if reading.request is not None:
            with suppress(MalformedRequest, RecursionError):
                return self._read(reading.request, llm_string, namespace, policy)
        raw = raw_key(prompt, llm_string, namespace=namespace, secret=self._secret)
        return self._default_terms(EntryKey(namespace, raw), None, reading.ambiguous)

    def _read(self, request: Request, llm_string: str, namespace: str, policy: KeyPolicy) -> Terms:
        digest = framed_key(request, frame_of(llm_string, policy), namespace=namespace, secret=self._secret)
        return self._default_terms(EntryKey(namespace, digest), request.model or None, bypass_of(llm_string))

    def _default_terms(self, key: EntryKey, model: str | None, refused: str | None) -> Terms:
        return Terms(key=key, model=model, ttl=self._settings.ttl, tags=self._settings.tags, bypass=refused)

    def _remember(self, question: _Question) -> Terms:
        terms = self._read_question(question)
        with self._lock:
            if question not in self._memo:
                self._memo[question] = terms
                self._memo_characters += _characters(question)
            while len(self._memo) > MEMO_SIZE or self._memo_characters > MEMO_CHARACTERS:
                oldest = next(iter(self._memo))
                del self._memo[oldest]
                self._memo_characters -= _characters(oldest)
        return terms


def _characters(question: _Question) -> int:
    return sum(map(len, question[:3]))
