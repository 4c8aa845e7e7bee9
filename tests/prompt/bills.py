"""What requests cost that are planned one after the other, by the simulator's bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefixcache_integrations.canonical import Level
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

FORMATS: Mapping[str, Dialect] = {"claude-sonnet-5": AnthropicMessages(), "gpt-5.6-sol": OpenAIChat()}


def body(model: str, instructions: str, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a request in the format of ``model``."""
    if model.startswith("claude"):
        return {"model": model, "max_tokens": 9, "system": instructions, "messages": list(messages)}
    return {"model": model, "messages": [{"role": "system", "content": instructions}, *messages]}


def bills(requests: Sequence[dict[str, Any]], level: Level) -> list[tuple[float, int]]:
    """Return of each request its bill, in uncached input tokens, and its length."""
    cache, memory, found = PromptCache(WORDS), PromptMemory(), list[tuple[float, int]]()
    for now, request in enumerate(requests):
        dialect, profile = FORMATS[request["model"]], resolve(request["model"])
        made = decide(dialect.decode_request(request), profile, WORDS, level=level, snapshot=memory.snapshot(now))
        assert made.sighting is not None
        memory.observe(made.sighting, now)
        ticket = cache.begin(made.request, profile, scope="one", now=now)
        cache.started(ticket, now=now)
        read, written = ticket.usage.cache_read_tokens or 0, ticket.usage.cache_write_tokens or 0
        tokens = ticket.usage.input_tokens or 0
        found.append((tokens - 0.9 * read + 0.25 * written, tokens))
    return found
