"""Items of the OpenAI Responses API: what its ``input`` and its ``output`` are lists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prefixcache_integrations.canonical import JsonObject, Message, Part, Role
from prefixcache_integrations.canonical.json import as_list, as_text, without
from prefixcache_integrations.dialects.openai_parts import RESPONSES_PARTS
from prefixcache_integrations.dialects.wire import need_list, need_name, need_object, need_text, optional_text
from prefixcache_integrations.errors import MalformedRequest

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""By type of call: the field of what the model passes to the tool, as text."""

_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def decode_item(value: object, path: str) -> Message:
    """Read one item of ``input``; one with an id alone refers to an item that the provider has stored."""
    raw = need_object(value, path)
    item_type = optional_text(raw.get("type"), f"{path}.type")
    if item_type == "message" or (item_type is None and "role" in raw):
        return _decode_message(raw, path)
    if item_type in _OUTPUTS:
        return _decode_output(raw, path)
    if item_type is None and as_text(raw.get("id")) is not None:
        return Message(role="assistant", parts=(_read_other(raw, path),))
    return Message(role=_role_of(raw), parts=(decode_output_item(raw, path),))


def encode_item(message: Message) -> dict[str, object]:
    """Write one item of ``input``."""
    if not message.raw and not message.bare:
        return dict(message.parts[0].raw)
    body = dict(message.raw) or {"role": message.role}
    if message.parts:
        name = "output" if message.role == "tool" else "content"
        body[name] = RESPONSES_PARTS.encode_content(message.parts, bare=message.bare)
    return body


def decode_output_item(value: object, path: str) -> Part:
    """Read one item that the model wrote as one part, which has the whole item in ``raw``."""
    raw = need_object(value, path)
    item_type = need_text(raw.get("type"), f"{path}.type")
    return _READERS.get(item_type, _read_other)(raw, path)


def compose_item(part: Part, suffix: str) -> dict[str, object]:
    """Write an output item for a part that came from no wire; ``suffix`` makes its id its own."""
    if part.kind == "tool_call":
        call = {"call_id": part.call_id, "name": part.name, "arguments": part.text or "{}"}
        return {"type": "function_call", "id": f"fc_{suffix}", **call, "status": "completed"}
    if part.kind == "thinking":
        summary = [{"type": "summary_text", "text": part.text}]
        return {"type": "reasoning", "id": f"rs_{suffix}", "summary": summary}
    content: dict[str, object] = {"type": "output_text", "text": part.text, "annotations": []}
    if part.kind == "refusal":
        content = {"type": "refusal", "refusal": part.text}
    head = {"type": "message", "id": f"msg_{suffix}", "status": "completed", "role": "assistant"}
    return {**head, "content": [content]}


def _decode_message(raw: JsonObject, path: str) -> Message:
    role = _ROLES.get(need_text(raw.get("role"), f"{path}.role"))
    if role is None:
        raise MalformedRequest(f"must be one of {', '.join(_ROLES)}", f"{path}.role")
    markable = role != "assistant"
    parts, bare = RESPONSES_PARTS.decode_content(raw.get("content"), f"{path}.content", markable=markable)
    return Message(role=role, parts=parts, raw=without(raw, "content") if parts else raw, bare=bare)


def _decode_output(raw: JsonObject, path: str) -> Message:
    call_id = optional_text(raw.get("call_id"), f"{path}.call_id")
    parts, bare = RESPONSES_PARTS.decode_content(raw.get("output"), f"{path}.output", markable=True, call_id=call_id)
    return Message(role="tool", parts=parts, raw=without(raw, "output") if parts else raw, bare=bare)


def _role_of(raw: JsonObject) -> Role:
    """Return whose turn an item without content is: what it says, else the tool's for outputs, else the model's."""
    spoken = _ROLES.get(as_text(raw.get("role")) or "")
    return spoken or ("tool" if (as_text(raw.get("type")) or "").endswith("_output") else "assistant")


def _read_call(raw: JsonObject, path: str) -> Part:
    field = _CALLS[str(raw["type"])]
    return Part(
        kind="tool_call",
        raw=raw,
        text=need_text(raw.get(field), f"{path}.{field}"),
        call_id=need_text(raw.get("call_id"), f"{path}.call_id"),
        name=need_name(raw.get("name"), f"{path}.name"),
    )


def _read_reasoning(raw: JsonObject, path: str) -> Part:
    texts = (*_texts(raw.get("summary"), f"{path}.summary"), *_texts(raw.get("content"), f"{path}.content"))
    return Part(kind="thinking", raw=raw, text="\n".join(texts))


def _texts(value: object, path: str) -> Iterator[str]:
    for index, item in enumerate(as_list(value) or ()):
        yield need_text(need_object(item, f"{path}[{index}]").get("text"), f"{path}[{index}].text")


def _read_answer(raw: JsonObject, path: str) -> Part:
    content = need_list(raw.get("content"), f"{path}.content")
    parts = [
        RESPONSES_PARTS.decode(item, f"{path}.content[{index}]", markable=False) for index, item in enumerate(content)
    ]
    refused = any(part.kind == "refusal" for part in parts)
    return Part(kind="refusal" if refused else "text", raw=raw, text="".join(part.text for part in parts))


def _read_other(raw: JsonObject, path: str) -> Part:  # noqa: ARG001 - one signature for all readers
    return Part(kind="other", raw=raw, call_id=as_text(raw.get("call_id")), name=as_text(raw.get("name")))


_READERS: Mapping[str, Callable[[JsonObject, str], Part]] = {
    "message": _read_answer,
    "function_call": _read_call,
    "custom_tool_call": _read_call,
    "reasoning": _read_reasoning,
}
