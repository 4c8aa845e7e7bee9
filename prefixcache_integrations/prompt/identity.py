"""JSON as bytes: in the order of the wire, as a provider compares it, or in an order of its own, as keys need it."""

from __future__ import annotations

import json

from prefixcache_integrations.errors import MalformedRequest


def wire_text(value: object, path: str = "") -> str:
    """Return ``value`` as compact JSON, keys in the order they have.

    Raises `MalformedRequest`, naming ``path``, for what is no JSON: lone surrogates, NaN, cycles, other objects.
    """
    return _dump(value, path, in_order=True)


def wire_bytes(value: object, path: str = "") -> bytes:
    """Return `wire_text` as UTF-8."""
    return wire_text(value, path).encode()


def canonical_json(value: object, path: str = "") -> bytes:
    """Return ``value`` as compact JSON with sorted keys: equal bytes for equal values, whatever their key order.

    Raises `MalformedRequest` like `wire_text`.
    """
    return _dump(value, path, in_order=False).encode()


def checked_text(text: str, path: str = "") -> str:
    """Return ``text``; raises `MalformedRequest` where it holds lone surrogates, which no wire can carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedRequest("text with a lone surrogate", path) from error
    return text


_IN_ORDER, _SORTED = (
    json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sorts)
    for sorts in (False, True)
)


def _dump(value: object, path: str, *, in_order: bool) -> str:
    try:
        text = (_IN_ORDER if in_order else _SORTED).encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedRequest("a value that is no JSON", path) from error
    return checked_text(text, path)
