"""LlamaIndex calls as canonical requests: what can change the answer, and nothing that cannot.

A call is the LLM's class, where it sends to, its settings, its messages or prompt, and its arguments. What names
the caller or the transport is left out: keys and tokens, headers but beta ones, timeouts, sessions, usage that an
earlier answer carries along, cache markers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.llama_index.identity import sent_to, settings_of
from prefixcache_integrations.llama_index.plain import Uncacheable, plain, plain_arguments

_ROLES: Mapping[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "developer",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.TOOL: "tool",
}
# What answers of some integrations carry along, and what memory adds: none of it is sent.
_NO_MESSAGE_FIELDS = ("cache_control", "session_id", "stop_reason", "thinking_delta", "usage")


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
        settings, place = settings_of(llm), sent_to(llm)
        given = plain_arguments(arguments)
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
        options={"llama_index": method, "sent_to": place, "settings": settings, "call": given},
    )


def _message(message: ChatMessage) -> Message:
    extra = dict(message.additional_kwargs)
    calls = extra.pop("tool_calls", None)
    parts = [part for block in message.blocks if (part := _part(block)) is not None]
    if calls and not any(part.kind == "tool_call" for part in parts):
        parts += [_legacy_call(call) for call in calls]
    raw: dict[str, Any] = {name: plain(value) for name, value in extra.items() if name not in _NO_MESSAGE_FIELDS}
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
            return Part(kind="thinking", text=block.content or "", raw=plain(block.additional_information))
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
