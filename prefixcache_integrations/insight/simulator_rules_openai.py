"""What OpenAI and Azure OpenAI refuse with HTTP 400, in their own words.

Only rules about the layout of a prompt are here: cache breakpoints and options, and that tool calls and their
results match. Texts are those of OpenAI's error bodies, as its users report them.
"""

from __future__ import annotations

from prefixcache_integrations.canonical import Message, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.insight.simulator_rules import Refusal, Rule
from prefixcache_integrations.profiles.profile import CacheProfile


def _breakpoint_support(request: Request, profile: CacheProfile) -> Refusal | None:
    if profile.regime == "breakpoints":
        return None
    parts = [
        part
        for message in request.messages
        for part in (*message.parts, *(p for q in message.parts for p in q.content))
    ]
    if any(part.marker is not None or "prompt_cache_breakpoint" in part.raw for part in parts):
        return Refusal(
            message="prompt_cache_breakpoint is not supported on this model", param="prompt_cache_breakpoint"
        )
    if request.options.get("prompt_cache_options") is not None:
        return Refusal(message="prompt_cache_options is not supported on this model", param="prompt_cache_options")
    return None


def _cache_options(request: Request, profile: CacheProfile) -> Refusal | None:
    options = as_object(request.options.get("prompt_cache_options")) or {}
    lifetimes = tuple(row.name for row in profile.lifetimes)
    ttls = lifetimes[:1] if request.dialect == "openai_chat" else lifetimes
    wanted = {"mode": ("implicit", "explicit"), "ttl": ttls}
    for name, allowed in wanted.items():
        value = options.get(name)
        if value is not None and allowed and value not in allowed:
            return _invalid_value(f"prompt_cache_options.{name}", value, allowed)
    for message in request.messages:
        for part in message.parts:
            if part.marker and part.marker.ttl is not None and lifetimes and part.marker.ttl not in lifetimes:
                return _invalid_value("prompt_cache_breakpoint.ttl", part.marker.ttl, lifetimes)
    return None


def _invalid_value(param: str, value: object, allowed: tuple[str, ...]) -> Refusal:
    *others, last = (f"'{name}'" for name in allowed)
    supported = f"{', '.join(others)} and {last}" if others else last
    shown = f"'{value}'" if isinstance(value, str) else "a value of another type"
    return Refusal(
        message=f"Invalid value: {shown}. Supported values are: {supported}.", param=param, code="invalid_value"
    )


def _retention(request: Request, profile: CacheProfile) -> Refusal | None:
    asked = request.options.get("prompt_cache_retention")
    if asked is None or not profile.retention or asked in profile.retention:
        return None
    message = (
        "This model is compatible only with 24h extended prompt caching"
        if profile.retention == ("24h",)
        else "prompt_cache_retention is not supported on this model"
    )
    return Refusal(message=message, param="prompt_cache_retention", code="invalid_parameter")


def _no_messages(request: Request, _: CacheProfile) -> Refusal | None:
    if request.messages:
        return None
    message = (
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
    )
    return Refusal(message=message, param="messages", code="empty_array")


def _chat_tool_pairs(request: Request, _: CacheProfile) -> Refusal | None:
    """Every tool call is answered by the tool messages right after it, and nothing else is."""
    waiting: list[str] = []
    for message in (*request.messages, Message(role="user")):
        if message.role == "tool":
            answered = [part.call_id for part in message.parts if part.call_id is not None]
            if not set(answered) <= set(waiting):
                return Refusal(
                    message="Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param="messages",
                )
            waiting = [name for name in waiting if name not in answered]
            continue
        if waiting:
            return Refusal(
                message="An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}",
                param="messages",
            )
        waiting = [part.call_id for part in message.parts if part.kind == "tool_call" and part.call_id is not None]
    return None


def _responses_tool_pairs(request: Request, _: CacheProfile) -> Refusal | None:
    if request.options.get("previous_response_id") is not None or request.options.get("conversation") is not None:
        return None
    parts = [part for message in request.messages for part in message.parts]
    called = [part.call_id for part in parts if part.kind == "tool_call" and part.call_id is not None]
    answered = [part.call_id for part in parts if part.kind == "tool_result" and part.call_id is not None]
    if missing := next((name for name in called if name not in answered), None):
        return Refusal(message=f"No tool output found for function call {missing}.", param="input")
    if unasked := next((name for name in answered if name not in called), None):
        return Refusal(message=f"No tool call found for function call output with call_id {unasked}.", param="input")
    return None


_COMMON: tuple[Rule, ...] = (_breakpoint_support, _cache_options, _retention)
OPENAI_CHAT_RULES: tuple[Rule, ...] = (_no_messages, *_COMMON, _chat_tool_pairs)
OPENAI_RESPONSES_RULES: tuple[Rule, ...] = (*_COMMON, _responses_tool_pairs)
