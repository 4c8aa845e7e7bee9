"""What may be answered from the response cache, and what may be kept in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from prefixcache_integrations.canonical import JsonObject, Part, Request, Response, StopReason
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.prompt.keys import OPTION_GROUPS

STATEFUL_OPTIONS = ("conversation", "container", "reuse_last_container", "use_previous_response_id")
"""Request fields that bring in state kept by the provider, which changes while the request stays the same."""

_UNFINISHED: Mapping[StopReason, str] = {
    "length": "cut short by the token limit",
    "content_filter": "filtered by the provider",
    "refusal": "a refusal",
    "other": "not known to be finished",
}

_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "stop_token": "stop", "eos": "stop",
    "eos_token": "stop", "complete": "stop", "completed": "stop",
    "tool_calls": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter", "content_filtered": "content_filter", "safety": "content_filter",
    "recitation": "content_filter", "guardrail_intervened": "content_filter",
    "refusal": "refusal",
}  # fmt: skip

STOP_FIELDS = ("finish_reason", "stop_reason", "done_reason", "stopReason")
"""The names under which providers and frameworks say why a model stopped."""


def stop_reason(said: str) -> StopReason:
    """Return the reason that a provider or framework spells ``said``; a word nobody knows is "other"."""
    return _STOP_REASONS.get(said.lower(), "other")


def bypass(request: Request) -> str | None:
    """Return why ``request`` must be neither looked up nor stored, ``None`` if it may be."""
    named = next((name for name in STATEFUL_OPTIONS if _sets(request.options, name)), None)
    return None if named is None else f"its answer depends on server state ({named})"


def _sets(options: JsonObject, name: str) -> bool:
    groups = filter(None, (as_object(options.get(group)) for group in OPTION_GROUPS))
    return bool(options.get(name)) or any(_sets(group, name) for group in groups)


def objection(answers: Sequence[Response]) -> str | None:
    """Return why ``answers``, all of one request, must not be kept, ``None`` if they may be."""
    if not answers:
        return "no answer"
    return next(filter(None, map(_objection, answers)), None)


def _objection(answer: Response) -> str | None:
    if answer.stop_reason in _UNFINISHED:
        return _UNFINISHED[answer.stop_reason]
    if any(part.kind == "refusal" for part in answer.parts):
        return "a refusal"
    if any(part.kind == "tool_call" and not _callable(part) for part in answer.parts):
        return "an invalid tool call"
    if not any(map(_says_something, answer.parts)):
        return "an empty answer"
    return None


def _callable(call: Part) -> bool:
    if "custom" in str(call.raw.get("type", "")):
        return True  # a custom tool takes free text
    try:
        msgspec.json.decode(call.text or "{}", type=dict)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _says_something(part: Part) -> bool:
    return part.kind != "thinking" and (part.kind != "text" or bool(part.text.strip()))
