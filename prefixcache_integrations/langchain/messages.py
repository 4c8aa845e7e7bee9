"""The two strings that LangChain asks a cache with, read as a canonical request.

``prompt`` is the JSON dump of the messages; `prefixcache_integrations.langchain.llm_string` reads the other. What
cannot change the answer is left out here; how the rest becomes a key is decided in
`prefixcache_integrations.prompt.keys`. The request is a reading for keys, not one to send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import cast, get_args

import msgspec
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from prefixcache_integrations.canonical import DialectName, JsonObject, Message, Part, PartKind, Request, Role, Tool
from prefixcache_integrations.canonical.json import as_list, as_object, as_text, without
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.langchain.call_blocks import beyond
from prefixcache_integrations.langchain.llm_string import NOT_IMPLEMENTED, CalledModel, read_model
from prefixcache_integrations.prompt.key_forms import LONGEST_REMEMBERED, REMEMBERED_TEXTS, written
from prefixcache_integrations.prompt.keys import KeyFrame, KeyPolicy, key_frame

_MARKERS = ("cache_control", "prompt_cache_breakpoint")
_STREAM_ARTEFACTS = ("index", "partial_json")
_NONE: Mapping[str, JsonObject] = {}

_DIALECTS: Mapping[str, DialectName] = {"ChatAnthropic": "anthropic_messages"}
"""By model class; the others count as OpenAI's, the class itself is among the options."""

_ROLES: Mapping[str, Role] = {
    "SystemMessage": "system",
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
}
_MESSAGE_FIELDS = frozenset(
    {
        "additional_kwargs", "artifact", "chunk_position", "content", "example", "id", "invalid_tool_calls", "name",
        "response_metadata", "role", "status", "tool_call_chunks", "tool_call_id", "tool_calls", "type",
        "usage_metadata",
    }
)  # fmt: skip
_UNREAD_EXTRAS = ("lc_source", "parsed", "__openai_function_call_ids__", *_MARKERS)
_READ_METADATA = ("model_provider", "output_version")
# ChatAnthropic and ChatOpenAI translate the content of earlier answers by these two.

_PLAIN = frozenset(
    kind for kind in (SystemMessage, HumanMessage, AIMessage) if kind.model_fields.keys() <= _MESSAGE_FIELDS
)
_MORE = ("additional_kwargs", "tool_calls", "invalid_tool_calls", "name")
# What else of these the provider may see.

_KINDS: Mapping[str, PartKind] = {
    "text": "text", "input_text": "text", "output_text": "text",
    "image": "image", "image_url": "image", "input_image": "image",
    "audio": "audio", "input_audio": "audio",
    "document": "document", "file": "document", "input_file": "document",
    "tool_use": "tool_call", "tool_call": "tool_call", "function_call": "tool_call", "server_tool_use": "tool_call",
    "server_tool_call": "tool_call", "mcp_tool_use": "tool_call", "invalid_tool_call": "tool_call",
    "thinking": "thinking", "redacted_thinking": "thinking", "reasoning": "thinking",
    "refusal": "refusal",
}  # fmt: skip


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the two strings say. Neither field is set where they are not fully understood: use them as they are.

    ``ambiguous`` says why two different requests could have these very strings; then no key is safe.
    """

    request: Request | None = None
    ambiguous: str | None = None
    llm_string: str = ""


def read_call(prompt: str, llm_string: str) -> Reading:
    """Read the two strings of a chat model's call."""
    model = read_model(llm_string)
    if model is None:
        return Reading()
    if model.ambiguous is not None:
        return Reading(ambiguous=model.ambiguous)
    messages = _read_messages(prompt)
    if messages is None:
        unprinted = prompt.startswith("[") and NOT_IMPLEMENTED in prompt
        return Reading(ambiguous="an object in a message is not printed in full" if unprinted else None)
    return _reading(llm_string, messages)


def read_messages(messages: Sequence[BaseMessage], llm_string: str) -> Reading:
    """Read a call of a chat model whose messages are at hand; it is the reading that their dump would give."""
    model = read_model(llm_string)
    if model is None or model.ambiguous is not None:
        return Reading(ambiguous="it is not known what is asked" if model is None else model.ambiguous)
    read = [_live_message(message) for message in messages]
    known = tuple(message for message in read if message is not None)
    if not known or len(known) < len(read):
        return Reading(ambiguous="a message of a class that is not known")
    return _reading(llm_string, known)


def _live_message(message: BaseMessage) -> Message | None:
    """Read a message; one of plain text, as most are, is found by it: it comes again at every turn."""
    kind, fields = type(message), message.__dict__
    text = fields.get("content")
    if kind in _PLAIN and type(text) is str and len(text) <= LONGEST_REMEMBERED and not any(map(fields.get, _MORE)):
        told = fields.get("response_metadata")
        read = tuple([(name, told[name]) for name in _READ_METADATA if name in told]) if told else ()
        if not read or all(type(value) is str for _, value in read):
            with suppress(MalformedRequest):
                return _plain_message(kind.__name__, text, read)
    return _message(kind.__name__, fields) if kind.__module__.startswith("langchain_core.") else None


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _plain_message(class_name: str, text: str, metadata: tuple[tuple[str, str], ...]) -> Message | None:
    read = _message(class_name, {"content": text, "response_metadata": dict(metadata)})
    return None if read is None else written(read)


def _reading(llm_string: str, messages: tuple[Message, ...]) -> Reading:
    request = msgspec.structs.replace(_request_to(llm_string), messages=messages)
    return Reading(request=request, llm_string=llm_string)


@lru_cache(maxsize=256)
def frame_of(llm_string: str, policy: KeyPolicy) -> KeyFrame:
    """Return what the keys of all requests with ``llm_string`` have in common. Raises `MalformedRequest`."""
    return key_frame(_request_to(llm_string), policy)


@lru_cache(maxsize=256)
def bypass_of(llm_string: str) -> str | None:
    """Return why no request with ``llm_string`` may be cached, ``None`` if each may be."""
    return bypass(_request_to(llm_string))


@lru_cache(maxsize=256)
def _request_to(llm_string: str) -> Request:
    """Return what every request with ``llm_string`` has in common; it has been read before."""
    model = read_model(llm_string) or CalledModel()
    tools = [as_object(tool) for tool in as_list(model.call.get("tools")) or ()]
    known = tuple(_tool(tool) for tool in tools if tool is not None)
    call = without(model.call, "tools") if len(known) == len(tools) else model.call
    return Request(
        dialect=_DIALECTS.get(model.class_name, "openai_chat"),
        model=_model_name(model),
        tools=known if call is not model.call else (),
        options={
            "class": model.class_name,
            **({"all": [model.settings, call]} if model.foreign else {"settings": model.settings, "call": call}),
        },
    )


def _model_name(model: CalledModel) -> str:
    names = (group.get(name) for group in (model.call, model.settings) for name in ("model", "model_name"))
    return next((name for name in names if isinstance(name, str)), "")


def _tool(tool: JsonObject) -> Tool:
    described = as_object(tool.get("function")) or tool
    schema = described.get("parameters", described.get("input_schema"))
    return Tool(
        name=as_text(described.get("name")) or "",
        raw=without(tool, *_MARKERS),
        description=as_text(described.get("description")) or "",
        schema=as_object(schema),
    )


def _read_messages(prompt: str) -> tuple[Message, ...] | None:
    try:
        dumps = as_list(msgspec.json.decode(prompt))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not dumps:
        return None
    messages = [_dumped_message(as_object(dump) or {}) for dump in dumps]
    if any(message is None for message in messages):
        return None
    if NOT_IMPLEMENTED in prompt and NOT_IMPLEMENTED in json.dumps(msgspec.to_builtins(messages)):
        return None
    return tuple(cast("list[Message]", messages))


def _dumped_message(dump: JsonObject) -> Message | None:
    path, fields = as_list(dump.get("id")), as_object(dump.get("kwargs"))
    if not path or fields is None or dump.get("type") != "constructor":
        return None
    return _message(str(path[-1]), fields) if list(path[:-1]) == ["langchain", "schema", "messages"] else None


def _message(class_name: str, fields: JsonObject) -> Message | None:
    class_name = class_name.removesuffix("Chunk")
    named = class_name == "ChatMessage" and fields.get("role") in get_args(Role)
    role = cast("Role", fields["role"]) if named else _ROLES.get(class_name)
    if role is None or not fields.keys() <= _MESSAGE_FIELDS:
        return None
    calls = _objects(fields.get("tool_calls"))
    content = fields.get("content")
    known = {str(call.get("id")): call for call in calls} if calls else _NONE
    parts = content_parts(content, known_calls=known)
    raw = _message_raw(fields, answered=bool(calls))
    if class_name in ("ChatMessage", "FunctionMessage"):
        raw["class"] = class_name
    if class_name == "ToolMessage":
        result = Part(
            kind="tool_result",
            raw={"status": fields.get("status")},
            call_id=as_text(fields.get("tool_call_id")),
            content=parts,
            bare=isinstance(content, str),
        )
        return Message(role=role, parts=(result,), raw=raw)
    if calls or fields.get("invalid_tool_calls"):
        parts = (*parts, *map(_call, [*calls, *_objects(fields.get("invalid_tool_calls"))]))
    return Message(role=role, parts=parts, raw=raw, bare=isinstance(content, str))


def _objects(listed: object) -> list[JsonObject]:
    return [item for item in map(as_object, as_list(listed) or ()) if item is not None] if listed else []


def _message_raw(fields: JsonObject, *, answered: bool) -> dict[str, object]:
    """Return what of a message's fields goes to the provider, beside its content."""
    raw: dict[str, object] = {}
    if (name := fields.get("name")) is not None:
        raw["name"] = name
    if fields.get("additional_kwargs") and (extras := as_object(fields["additional_kwargs"])):
        unread = (*_UNREAD_EXTRAS, "tool_calls") if answered else _UNREAD_EXTRAS  # OpenAI's copy of `tool_calls`
        given = {name: value for name, value in extras.items() if value is not None and name not in unread}
        raw |= {"extras": given} if given else {}
    if fields.get("response_metadata") and (metadata := as_object(fields["response_metadata"])):
        read = {name: metadata[name] for name in _READ_METADATA if name in metadata}
        raw |= {"metadata": read} if read else {}
    return raw


def _call(call: JsonObject) -> Part:
    return Part(
        kind="tool_call",
        raw={"args": call.get("args")},
        call_id=as_text(call.get("id")),
        name=as_text(call.get("name")),
    )


def content_parts(content: object, *, known_calls: Mapping[str, JsonObject] = _NONE) -> tuple[Part, ...]:
    """Read the content of a message: a string, or a list of strings and blocks.

    Blocks for ``known_calls``, which the message lists among its tool calls by id, keep their place and what they say
    otherwise than the list: the providers' packages send either, by the kind of block.
    """
    if isinstance(content, str):
        return (_text(content),) if content else ()
    return tuple(_part(block, known_calls) for block in as_list(content) or ())


def _text(text: str) -> Part:
    return Part(kind="text", raw={"type": "text", "text": text}, text=text)


def _part(block: object, known_calls: Mapping[str, JsonObject]) -> Part:
    if isinstance(block, str):
        return _text(block)
    raw = without(as_object(block) or {"unknown": block}, *_MARKERS, *_STREAM_ARTEFACTS)
    kind = _kind(raw)
    if str(raw.get("id", "")).startswith("lc_"):
        del raw["id"]  # LangChain numbers blocks at random
    if kind == "text":
        return Part(kind=kind, raw=raw, text=str(raw["text"]))
    if kind == "tool_call":
        call_id = as_text(raw.get("call_id")) or as_text(raw.get("id"))
        call = known_calls.get(call_id) if call_id is not None else None
        return Part(kind=kind, raw=raw if call is None else beyond(call, raw, as_object(block) or {}), call_id=call_id)
    if kind == "tool_result":
        content = raw.pop("content", None)
        blocks = content if isinstance(content, str | list) else [] if content is None else [content]
        return Part(kind=kind, raw=raw, call_id=as_text(raw.get("tool_use_id")), content=content_parts(blocks))
    return Part(kind=kind, raw=raw)


def _kind(raw: JsonObject) -> PartKind:
    block_type = str(raw.get("type", ""))
    kind = "tool_result" if block_type.endswith("tool_result") else _KINDS.get(block_type, "other")
    return "other" if kind == "text" and not isinstance(raw.get("text"), str) else kind
