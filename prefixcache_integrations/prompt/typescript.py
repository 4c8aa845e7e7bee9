"""Tool definitions as OpenAI's models read them: declarations in a TypeScript-like namespace.

The shape is known from recorded bills and from models that were asked to repeat it (openai-chat-tokens by
H. Marr; OpenAI's harmony response format documents the same for open models).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefixcache_integrations.canonical import JsonObject, Tool
from prefixcache_integrations.canonical.json import as_list, as_object, as_text
from prefixcache_integrations.prompt.identity import wire_text

_DEEPEST_DESCRIPTION = 2
"""Descriptions of fields nested deeper than this many columns are not rendered."""

_WORDS = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def tool_namespace(tools: Sequence[Tool]) -> str:
    """Return the text that stands for ``tools``; tools without a name or of a built-in type stand as their JSON."""
    lines = ["namespace functions {", ""]
    for tool in tools:
        lines += [*_declaration(tool), ""] if _is_function(tool) else [wire_text(tool.raw, tool.name), ""]
    return "\n".join([*lines, "} // namespace functions"])


def _is_function(tool: Tool) -> bool:
    return tool.raw.get("type", "function") == "function"


def _declaration(tool: Tool) -> Iterator[str]:
    if tool.description:
        yield f"// {tool.description}"
    schema = tool.schema or {}
    if not _properties(schema):
        yield f"type {tool.name} = () => any;"
        return
    yield f"type {tool.name} = (_: {{"
    yield from _fields(schema, 0)
    yield "}) => any;"


def _properties(schema: JsonObject) -> JsonObject:
    return as_object(schema.get("properties")) or {}


def _fields(schema: JsonObject, indent: int) -> Iterator[str]:
    required = as_list(schema.get("required")) or ()
    pad = " " * indent
    for name, value in _properties(schema).items():
        field = as_object(value) or {}
        description = as_text(field.get("description"))
        if description and indent < _DEEPEST_DESCRIPTION:
            yield f"{pad}// {description}"
        optional = "" if name in required else "?"
        yield f"{pad}{name}{optional}: {_type(field, indent)},"


def _type(schema: JsonObject, indent: int) -> str:
    for union in ("anyOf", "oneOf"):
        if choices := as_list(schema.get(union)):
            return " | ".join(_type(as_object(choice) or {}, indent) for choice in choices)
    if values := as_list(schema.get("enum")):
        return " | ".join(wire_text(value) for value in values)
    kinds = as_list(schema.get("type")) or (schema.get("type"),)
    return " | ".join(_plain(kind, schema, indent) for kind in kinds)


def _plain(kind: object, schema: JsonObject, indent: int) -> str:
    if kind == "array":
        items = as_object(schema.get("items"))
        return f"{_type(items, indent)}[]" if items else "any[]"
    if kind == "object":
        # The closing brace of a nested object stands at the margin, as in the counts that match recorded bills.
        return "\n".join(["{", *_fields(schema, indent + 2), "}"]) if _properties(schema) else "object"
    return _WORDS.get(kind, "any") if isinstance(kind, str) else "any"
