"""Tools are a set: the same ones in another order, or written with other key orders, get the same bytes."""

from __future__ import annotations

import hashlib
import marshal
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import DialectName, JsonObject, Request, Tool
from prefixcache_integrations.canonical.json import as_list, as_object
from prefixcache_integrations.prompt.tool_lists import ToolLists

_SCHEMA_PATHS: Mapping[DialectName, tuple[str, ...]] = {
    "anthropic_messages": ("input_schema",),
    "openai_chat": ("function", "parameters"),
    "openai_responses": ("parameters",),
}

_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "patternProperties", "dependentSchemas"})
"""Members that hold schemas by name, where the order of the names means nothing."""

_SCHEMAS = frozenset(
    {"additionalProperties", "allOf", "anyOf", "contains", "else", "if", "items", "not", "oneOf", "prefixItems"}
    | {"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
"""Members that hold a schema, or a list of them."""


FORMS = 1024
"""Of how many tools the canonical form is kept, at most."""

AGENT_TEXT = 256
"""By how many characters of its instructions an agent is told from others."""

_INSTRUCTIONS = ("system", "developer")


def tool_order(tools: Sequence[Tool], lists: ToolLists | None = None, agent: bytes = b"") -> tuple[int, ...]:
    """Return the indices of ``tools`` by name; tools of one name keep their order.

    With the ``lists`` that were sent, they come in the order that shares most with one of them (`ToolLists.order`): so
    a tool that is added leaves all before it as they were.
    """
    names = {tool.name for tool in tools}
    places = {name: place for place, name in enumerate(sorted(names) if lists is None else lists.order(names, agent))}
    return tuple(sorted(range(len(tools)), key=lambda index: places[tools[index].name]))


def agent_of(request: Request) -> bytes:
    """Return what tells one agent of an application from another: the beginning of its instructions, as a digest."""
    opening = request.messages[0].parts if request.messages and request.messages[0].role in _INSTRUCTIONS else ()
    text = next((part.text for part in (*request.system, *opening)), "")
    return hashlib.blake2b(text[:AGENT_TEXT].encode("utf-8", "surrogatepass"), digest_size=8).digest()


def canonical_tool(tool: Tool, dialect: DialectName) -> Tool:
    """Return ``tool`` with its keys sorted, and its schema as `canonical_schema` has it; itself where it already is."""
    key = _digest(tool, dialect)
    form = _forms.get(key) if key else None
    if form is None:
        form = _form(tool, dialect)
        if key:
            _forms[key] = form
            while len(_forms) > FORMS:
                _forms.popitem(last=False)
    return tool if form.raw is None else replace(tool, raw=form.raw, schema=form.schema)


class _Form(Struct, frozen=True):
    """A tool in canonical form; ``raw`` is ``None`` for one that already is."""

    raw: JsonObject | None = None
    schema: JsonObject | None = None


_forms: OrderedDict[bytes, _Form] = OrderedDict()
"""The tools seen first, by their digest: an application has a few, and sends them with every request."""


def _digest(tool: Tool, dialect: DialectName) -> bytes:
    """Return a digest of ``tool``, the order of its keys included; empty for one that is no JSON."""
    try:
        written = marshal.dumps(tool.raw, 2)  # type: ignore[arg-type] # else it raises
    except ValueError:
        return b""
    return hashlib.blake2b(written, digest_size=16, person=dialect.encode()[:16]).digest()


def _form(tool: Tool, dialect: DialectName) -> _Form:
    raw = _canonical_at(tool.raw, _SCHEMA_PATHS[dialect])
    if _same_order(raw, tool.raw):
        return _Form()
    return _Form(raw, None if tool.schema is None else canonical_schema(tool.schema))


def canonical_schema(schema: JsonObject) -> JsonObject:
    """Return an equal schema whose keys are sorted and whose ``required`` is.

    The members of ``properties`` keep their order, which is the one the model fills the arguments in; so do
    ``enum`` and every list of alternatives.
    """
    return {key: _member(key, schema[key]) for key in sorted(schema, key=str)}


def _member(key: str, value: object) -> object:
    named = as_object(value)
    if key == "properties" and named is not None:
        return {name: _schema(field) for name, field in named.items()}
    if key in _NAMED_SCHEMAS and named is not None:
        return {name: _schema(named[name]) for name in sorted(named, key=str)}
    if key in _SCHEMAS:
        members = as_list(value)
        return _schema(value) if members is None else [_schema(member) for member in members]
    return _sorted_names(value) if key == "required" else value


def _schema(value: object) -> object:
    schema = as_object(value)
    return value if schema is None else canonical_schema(schema)


def _sorted_names(value: object) -> object:
    names = as_list(value)
    if names is None or not all(isinstance(name, str) for name in names):
        return value
    return sorted(map(str, names))


def _canonical_at(raw: JsonObject, path: tuple[str, ...]) -> JsonObject:
    head, *rest = path
    result = {key: raw[key] for key in sorted(raw, key=str)}
    inner = as_object(raw.get(head))
    if inner is not None:
        result[head] = _canonical_at(inner, tuple(rest)) if rest else canonical_schema(inner)
    return result


def _same_order(one: object, other: object) -> bool:
    """Tell whether two equal values have their keys and items in the same order throughout."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(_same_order(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same_order, one, other))
    return one == other
