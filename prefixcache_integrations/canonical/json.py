"""JSON as Python sees it: the type of a decoded object, and how to read one field of it safely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

JsonObject: TypeAlias = Mapping[str, object]
"""A decoded JSON object. Key order is the order on the wire, and is kept: providers render it."""


def as_object(value: object) -> JsonObject | None:
    """Return ``value`` if it is a JSON object, else ``None``."""
    if type(value) is dict:  # by far the most: asking for an abstract class takes ten times as long
        return cast("JsonObject", value)
    return cast("JsonObject", value) if isinstance(value, Mapping) else None


def as_list(value: object) -> Sequence[object] | None:
    """Return ``value`` if it is a JSON array, else ``None`` (a string is no array)."""
    return value if isinstance(value, list | tuple) else None


def as_text(value: object) -> str | None:
    """Return ``value`` if it is a string, else ``None``."""
    return value if isinstance(value, str) else None


def readable(text: str) -> str:
    """Return ``text`` with a question mark for each lone surrogate, which nothing that leaves the process can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def as_count(value: object) -> int | None:
    """Return ``value`` if it is a non-negative integer, else ``None``: an unknown count is never 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def without(value: JsonObject, *names: str) -> dict[str, object]:
    """Return a shallow copy of ``value`` without the fields ``names``; order is kept."""
    return {name: field for name, field in value.items() if name not in names}
