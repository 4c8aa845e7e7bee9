"""What OpenAI and Azure OpenAI refuse with HTTP 400, in their own words.

Only rules about the layout of a prompt are here: cache breakpoints and options, and that tool calls and their
results match. Texts are those of OpenAI's error bodies, as its users report them.
"""

from __future__ import annotations

from prefixcache_integrations.canonical import Message, Request
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.insight.simulator_rules import Refusal, Rule
from prefixcache_integrations.profiles.profile import CacheProfile


def _no_model(request: Request, _: CacheProfile) -> Refusal | None:
    return None if request.model else Refusal(message="you must provide a model parameter")


def _foreign_markers(request: Request, _: CacheProfile) -> Refusal | None:
    items = "messages" if request.dialect == "openai_chat" else "input"
    paths = ["cache_control"] if "cache_control" in request.options else []
    for number, message in enumerate(request.messages):
        for index, part in enumerate(message.parts):
            if "cache_control" in part.raw:
                paths.append(f"{items}[{number}].content[{index}].cache_control")
    if not paths:
        return None
    return Refusal(message=f"Unknown parameter: '{paths[0]}'.", param=paths[0], code="unknown_parameter")


def _breakpoint_support(request: Request, profile: CacheProfile) -> Refusal | None:
    if profile.regime == "breakpoints":
        return None
    name = None
    if any(part.marker is not None for message in request.messages for part in message.parts):
        name = "prompt_cache_breakpoint"
    elif request.options.get("prompt_cache_options") is not None:
        name = "prompt_cache_options"
    return None if name is None else Refusal(message=f"{name} is not supported on this model", param=name)


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


def _chat_tool_pairs(request: Request, _: CacheProfile) -> Refusal | None:
    """Every tool call is answered by the tool messages right after it, and nothing else is."""
    waiting: list[str] = []
    for message in (*request.messages, Message(role="user")):
        answered = as_text(message.raw.get("tool_call_id")) if message.role == "tool" else None
        if answered is not None:
            if answered not in waiting:
                return Refusal(
                    message="Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param="messages",
                )
            waiting.remove(answered)
            continue
        if waiting:
            return Refusal(
                message="An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}",
                param="messages",
            )
        waiting = [part.call_id for part in message.parts if part.kind == "tool_call" and part.call_id is not None]
    return None


def _stored_conversation(request: Request, _: CacheProfile) -> Refusal | None:
    """Nothing is stored here, so nothing can be continued."""
    previous = request.options.get("previous_response_id")
    if previous is not None:
        return Refusal(
            message=f"Previous response with id '{previous}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if request.options.get("conversation") is not None:
        return Refusal(message="Conversation not found.", param="conversation")
    return None


def _no_input(request: Request, _: CacheProfile) -> Refusal | None:
    if request.messages or request.options.get("prompt") is not None:
        return None
    message = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
    return Refusal(message=message, code="missing_required_parameter")


def _responses_tool_pairs(request: Request, _: CacheProfile) -> Refusal | None:
    parts = [part for message in request.messages for part in message.parts]
    called = [part.call_id for part in parts if part.kind == "tool_call" and part.call_id is not None]
    outputs = [message.raw for message in request.messages if message.raw.get("type") in _OUTPUTS]
    answered = [name for raw in outputs if (name := as_text(raw.get("call_id"))) is not None]
    if missing := next((name for name in called if name not in answered), None):
        return Refusal(message=f"No tool output found for function call {missing}.", param="input")
    if unasked := next((name for name in answered if name not in called), None):
        return Refusal(message=f"No tool call found for function call output with call_id {unasked}.", param="input")
    return None


_OUTPUTS = ("function_call_output", "custom_tool_call_output")

_COMMON: tuple[Rule, ...] = (_no_model, _foreign_markers, _breakpoint_support, _cache_options, _retention)
OPENAI_CHAT_RULES: tuple[Rule, ...] = (*_COMMON, _chat_tool_pairs)
OPENAI_RESPONSES_RULES: tuple[Rule, ...] = (*_COMMON, _stored_conversation, _no_input, _responses_tool_pairs)
