"""What requests cost that are planned one after the other, by the simulator's bill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prefixcache_integrations.canonical import Level, Usage
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.insight.simulator import PromptCache, Ticket
from prefixcache_integrations.profiles import CacheProfile, resolve
from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

FORMATS: Mapping[str, Dialect] = {"claude-sonnet-5": AnthropicMessages(), "gpt-5.6-sol": OpenAIChat()}


def body(model: str, instructions: str, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a request in the format of ``model``."""
    if model.startswith("claude"):
        return {"model": model, "max_tokens": 9, "system": instructions, "messages": list(messages)}
    return {"model": model, "messages": [{"role": "system", "content": instructions}, *messages]}


def format_of(model: str) -> Dialect:
    """Return the format in which a model takes requests."""
    return FORMATS["claude-sonnet-5" if model.startswith("claude") else "gpt-5.6-sol"]


class Sent(NamedTuple):
    """A request and when it is sent, in seconds."""

    at: float
    body: dict[str, Any]


class Bill(NamedTuple):
    """What a request costs, in uncached input tokens, and its length."""

    cost: float
    tokens: int


def billed(
    requests: Iterable[Sent], level: Level = "canonical", *, learning: bool = True, answers: float | None = None
) -> list[Bill]:
    """Return the bill of each request, in the order sent; without ``learning``, each is planned on its own.

    With ``answers``, each begins so many seconds after its request, which is when the memory is told; else at once.
    """
    cache, memory, found = PromptCache(WORDS), PromptMemory(), list[Bill]()
    begin = list[tuple[float, Ticket, Answer]]()
    for now, request in sorted(requests, key=lambda sent: sent.at):
        while begin and begin[0][0] <= now:
            at, ticket, answer = begin.pop(0)
            cache.started(ticket, now=at)
            answer.begun()
        dialect, profile = format_of(request["model"]), resolve(request["model"])
        snapshot, answer = memory.snapshot(now) if learning else None, Answer()
        made = decide(dialect.decode_request(request), profile, WORDS, level=level, snapshot=snapshot)
        if made.sighting is not None:
            memory.observe(made.sighting, now, answer=answer)
        if answers is not None:
            answer.await_from(now)
        ticket = cache.begin(made.request, profile, scope="one", now=now)
        begin.append((now + (answers or 0.0), ticket, answer))
        found.append(_bill(ticket.usage, profile))
    return found


def _bill(usage: Usage, profile: CacheProfile) -> Bill:
    extra = 0.0
    for name, written in (usage.cache_write_by_ttl or {}).items():
        lifetime = profile.lifetime(name)
        extra += written * (float(lifetime.write_multiplier) - 1 if lifetime else 0.0)
    return Bill(usage.input_tokens - 0.9 * (usage.cache_read_tokens or 0) + extra, usage.input_tokens)


def share(bills: Sequence[Bill]) -> float:
    """Return what requests cost as a share of what they do without a cache."""
    return sum(bill.cost for bill in bills) / sum(bill.tokens for bill in bills)


def bills(requests: Sequence[dict[str, Any]], level: Level) -> list[Bill]:
    """Return of each request its bill, one being sent every second."""
    return billed((Sent(now, request) for now, request in enumerate(requests)), level)
