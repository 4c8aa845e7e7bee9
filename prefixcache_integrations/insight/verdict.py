"""What the provider itself says of a request, which it was asked to compare with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Request
from prefixcache_integrations.canonical.json import as_count, as_object, as_text

Outcome: TypeAlias = Literal["same", "changed", "hit", "not_found", "pending", "unavailable"]
"""``same``: nothing differs but what was added (Claude). ``hit``: all was read (OpenAI). ``changed``: see the reason.
The others say nothing: the earlier request is not known, the comparison is not done yet, or cannot be made."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The provider's own diagnosis. ``reason`` is its word, such as ``tools_changed``; tokens are its estimates.

    ``compared_with`` is the id of the answer to the earlier request, as the request named it. ``reusable_tokens`` is
    what that one had left to read.
    """

    outcome: Outcome
    compared_with: str
    reason: str | None = None
    missed_tokens: int | None = None
    reusable_tokens: int | None = None


def read_verdict(request: Request, answer: JsonObject) -> Verdict | None:
    """Return what ``answer``, the body of a response, says; ``None`` where ``request`` did not ask.

    Claude: ``diagnostics.previous_message_id`` (Claude docs, *Cache diagnostics*). OpenAI Responses:
    ``prompt_cache_options.comparison_response_id`` (OpenAI docs, *Prompt caching diagnostics*).
    """
    if request.dialect == "anthropic_messages":
        asked = as_object(request.options.get("diagnostics")) or {}
        compared = as_text(asked.get("previous_message_id"))
        return None if compared is None else _claude(compared, answer.get("diagnostics"))
    asked = as_object(request.options.get("prompt_cache_options")) or {}
    compared = as_text(asked.get("comparison_response_id"))
    told = as_object(answer.get("prompt_cache_diagnostics"))
    return None if compared is None or told is None else _openai(compared, told)


def _claude(compared: str, told: object) -> Verdict:
    diagnostics = as_object(told)
    if diagnostics is None:
        return Verdict(outcome="same", compared_with=compared)
    reason = as_object(diagnostics.get("cache_miss_reason"))
    if reason is None:
        return Verdict(outcome="pending", compared_with=compared)
    word = as_text(reason.get("type")) or ""
    missed = as_count(reason.get("cache_missed_input_tokens"))
    outcome = _CLAUDE_OUTCOMES.get(word, "changed")
    return Verdict(outcome=outcome, compared_with=compared, reason=word, missed_tokens=missed)


_CLAUDE_OUTCOMES: Mapping[str, Outcome] = {"previous_message_not_found": "not_found", "unavailable": "unavailable"}


def _openai(compared: str, told: JsonObject) -> Verdict:
    return Verdict(
        outcome=_OPENAI_OUTCOMES.get(as_text(told.get("type")) or "", "unavailable"),
        compared_with=compared,
        reason=as_text(told.get("reason")),
        missed_tokens=as_count(told.get("cache_missed_tokens")),
        reusable_tokens=as_count(told.get("comparison_reusable_tokens")),
    )


_OPENAI_OUTCOMES: Mapping[str, Outcome] = {
    "cache_hit": "hit",
    "cache_miss": "changed",
    "comparison_response_not_found": "not_found",
}
