"""Reading and writing bodies field by field: every refusal names the path, and none quotes the prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct

from prefixcache_integrations.canonical import CacheMarker, DialectName, JsonObject, Part
from prefixcache_integrations.canonical.json import as_list, as_object, as_text, without
from prefixcache_integrations.errors import MalformedRequest

MESSAGES: Mapping[DialectName, str] = {
    "anthropic_messages": "messages",
    "openai_chat": "messages",
    "openai_responses": "input",
}
"""The field of a request's body that holds its messages."""

MAX_DEPTH = 200
"""Deeper nesting is refused: it would exhaust the stack of whoever serialises the body next."""

PIECE_CHARACTERS = 24
"""How much text one streamed event carries."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(body: object) -> None:
    """Raise `MalformedRequest` for a lone surrogate anywhere in ``body``, or nesting beyond `MAX_DEPTH`.

    Values that are no JSON (a pydantic class, an SDK sentinel) are passed over.
    """
    fault = None if _is_sound(body) else _fault(body, MAX_DEPTH)
    if fault is not None:
        path, reason = fault
        raise MalformedRequest(reason, path.removeprefix("."))


def _is_sound(body: object) -> bool:
    """Tell that ``body`` has no fault, level by level, where it consists of nothing but what JSON is read to."""
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        if not _JSON.issuperset(map(type, level)):
            return False
        objects = [value for value in level if type(value) is dict]
        texts = [*chain.from_iterable(objects), *(value for value in level if type(value) is str)]
        if not _TEXT.issuperset(map(type, texts)):
            return False
        if not all(map(str.isascii, texts)) and any(map(_is_broken, texts)):
            return False
        inner = chain.from_iterable(map(dict.values, objects))
        level = [*inner, *chain.from_iterable(value for value in level if type(value) is list)]
        if not level:
            return True
    return False


_TEXT = frozenset({str})
_JSON = frozenset({dict, list, str, int, float, bool, type(None)})


def _fault(value: object, depth: int) -> tuple[str, str] | None:
    if isinstance(value, str):
        return ("", "has a lone surrogate, which is no text") if _is_broken(value) else None
    if not isinstance(value, Mapping | list | tuple):
        return None
    if depth == 0:
        return "", f"is nested more than {MAX_DEPTH} levels deep"
    for step, item in _steps(value):
        found = _fault(item, depth - 1)
        if found is not None:
            return step + found[0], found[1]
    return None


def _steps(value: Mapping[object, object] | Sequence[object]) -> Iterator[tuple[str, object]]:
    if not isinstance(value, Mapping):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
        return
    for name, item in value.items():
        if isinstance(name, str) and _is_broken(name):
            yield "", name
        yield f".{name}", item


def _is_broken(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


def is_given(value: object) -> bool:
    """Tell whether a field says something; ``None``, an empty list and an SDK sentinel do not."""
    return value not in (None, [], ()) and isinstance(value, str | int | float | Mapping | list | tuple)


def need_object(value: object, path: str) -> JsonObject:
    """Return ``value`` if it is an object, else raise `MalformedRequest` at ``path``."""
    found = as_object(value)
    if found is None:
        raise MalformedRequest("must be an object", path)
    return found


def need_list(value: object, path: str) -> Sequence[object]:
    """Return ``value`` if it is a list, else raise `MalformedRequest` at ``path``."""
    found = as_list(value)
    if found is None:
        raise MalformedRequest("must be a list", path)
    return found


def need_text(value: object, path: str) -> str:
    """Return ``value`` if it is a string, else raise `MalformedRequest` at ``path``."""
    found = as_text(value)
    if found is None:
        raise MalformedRequest("must be a string", path)
    return found


def need_name(value: object, path: str) -> str:
    """Return ``value`` if it is a string of at least one character, else raise `MalformedRequest` at ``path``."""
    if not need_text(value, path):
        raise MalformedRequest("must not be empty", path)
    return str(value)


def optional_text(value: object, path: str) -> str | None:
    """Return ``value`` if it is a string or ``None``, else raise `MalformedRequest` at ``path``."""
    return None if value is None else need_text(value, path)


def optional_object(value: object, path: str) -> JsonObject | None:
    """Return ``value`` if it is an object or ``None``, else raise `MalformedRequest` at ``path``."""
    return None if value is None else need_object(value, path)


class MarkerField(Struct, frozen=True, kw_only=True):
    """How a format spells a cache marker: the field that holds it, and what is in it besides the lifetime."""

    name: str
    base: Mapping[str, object]

    def take(self, block: JsonObject, path: str) -> tuple[JsonObject, CacheMarker | None]:
        """Return ``block`` without its marker, and the marker; a ``null`` marker is none and stays where it is."""
        if not is_given(block.get(self.name)):
            return block, None
        raw = need_object(block[self.name], f"{path}.{self.name}".lstrip("."))
        ttl = optional_text(raw.get("ttl"), f"{path}.{self.name}.ttl".lstrip("."))
        return without(block, self.name), CacheMarker(ttl=ttl, raw=raw)

    def encode(self, marker: CacheMarker) -> dict[str, object]:
        """Write ``marker``: as it was found, unless its lifetime has changed since."""
        raw = self.base if marker.raw is None else marker.raw
        if marker.ttl == raw.get("ttl"):
            return dict(raw)
        return without(raw, "ttl") | ({} if marker.ttl is None else {"ttl": marker.ttl})

    def put(self, block: JsonObject, marker: CacheMarker | None) -> dict[str, object]:
        """Return a copy of ``block`` that carries ``marker``."""
        return dict(block) if marker is None else {**block, self.name: self.encode(marker)}


def is_bare(parts: Sequence[Part], *, bare: bool) -> bool:
    """Tell whether ``parts`` can be written as the plain string they came from: a marked block cannot."""
    return bare and len(parts) == 1 and parts[0].marker is None


def pieces(text: str) -> Iterator[str]:
    """Cut ``text`` into the pieces of a stream; an empty text has none."""
    return (text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))


def to_json(value: object) -> str:
    """Write ``value`` compactly, keys in their order; what is no JSON is written as the name of its type."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda item: type(item).__name__)


def read_arguments(text: str) -> JsonObject:
    """Read the arguments of a tool call; what is no JSON object is wrapped as ``{"INVALID_JSON": text}``.

    The wrapping is the one that the Claude docs on fine-grained tool streaming ask for.
    """
    try:
        found = as_object(json.loads(text or "{}"))
    except ValueError:
        found = None
    return {"INVALID_JSON": text} if found is None else found
