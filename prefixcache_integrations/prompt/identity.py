"""JSON as bytes: in the order of the wire, as a provider compares it, or in an order of its own, as keys need it."""

from __future__ import annotations

import json
from collections.abc import Collection

import msgspec

from prefixcache_integrations.errors import MalformedRequest


def wire_text(value: object, path: object = "") -> str:
    """Return ``value`` as compact JSON, keys in the order they have.

    Raises `MalformedRequest`, naming ``path``, for what is no JSON: lone surrogates, NaN, cycles, other objects.
    """
    return wire_bytes(value, path).decode()


def wire_bytes(value: object, path: object = "") -> bytes:
    """Return `wire_text` as UTF-8."""
    if not _is_plain(value, _DEEPEST):
        return _dump(value, path, in_order=True).encode()
    try:
        return _encode(value)
    except UnicodeEncodeError as error:
        raise MalformedRequest("text with a lone surrogate", str(path)) from error


def _is_plain(value: object, depth: int) -> bool:
    """Tell whether msgspec, several times as fast, writes the same of a list or object as json: numbers it may not."""
    items: Collection[object]
    if type(value) is dict:
        items = value.values()
        if not _TEXT.issuperset(map(type, value)):
            return False
    elif type(value) is list:
        items = value
    else:
        return False
    if _LEAVES.issuperset(map(type, items)):
        return True
    for item in items if depth else ():
        if type(item) not in _LEAVES and not _is_plain(item, depth - 1):
            return False
    return depth > 0


_encode = msgspec.json.Encoder().encode
_TEXT = frozenset({str})
_LEAVES = frozenset({str, bool, type(None)})
_DEEPEST = 16


def canonical_json(value: object, path: str = "") -> bytes:
    """Return ``value`` as compact JSON with sorted keys: equal bytes for equal values, whatever their key order.

    Raises `MalformedRequest` like `wire_text`.
    """
    return _dump(value, path, in_order=False).encode()


def checked_text(text: str, path: object = "") -> str:
    """Return ``text``; raises `MalformedRequest` where it holds lone surrogates, which no wire can carry."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedRequest("text with a lone surrogate", str(path)) from error
    return text


_IN_ORDER, _SORTED = (
    json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sorts)
    for sorts in (False, True)
)


def _dump(value: object, path: object, *, in_order: bool) -> str:
    try:
        text = (_IN_ORDER if in_order else _SORTED).encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedRequest("a value that is no JSON", str(path)) from error
    return checked_text(text, path)
