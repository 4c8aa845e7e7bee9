"""Tools are a set: the same ones in another order, or written with other key orders, get the same bytes."""

from __future__ import annotations

import hashlib
import marshal
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from msgspec.structs import replace

from prefixcache_integrations.canonical import DialectName, JsonObject, Kept, Request, Tool
from prefixcache_integrations.canonical.json import as_list, as_object
from prefixcache_integrations.prompt.content_hash import written
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


FORMS = 64
"""Of how many lists of tools the canonical form is kept, at most."""

AGENT_TEXT = 256
"""By how many characters of its instructions an agent is told from others."""

_INSTRUCTIONS = ("system", "developer")


def tool_order(tools: Sequence[Tool], lists: ToolLists | None = None, agent: bytes = b"") -> tuple[int, ...]:
    """Return the indices of ``tools`` by name; tools of one name keep their order.

    With the ``lists`` that were sent, they come in the order that shares most with one of them (`ToolLists.order`): so
    a tool that is added leaves all before it as they were.
    """
    given = tuple(tool.name for tool in tools)
    return _places(given, tuple(sorted(set(given)) if lists is None else lists.order(given, agent)))


@lru_cache(maxsize=FORMS)
def _places(given: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the indices of what is ``given`` in the order of ``names``."""
    places = {name: place for place, name in enumerate(names)}
    return tuple(sorted(range(len(given)), key=[places[name] for name in given].__getitem__))


def agent_of(request: Request) -> bytes:
    """Return what tells one agent of an application from another: the beginning of its instructions, as a digest."""
    opening = request.messages[0].parts if request.messages and request.messages[0].role in _INSTRUCTIONS else ()
    led = request.system or opening
    text = led[0].text[:AGENT_TEXT] if led else ""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def canonical_tools(tools: Sequence[Tool], dialect: DialectName, head: int = 0) -> Sequence[Tool]:
    """Return ``tools`` with sorted keys and schemas as `canonical_schema` has them, themselves where they are so.

    ``head`` is what `tools_head` returns of them, if that is known.
    """
    head = head or tools_head(tools)
    forms = _forms_of(tools, dialect, head) if head else [_form(tool, dialect) for tool in tools]
    if not any(forms):
        return tools
    pairs = zip(tools, forms, strict=True)
    return [tool if form is None else _marked_as(tool, form) for tool, form in pairs]


def tools_head(tools: Sequence[Tool]) -> int:
    """Return a hash of ``tools`` that tells them from any others within this process; 0 for what is no JSON."""
    if isinstance(tools, Kept):
        return tools.heads[-1]
    try:
        return hash(written([tool.raw for tool in tools]))
    except ValueError:
        return 0


_Form: TypeAlias = Tool | None
"""A tool in canonical form without its marker, ``None`` for one that already is in that form."""

_forms: OrderedDict[tuple[DialectName, int], Sequence[_Form]] = OrderedDict()
"""The lists of tools seen last: an application has a few, and sends one with every request."""


def _forms_of(tools: Sequence[Tool], dialect: DialectName, head: int) -> Sequence[_Form]:
    """Return the forms of ``tools``: of copies, as an application may change what it sent."""
    forms = _forms.get((dialect, head))
    if forms is None:
        copies = marshal.loads(written([tool.raw for tool in tools]))  # noqa: S302 - written here
        pairs = zip(tools, copies, strict=True)
        forms = _forms[dialect, head] = [_form(replace(tool, raw=raw), dialect) for tool, raw in pairs]
        while len(_forms) > FORMS:
            _forms.popitem(last=False)
    return forms


def _form(tool: Tool, dialect: DialectName) -> _Form:
    raw = _canonical_at(tool.raw, _SCHEMA_PATHS[dialect])
    if _same_order(raw, tool.raw):
        return None
    schema: object = raw
    for name in _SCHEMA_PATHS[dialect]:
        schema = (as_object(schema) or {}).get(name)
    return replace(tool, raw=raw, schema=as_object(schema), marker=None)


def _marked_as(tool: Tool, form: Tool) -> Tool:
    return form if tool.marker is None else replace(form, marker=tool.marker)


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
