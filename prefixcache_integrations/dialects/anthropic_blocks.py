"""Content blocks of the Anthropic Messages API, nested ones included."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Part, PartKind
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.dialects.wire import (
    MarkerField,
    is_bare,
    need_name,
    need_object,
    need_text,
    read_arguments,
    to_json,
)
from prefixcache_integrations.errors import MalformedRequest

CACHE_CONTROL = MarkerField(name="cache_control", base={"type": "ephemeral"})


class _Block(Struct, frozen=True, kw_only=True):
    """Where the words of one block type stand: names of its fields, empty for those it does not have."""

    kind: PartKind
    text: str = ""
    arguments: str = ""
    call_id: str = ""
    name: str = ""
    source: str = ""
    content: tuple[str, ...] = ()


_BLOCKS: Mapping[str, _Block] = {
    "text": _Block(kind="text", text="text"),
    "image": _Block(kind="image", source="source"),
    "document": _Block(kind="document", source="source", content=("source", "content")),
    "search_result": _Block(kind="document", content=("content",)),
    "thinking": _Block(kind="thinking", text="thinking"),
    "redacted_thinking": _Block(kind="thinking"),
    "tool_use": _Block(kind="tool_call", arguments="input", call_id="id", name="name"),
    "tool_result": _Block(kind="tool_result", call_id="tool_use_id", content=("content",)),
}
_OTHER = _Block(kind="other")

_MARKABLE = frozenset(
    {
        "text",
        "image",
        "document",
        "search_result",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
        "compaction",
        "tool_addition",
        "tool_removal",
        "mcp_tool_use",
        "mcp_tool_result",
        "advisor_tool_result",
    }
)
"""Block types with a ``cache_control`` field (Anthropic SDK, the request parameter types)."""


def decode_content(value: object, path: str, *, nested: bool = False) -> tuple[tuple[Part, ...], bool]:
    """Return the parts of a content field, and whether it was a plain string."""
    if value is None:
        return (), False
    if isinstance(value, str):
        raw = {"type": "text", "text": value}
        return (Part(kind="text", raw=raw, text=value, markable=bool(value) and not nested),), True
    if not isinstance(value, list | tuple):
        raise MalformedRequest("must be a string or a list", path)
    return tuple(decode_block(item, f"{path}[{index}]", nested=nested) for index, item in enumerate(value)), False


def decode_block(value: object, path: str, *, nested: bool = False) -> Part:
    """Read one content block; a block of an unknown type is kept as it is."""
    found, marker = CACHE_CONTROL.take(need_object(value, path), path)
    block_type = need_text(found.get("type"), f"{path}.type")
    block = _BLOCKS.get(block_type, _OTHER)
    if block.source:
        need_object(found.get(block.source), f"{path}.{block.source}")
    raw, content, bare = _take_content(found, block, path)
    text = _block_text(found, block, path)
    return Part(
        kind=block.kind,
        raw=raw,
        text=text,
        marker=marker,
        markable=not nested and block_type in _MARKABLE and bool(text or block.kind != "text") and _is_direct(found),
        call_id=need_text(found.get(block.call_id), f"{path}.{block.call_id}") if block.call_id else None,
        name=need_name(found.get(block.name), f"{path}.{block.name}") if block.name else None,
        content=content,
        bare=bare,
    )


def _block_text(raw: JsonObject, block: _Block, path: str) -> str:
    if block.text:
        return need_text(raw.get(block.text), f"{path}.{block.text}")
    if block.arguments:
        return to_json(need_object(raw.get(block.arguments), f"{path}.{block.arguments}"))
    return ""


def _is_direct(raw: JsonObject) -> bool:
    """Tell whether the model wrote the block itself: one called from code execution takes no marker."""
    caller = as_object(raw.get("caller"))
    return caller is None or caller.get("type") == "direct"


def _take_content(raw: JsonObject, block: _Block, path: str) -> tuple[JsonObject, tuple[Part, ...], bool]:
    """Return ``raw`` without its nested content, the nested parts, and whether they were a plain string."""
    if not block.content:
        return raw, (), False
    *outer, name = block.content
    holder = as_object(raw.get(outer[0])) if outer else raw
    parts, bare = decode_content((holder or {}).get(name), ".".join([path, *block.content]), nested=True)
    if not parts or holder is None:
        return raw, (), False
    rest = without(holder, name)
    return ({**raw, outer[0]: rest} if outer else rest), parts, bare


def encode_content(parts: tuple[Part, ...], *, bare: bool) -> str | list[dict[str, object]]:
    """Write a content field: the plain string it was, or the list of its blocks."""
    return parts[0].text if is_bare(parts, bare=bare) else [encode_block(part) for part in parts]


def encode_block(part: Part) -> dict[str, object]:
    """Write one content block, its nested content and its marker."""
    raw = dict(part.raw or _compose_block(part))
    if part.content:
        *outer, name = _BLOCKS[str(raw["type"])].content
        content = encode_content(part.content, bare=part.bare)
        if outer:
            raw[outer[0]] = {**(as_object(raw[outer[0]]) or {}), name: content}
        else:
            raw[name] = content
    return CACHE_CONTROL.put(raw, part.marker)


def _compose_block(part: Part) -> dict[str, object]:
    """Write a part that came from no wire."""
    if part.kind == "tool_call":
        return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": read_arguments(part.text)}
    if part.kind == "tool_result":
        return {"type": "tool_result", "tool_use_id": part.call_id}
    if part.kind == "thinking":
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    return {"type": "text", "text": part.text}
