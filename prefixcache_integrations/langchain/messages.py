"""The two strings that LangChain asks a cache with, read as a canonical request.

``prompt`` is the JSON dump of the messages; ``llm_string`` is the JSON dump of the model followed by the
``repr`` of the call's keyword arguments, or that ``repr`` alone for a model that does not serialise. What
cannot change the answer is left out here; how the rest becomes a key is decided in
`prefixcache_integrations.prompt.keys`. The request is a reading for keys, not one to send.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import cast, get_args

import msgspec

from prefixcache_integrations.canonical import DialectName, JsonObject, Message, Part, PartKind, Request, Role, Tool
from prefixcache_integrations.canonical.json import as_list, as_object, as_text, without
from prefixcache_integrations.prompt.keys import settled_options

_NOT_IMPLEMENTED = '"type": "not_implemented"'
_MARKERS = ("cache_control", "prompt_cache_breakpoint")
_STREAM_ARTEFACTS = ("index", "partial_json")

TRANSPORT_SETTINGS = frozenset(
    {
        "anthropic_proxy",
        "azure_ad_async_token_provider",
        "azure_ad_token_provider",
        "default_request_timeout",
        "disable_streaming",
        "http_socket_options",
        "max_retries",
        "openai_proxy",
        "request_timeout",
        "stream_chunk_timeout",
        "stream_usage",
        "streaming",
        "tiktoken_model_name",
        "timeout",
        "verbose",
    }
)
"""Model settings that decide how a call travels, not what it asks."""

_PASSED_THROUGH = ("model_kwargs", "extra_body")

_DIALECTS: Mapping[str, DialectName] = {"ChatAnthropic": "anthropic_messages"}
"""By model class; the others count as OpenAI's, the class itself is among the options."""

_KNOWN_NAMESPACES = frozenset(
    {
        ("langchain", "chat_models", "anthropic"),
        ("langchain", "chat_models", "azure_openai"),
        ("langchain", "chat_models", "openai"),
    }
)
"""Where the classes live whose settings are known; classes derived from those keep the namespace."""

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


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    """``foreign``: nobody knows what the settings of this class do, so each of them counts."""

    class_name: str = ""
    foreign: bool = False
    settings: JsonObject = {}
    call: JsonObject = {}
    ambiguous: str | None = None


def read_call(prompt: str, llm_string: str) -> Reading:
    """Read the two strings of a chat model's call."""
    model = _read_model(llm_string)
    if model is None:
        return Reading()
    if model.ambiguous is not None:
        return Reading(ambiguous=model.ambiguous)
    messages = _read_messages(prompt)
    if messages is None:
        unprinted = prompt.startswith("[") and _NOT_IMPLEMENTED in prompt
        return Reading(ambiguous="an object in a message is not printed in full" if unprinted else None)
    return Reading(request=_request(model, messages))


def _request(model: _Model, messages: tuple[Message, ...]) -> Request:
    tools = [as_object(tool) for tool in as_list(model.call.get("tools")) or ()]
    known = tuple(_tool(tool) for tool in tools if tool is not None)
    call = without(model.call, "tools") if len(known) == len(tools) else model.call
    return Request(
        dialect=_DIALECTS.get(model.class_name, "openai_chat"),
        model=_model_name(model),
        tools=known if call is not model.call else (),
        messages=messages,
        options={
            "class": model.class_name,
            **({"all": [model.settings, call]} if model.foreign else {"settings": model.settings, "call": call}),
        },
    )


def _model_name(model: _Model) -> str:
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


@lru_cache(maxsize=256)
def _read_model(llm_string: str) -> _Model | None:
    """Read the model and the call's arguments; ``None`` for a string that LangChain did not write."""
    serialised, arguments = _split(llm_string)
    if not arguments.startswith("[("):
        return None
    try:
        pairs = ast.literal_eval(arguments)
        call = {name: value for name, value in pairs if isinstance(name, str)}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _Model(ambiguous="an argument of the call is printed by name only, such as a class")
    if call.get("stop", ()) is None:
        del call["stop"]
    if serialised is None:
        return _Model(call=call, foreign=True)
    settings = as_object(serialised.get("kwargs")) or {}
    path = as_list(serialised.get("id")) or ()
    foreign = tuple(path[:-1]) not in _KNOWN_NAMESPACES
    kept = {name: value for name, value in settings.items() if not _is_secret(value)}
    kept = kept if foreign else without(kept, *TRANSPORT_SETTINGS, "name")
    if serialised.get("type") != "constructor" or _NOT_IMPLEMENTED in json.dumps(kept):
        return _Model(ambiguous="a setting of the model is not printed in full")
    return _Model(
        class_name=str(path[-1]) if path else "",
        settings={"path": list(path), **(kept if foreign else _settled(kept))},
        call=call if foreign else _settled(without(call, *TRANSPORT_SETTINGS)),
        foreign=foreign,
    )


def _split(llm_string: str) -> tuple[JsonObject | None, str]:
    if not llm_string.startswith("{"):
        return None, llm_string
    try:
        serialised, end = json.JSONDecoder().raw_decode(llm_string)
    except (ValueError, RecursionError):
        return None, ""
    arguments = llm_string[end:]
    return as_object(serialised), arguments.removeprefix("---") if arguments.startswith("---") else ""


def _settled(options: JsonObject) -> dict[str, object]:
    """Leave out what no model reads, also where it is passed through by ``model_kwargs`` and the like."""
    passed = {name: settled_options(as_object(options.get(name)) or {}) for name in _PASSED_THROUGH}
    own = settled_options(without(options, *_PASSED_THROUGH))
    return own | {name: group for name, group in passed.items() if group}


def _is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("lc") == 1 and value.get("type") == "secret"


def _read_messages(prompt: str) -> tuple[Message, ...] | None:
    try:
        dumps = as_list(msgspec.json.decode(prompt))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not dumps:
        return None
    messages = [_message(as_object(dump) or {}) for dump in dumps]
    if any(message is None for message in messages):
        return None
    if _NOT_IMPLEMENTED in prompt and _NOT_IMPLEMENTED in json.dumps(msgspec.to_builtins(messages)):
        return None
    return tuple(cast("list[Message]", messages))


def _message(dump: JsonObject) -> Message | None:
    path, fields = as_list(dump.get("id")), as_object(dump.get("kwargs"))
    if not path or fields is None or dump.get("type") != "constructor" or not fields.keys() <= _MESSAGE_FIELDS:
        return None
    class_name = str(path[-1]).removesuffix("Chunk")
    named = class_name == "ChatMessage" and fields.get("role") in get_args(Role)
    role = cast("Role", fields["role"]) if named else _ROLES.get(class_name)
    if role is None or list(path[:-1]) != ["langchain", "schema", "messages"]:
        return None
    calls = [call for call in map(as_object, as_list(fields.get("tool_calls")) or ()) if call is not None]
    content = fields.get("content")
    parts = content_parts(content, known_calls={str(call.get("id")) for call in calls})
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
    invalid = [call for call in map(as_object, as_list(fields.get("invalid_tool_calls")) or ()) if call is not None]
    return Message(
        role=role,
        parts=(*parts, *(_call(call) for call in (*calls, *invalid))),
        raw=raw,
        bare=isinstance(content, str),
    )


def _message_raw(fields: JsonObject, *, answered: bool) -> dict[str, object]:
    """Return what of a message's fields goes to the provider, beside its content."""
    extras = without(as_object(fields.get("additional_kwargs")) or {}, *_UNREAD_EXTRAS)
    if answered:
        extras.pop("tool_calls", None)  # OpenAI's copy of what `tool_calls` says
    metadata = as_object(fields.get("response_metadata")) or {}
    read = {name: metadata[name] for name in _READ_METADATA if name in metadata}
    given = {name: value for name, value in extras.items() if value is not None}
    return {"name": fields.get("name"), "extras": given or None, "metadata": read or None}


def _call(call: JsonObject) -> Part:
    return Part(
        kind="tool_call",
        raw={"args": call.get("args")},
        call_id=as_text(call.get("id")),
        name=as_text(call.get("name")),
    )


def content_parts(content: object, *, known_calls: Collection[str] = ()) -> tuple[Part, ...]:
    """Read the content of a message: a string, or a list of strings and blocks.

    Blocks for ``known_calls``, which the message lists among its tool calls, keep their place and nothing else:
    the providers' packages send what the list says.
    """
    if isinstance(content, str):
        return (_text(content),) if content else ()
    return tuple(_part(block, known_calls) for block in as_list(content) or ())


def _text(text: str) -> Part:
    return Part(kind="text", raw={"type": "text", "text": text}, text=text)


def _part(block: object, known_calls: Collection[str]) -> Part:
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
        known = call_id in known_calls
        return Part(kind=kind, raw={"type": raw.get("type")} if known else raw, call_id=call_id)
    if kind == "tool_result":
        content = raw.pop("content", None)
        blocks = content if isinstance(content, str | list) else [] if content is None else [content]
        return Part(kind=kind, raw=raw, call_id=as_text(raw.get("tool_use_id")), content=content_parts(blocks))
    return Part(kind=kind, raw=raw)


def _kind(raw: JsonObject) -> PartKind:
    block_type = str(raw.get("type", ""))
    kind = "tool_result" if block_type.endswith("tool_result") else _KINDS.get(block_type, "other")
    return "other" if kind == "text" and not isinstance(raw.get("text"), str) else kind
