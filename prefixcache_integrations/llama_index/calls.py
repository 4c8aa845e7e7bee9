"""LlamaIndex calls as canonical requests: what can change the answer, and nothing that cannot.

A call is the LLM's class, where it sends to, its settings, its messages or prompt, and its arguments. What names
the caller or the transport is left out: keys and tokens, headers but beta ones, timeouts, sessions, usage that an
earlier answer carries along, cache markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, cast

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms import LLM
from pydantic import BaseModel

from prefixcache_integrations.canonical import Message, Part, Request, Role
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.prompt.keys import settled_options


class Uncacheable(PrefixCacheError):
    """A call cannot be told from others, so it is neither looked up nor kept; the message quotes no prompt."""


_ROLES: Mapping[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "developer",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.TOOL: "tool",
}
# Settings that are applied before a call is made, or that say how it travels.
_NO_SETTINGS = frozenset(
    {
        "cache_idx", "callback_manager", "class_name", "default_headers", "max_retries", "num_retries", "output_parser",
        "pydantic_program_mode", "query_wrapper_prompt", "rate_limiter", "reuse_client", "system_prompt", "timeout",
        "messages_to_prompt", "completion_to_prompt", "user", "call_metadata",
    }
)  # fmt: skip
_SECRET = re.compile(
    r"(api|access|secret|subscription|private)_?key(_id)?$|password|secret|credential"
    r"|(^|_)(access|api|auth|azure_ad|bearer|hf|id|refresh|security|session)_token(_provider)?$",
    re.IGNORECASE,
)
_BETA_HEADERS = ("anthropic-beta", "openai-beta")
# What answers of some integrations carry along, and what memory adds: none of it is sent.
_NO_MESSAGE_FIELDS = ("cache_control", "session_id", "stop_reason", "thinking_delta", "usage")
# LLMs whose behaviour is in an object inside, which their fields do not show.
_OPAQUE = ("llama_index.llms.langchain",)


def read_chat(llm: LLM, messages: Sequence[ChatMessage], arguments: Mapping[str, object]) -> Request:
    """Return what a call of ``chat`` or its streaming and awaiting twins asks. Raises `Uncacheable`."""
    return _read(llm, "chat", [_message(message) for message in messages], arguments)


def read_completion(llm: LLM, prompt: str, arguments: Mapping[str, object]) -> Request:
    """Return what a call of ``complete`` or its twins asks. Raises `Uncacheable`."""
    # A completion goes on where its prompt ends, as after an assistant's text: there white space is not nothing.
    return _read(llm, "complete", [Message(role="assistant", parts=(_text(prompt),))], arguments)


def read_structured(
    llm: LLM, messages: Sequence[ChatMessage], output_class: type[BaseModel], arguments: Mapping[str, object]
) -> Request:
    """Return what a call of ``structured_predict`` or its twins asks. Raises `Uncacheable`."""
    read = [_message(message) for message in messages]
    return _read(llm, "structured_predict", read, {**arguments, "output_class": output_class})


def _read(llm: LLM, method: str, messages: list[Message], arguments: Mapping[str, object]) -> Request:
    try:
        model = llm.metadata.model_name
        settings, sent_to = _settings(llm), _sent_to(llm)
        given = _plain_arguments(arguments)
    except Uncacheable:
        raise
    except Exception as error:  # a foreign class may raise anything here
        raise Uncacheable(f"the settings of {type(llm).__name__} cannot be written down") from error
    for group in (given, as_object(settings.get("additional_kwargs")) or {}):
        if reason := bypass(Request(dialect="openai_chat", model=model, options=group)):
            raise Uncacheable(reason)
    return Request(
        dialect="openai_chat",
        model=model,
        messages=tuple(messages),
        options={"llama_index": method, "sent_to": sent_to, "settings": settings, "call": given},
    )


def _settings(llm: LLM) -> dict[str, Any]:
    # What supplies a token is a function, which could not be written down.
    left_out = _NO_SETTINGS | {name for name in type(llm).model_fields if _SECRET.search(name)}
    fields = cast("dict[str, Any]", _without_secrets(llm.model_dump(mode="json", exclude=set(left_out))))
    if fields.get("track_previous_responses"):
        raise Uncacheable("its answer depends on server state (track_previous_responses)")
    if isinstance(extra := fields.get("additional_kwargs"), dict):
        fields["additional_kwargs"] = _plain_arguments(extra)
    return without(fields, "api_base", "base_url")


def _sent_to(llm: LLM) -> dict[str, Any]:
    """Return whose API is called and how its bodies are made, as far as the settings do not say."""
    kind = type(llm)
    if kind.__module__.startswith(_OPAQUE):
        raise Uncacheable(f"{kind.__name__} does not show its settings")
    private = llm.__pydantic_private__ or {}
    clients = [client for name in ("_client", "_aclient") if (client := private.get(name)) is not None]
    # A client may be made at the first call: what it is made from comes first where its own URL would be another.
    places = [(llm, "azure_endpoint"), *((client, "base_url") for client in clients)]
    places += [(llm, "api_base"), (llm, "base_url")]
    endpoint = next((url for holder, name in places if (url := getattr(holder, name, None))), "")
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "endpoint": str(endpoint).rstrip("/"),
        "betas": _betas(getattr(clients[0] if clients else llm, "default_headers", None)),
        "formats": [] if llm.metadata.is_chat_model else _formats(llm),
    }


def _betas(headers: object) -> list[str]:
    found = as_object(headers) or {}
    return sorted(f"{name}: {value}" for name, value in found.items() if name.lower() in _BETA_HEADERS)


def _formats(llm: LLM) -> list[str]:
    """Return the names of the functions that turn messages into a prompt, for models that take one."""
    return [_name(llm.messages_to_prompt), _name(llm.completion_to_prompt)]


def _name(function: Callable[..., object] | None) -> str:
    name = getattr(function, "__qualname__", "<")
    if "<" in name:
        raise Uncacheable("its prompt is made by a function without a name")
    return f"{function.__module__}.{name}"


def _without_secrets(value: object) -> object:
    if isinstance(value, Mapping):
        kept = {
            name: item for name, item in value.items() if name not in _NO_SETTINGS and not _SECRET.search(str(name))
        }
        return {name: _without_secrets(item) for name, item in kept.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list | tuple) else value


def _plain_arguments(arguments: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a call as JSON, without what no model reads."""
    given = settled_options({name: _plain(value) for name, value in arguments.items()})
    if isinstance(body := given.get("extra_body"), Mapping):
        given["extra_body"] = settled_options(body)
    if "extra_headers" in given:
        given["extra_headers"] = _betas(given["extra_headers"]) or None
    return without(given, "timeout", "extra_query")


def _plain(value: object) -> Any:  # noqa: ANN401, PLR0911 - arguments are anything; this is where that ends
    match value:
        case None | bool() | int() | float() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return _plain(value.value)
        case Mapping() if all(isinstance(name, str) for name in value):
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case BaseModel():
            return value.model_dump(mode="json")
        case type() if issubclass(value, BaseModel):
            return {"class": f"{value.__module__}.{value.__qualname__}", "schema": value.model_json_schema()}
        case _ if (type(value).__module__, type(value).__name__) in _ABSENT:
            return None
        case _:
            raise Uncacheable(f"an argument of class {type(value).__name__} cannot be written down")


_ABSENT = {("openai", "NotGiven"), ("openai", "Omit"), ("anthropic", "NotGiven"), ("anthropic", "Omit")}


def _message(message: ChatMessage) -> Message:
    extra = dict(message.additional_kwargs)
    calls = extra.pop("tool_calls", None)
    parts = [part for block in message.blocks if (part := _part(block)) is not None]
    if calls and not any(part.kind == "tool_call" for part in parts):
        parts += [_legacy_call(call) for call in calls]
    raw: dict[str, Any] = {name: _plain(value) for name, value in extra.items() if name not in _NO_MESSAGE_FIELDS}
    role = _ROLES.get(message.role)
    if role is None:
        raw["role_name"] = message.role.value
    return Message(role=role or "assistant", parts=tuple(parts), raw=raw)


def _part(block: ContentBlock) -> Part | None:
    """Return a block as a part; ``None`` for what is not sent: markers and empty text."""
    match block:
        case CachePoint():
            return None
        case TextBlock():
            return _text(block.text) if block.text else None
        case ToolCallBlock():
            return _call(block.tool_call_id, block.tool_name, block.tool_kwargs)
        case ThinkingBlock():
            return Part(kind="thinking", text=block.content or "", raw=_plain(block.additional_information))
        case _:
            return Part(kind="other", raw=_written(block))


def _text(text: str) -> Part:
    return Part(kind="text", text=text, raw={"type": "text", "text": text})


def _call(call_id: str | None, name: str, arguments: object) -> Part:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Part(kind="tool_call", raw={}, call_id=call_id, name=name, text=text)


def _legacy_call(call: object) -> Part:
    """Read a tool call as the OpenAI classes kept it beside the blocks: an object of the SDK, or its dump."""
    fields = call.model_dump() if isinstance(call, BaseModel) else as_object(call) or {}
    function = as_object(fields.get("function")) or {}
    return _call(as_text(fields.get("id")), as_text(function.get("name")) or "", function.get("arguments") or "")


def _written(block: BaseModel) -> dict[str, Any]:
    written = block.model_dump(mode="json", exclude_none=True)
    if _reads_file(written):
        raise Uncacheable("a block reads its content from a file")
    return written


def _reads_file(value: object) -> bool:
    if isinstance(value, Mapping):
        return "path" in value or any(map(_reads_file, value.values()))
    return isinstance(value, list) and any(map(_reads_file, value))
