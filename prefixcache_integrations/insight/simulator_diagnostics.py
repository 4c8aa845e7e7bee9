"""What the providers say about a cache miss when they are asked: the first thing that differs from an earlier request.

Claude (``diagnostics.previous_message_id``) compares two requests, whatever the cache did. OpenAI's Responses API from
GPT-5.6 on (``prompt_cache_options.comparison_response_id``) says first whether the cache was hit. Token figures
are estimates there and counts here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.segments import Segment, segments, token_counts


class Answered(Struct, frozen=True, kw_only=True):
    """A request that was answered, with its usage and who sent it: what a later one may be compared with."""

    request: Request
    usage: Usage
    scope: str


Recall: TypeAlias = Callable[[str], Answered | None]
"""Finds an earlier request of the same scope by the id of its response."""


def diagnosis(now: Answered, profile: CacheProfile, recall: Recall, tokenizer: Tokenizer) -> dict[str, object]:
    """Return the fields of the response body that hold the diagnosis, none where none was asked for."""
    if now.request.dialect == "anthropic_messages":
        asked = as_object(now.request.options.get("diagnostics"))
        previous = as_text(asked.get("previous_message_id")) if asked else None
        return {} if previous is None else {"diagnostics": _claude(recall(previous), now, tokenizer)}
    options = as_object(now.request.options.get("prompt_cache_options")) or {}
    compared = as_text(options.get("comparison_response_id"))
    if compared is None or now.request.dialect != "openai_responses" or not profile.automatic_tail:
        return {}
    return {"prompt_cache_diagnostics": _openai(recall(compared), now)}


# Claude docs, cache diagnostics: cache miss reason types.

_CLAUDE_TIERS: Mapping[Tier, str] = {
    "tools": "tools_changed",
    "system": "system_changed",
    "messages": "messages_changed",
}
_CLAUDE_SETTINGS = ("tool_choice", "thinking", "context_management", "output_config", "output_format")
"""Settings whose change is not diagnosed any further."""


def _claude(before: Answered | None, now: Answered, tokenizer: Tokenizer) -> dict[str, object] | None:
    if before is None:
        return {"cache_miss_reason": {"type": "previous_message_not_found"}}
    kind, missed = _claude_divergence(before.request, now.request, tokenizer)
    if kind is None:
        return None
    tokens = {} if kind == "unavailable" else {"cache_missed_input_tokens": missed}
    return {"cache_miss_reason": {"type": kind, **tokens}}


def _claude_divergence(before: Request, now: Request, tokenizer: Tokenizer) -> tuple[str | None, int]:
    """Return the kind of the first difference, ``None`` where ``now`` only appends, and the tokens lost by it."""
    old, new = segments(before), segments(now)
    counts = token_counts(old, tokenizer)
    if (before.model, before.options.get("speed")) != (now.model, now.options.get("speed")):
        return "model_changed", sum(counts)
    for tier in ("tools", "system"):
        if _identities(old, tier) != _identities(new, tier):
            return _CLAUDE_TIERS[tier], sum(counts[_shared(old, new) :])
    if any(before.options.get(name) != now.options.get(name) for name in _CLAUDE_SETTINGS):
        return "unavailable", 0
    shared = _shared(old, new)
    return ("messages_changed", sum(counts[shared:])) if shared < len(old) else (None, 0)


def _identities(prompt: Sequence[Segment], tier: str) -> list[bytes]:
    return [segment.identity for segment in prompt if segment.tier == tier]


def _shared(old: Sequence[Segment], new: Sequence[Segment]) -> int:
    pairs = zip(old, new, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].identity == pair[1].identity, pairs))


# OpenAI docs, prompt caching diagnostics: reasons, in the order in which the prompt depends on them.

_OPENAI_SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("prompt_cache_key_changed", ("prompt_cache_key",)),
    ("service_tier_changed", ("service_tier",)),
    ("text_format_changed", ("text", "format")),
    ("reasoning_effort_changed", ("reasoning", "effort")),
    ("verbosity_changed", ("text", "verbosity")),
)


def _openai(before: Answered | None, now: Answered) -> dict[str, object]:
    if before is None:
        return {"type": "comparison_response_not_found"}
    reusable = (before.usage.cache_read_tokens or 0) + (before.usage.cache_write_tokens or 0)
    read = now.usage.cache_read_tokens or 0
    if reusable and read >= reusable:
        return {"type": "cache_hit"}
    reason = _openai_divergence(before.request, now.request)
    if reason is None:
        return {"type": "unavailable"}
    missed = max(reusable - read, 0)
    return {
        "type": "cache_miss",
        "reason": reason,
        "cache_missed_tokens": missed,
        "comparison_reusable_tokens": reusable,
    }


def _openai_divergence(before: Request, now: Request) -> str | None:
    """Return the reason for a miss; ``None`` where the prompt only grew, and its entry expired or never was."""
    if before.model != now.model:
        return "model_changed"
    if [tool.raw for tool in before.tools] != [tool.raw for tool in now.tools]:
        return "tools_changed"
    for reason, path in _OPENAI_SETTINGS:
        if _setting(before, path) != _setting(now, path):
            return reason
    old, new = segments(before), segments(now)
    end = max((index + 1 for index, segment in enumerate(old) if segment.at is not None), default=0)
    return "input_changed" if _shared(old, new) < end else None


def _setting(request: Request, path: Sequence[str]) -> object:
    value: object = request.options
    for name in path:
        value = (as_object(value) or {}).get(name)
    return value
