"""Layouts of what SDK clients send: a plan enters the body of each attempt, after everything else has had its say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

from prefixcache_integrations import dialects, profiles, tokens
from prefixcache_integrations.awaited import answer_to
from prefixcache_integrations.caching import current_namespace
from prefixcache_integrations.canonical import DialectName, Level, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.events import Observer, checked_observers
from prefixcache_integrations.flows.prepare import checked_level, prepare
from prefixcache_integrations.memories import MemoryChoice, chosen_memory
from prefixcache_integrations.on_the_wire import listen, notice
from prefixcache_integrations.profiles import Provider
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules, checked_rules
from prefixcache_integrations.sdk_clients import Options, laid_out
from prefixcache_integrations.watching import Watcher

ClientT = TypeVar("ClientT")


class ClientLayout:
    """How the requests of SDK clients are laid out. Safe to share between clients, threads and event loops.

    ``observers`` are told what `prepare` tells, once per attempt, and `PrefixBroken` for a request that will not read
    what the one before it in its conversation left: of what only the bill shows, they are not told. ``stream_usage``
    asks for the usage of Chat Completions streams where the app says nothing about it; such a stream ends with a chunk
    without choices. The last event of a Claude stream then repeats what its first one said of the input. ``memory`` is
    what was sent before, from which it learns where markers pay: by default one of its own, ``None`` for none.
    ``documents`` is what may be done with them at level ``arrange``.
    """

    def __init__(
        self,
        *,
        level: Level = "canonical",
        observers: Sequence[Observer] = (),
        tokenizer: Tokenizer | None = None,
        stream_usage: bool = False,
        memory: MemoryChoice = "own",
        documents: DocumentRules = ANY_ORDER,
    ) -> None:
        self.level = checked_level(level)
        self._observers = checked_observers(observers)
        self._memory = chosen_memory(memory, observers)
        self._documents = checked_rules(documents)
        self._tokenizer = tokens.chosen(tokenizer)
        self._reader = BodyReader()
        self.stream_usage = stream_usage
        self._watcher = Watcher(self._observers, self._tokenizer) if self._observers else None
        self._kinds: dict[type, type] = {}

    def laid_out(self, client: ClientT) -> ClientT:
        """Return a client like ``client`` whose requests are laid out; ``client`` itself goes on as it is.

        Both use the same HTTP connections. One that has another layout gets this one in its place; one that has
        this layout is returned as it is. Raises `ConfigurationError` for what is no client of these SDKs.
        """
        return laid_out(client, self, self._kinds)

    def prepared(
        self, options: Options, dialect: DialectName, provider: Provider, base_url: str | None = None
    ) -> dict[str, Any] | None:
        """Return the body that ``options`` will send to ``base_url``, laid out; ``None`` where there is nothing to."""
        given = as_object(options.json_data)
        if given is None:
            return None
        body = {**given, **(as_object(options.extra_json) or {})}
        if dialect == "openai_chat" and self.stream_usage:
            body = _asking_for_usage(body)
        call = self._watcher.begin(provider) if self._watcher else None
        form = self._reader.reading(dialects.by_name(dialect))
        now = time.time()
        made = prepare(
            body,
            form,
            lambda name: profiles.resolve(name, provider, base_url),
            self._tokenizer,
            level=self.level,
            observers=self._observers,
            memory=self._memory,
            now=now,
            namespace=current_namespace(),
            answer=answer_to(self._memory, now),
            documents=self._documents,
            changes=call.changes if call is not None else None,
        )
        if call is not None:
            listen(self, call)
        notice(form, made)
        if call is not None:  # what it will lose: clients show no answers
            call.answered(Usage())
        return dict(made.body)


def lay_out_client(
    client: ClientT,
    *,
    level: Level = "canonical",
    observers: Sequence[Observer] = (),
    tokenizer: Tokenizer | None = None,
    stream_usage: bool = False,
    memory: MemoryChoice = "own",
    documents: DocumentRules = ANY_ORDER,
) -> ClientT:
    """Return a client like ``client`` whose requests are laid out for the provider's prompt cache.

    Takes a client of the Anthropic or OpenAI SDK, blocking or awaiting, also those for Azure, Bedrock and Vertex;
    ``client`` itself goes on as it is, and both share connections. Works for messages, chat completions and responses,
    streamed, parsed or raw, and for whatever is derived by ``with_options``. The arguments are those of `ClientLayout`.
    Raises `ConfigurationError` for any other object, for an Anthropic SDK without middleware, and for settings that
    cannot be meant.
    """
    layout = ClientLayout(
        level=level,
        observers=observers,
        tokenizer=tokenizer,
        stream_usage=stream_usage,
        memory=memory,
        documents=documents,
    )
    return layout.laid_out(client)


def _asking_for_usage(body: dict[str, object]) -> dict[str, object]:
    said = as_object(body.get("stream_options")) or {}
    if body.get("stream") is not True or "include_usage" in said:
        return body
    return {**body, "stream_options": {**said, "include_usage": True}}
