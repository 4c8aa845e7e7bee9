"""Where the provider's own diagnosis and ours say something else."""

from __future__ import annotations

from collections.abc import Mapping

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.events import BreakReason
from prefixcache_integrations.insight.diagnosis_words import Explanation
from prefixcache_integrations.insight.verdict import Verdict


def disagreement(verdict: Verdict, ours: Explanation, request: Request) -> str | None:
    """Say where ``verdict`` and our explanation of ``request`` differ; ``None`` where they do not, or it says nothing.

    Claude compares requests, whatever the cache did; OpenAI says first whether the cache was hit. What only the bill
    or the clock shows, neither has a word for.
    """
    claude = request.dialect == "anthropic_messages"
    found = (_claude_word if claude else _openai_word)(ours)
    match verdict.outcome:
        case "changed" if found == verdict.reason:
            return None
        case "changed" if found is None:
            return f"the provider says {verdict.reason}, and we find no difference"
        case "changed":
            return f"the provider says {verdict.reason}, and the first difference we find is {_place(ours)}"
        case "same" if found is not None and found != "unavailable":
            return f"the provider finds no difference, and we find {_place(ours)}"
        case "hit" if ours.broken:
            return f"the provider says that all was read, and we miss {ours.lost_tokens:,} tokens"
    return None


def _place(ours: Explanation) -> str:
    return f"{ours.reason} at {ours.divergence.path}" if ours.divergence else str(ours.reason)


def _claude_word(ours: Explanation) -> str | None:
    """Return what Claude calls the difference that we found."""
    found = ours.divergence
    if found is None or found.reason == "thinking_dropped":  # it compares what was sent, and we what is read
        return None
    if found.reason == "model_changed" or found.path == "speed":
        return "model_changed"
    return "unavailable" if found.at is None else f"{found.at.section}_changed"


def _openai_word(ours: Explanation) -> str | None:
    """Return what OpenAI calls the difference that we found."""
    found = ours.divergence
    if found is None:
        return None
    fields = (word for path, word in _OPENAI_FIELDS.items() if found.path == path or found.path.startswith(f"{path}."))
    return next(fields, None) or _OPENAI_WORDS.get(found.reason, "input_changed")


_OPENAI_FIELDS: Mapping[str, str] = {
    "service_tier": "service_tier_changed",
    "text.verbosity": "verbosity_changed",
    "verbosity": "verbosity_changed",
    "context_management": "context_compacted",
}
_OPENAI_WORDS: Mapping[BreakReason, str] = {
    "model_changed": "model_changed",
    "tool_set_changed": "tools_changed",
    "tool_order_changed": "tools_changed",
    "tool_schema_changed": "tools_changed",
    "format_changed": "text_format_changed",
    "effort_changed": "reasoning_effort_changed",
    "cache_key_changed": "prompt_cache_key_changed",
}
