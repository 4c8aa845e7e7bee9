"""Where two JSON values first differ on the wire, to the character."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from prefixcache_integrations.canonical.json import JsonObject, as_list, as_object
from prefixcache_integrations.insight.diagnosis_words import Excerpt
from prefixcache_integrations.prompt.identity import wire_text

_LEAD, _SHOWN = 12, 48
"""How many characters an excerpt shows before the difference, and in all."""


class Difference(Struct, frozen=True, kw_only=True):
    """The first difference: its path, the texts there (``None`` where there is nothing), and where they part."""

    path: str
    old: str | None
    new: str | None

    @property
    def offset(self) -> int:
        """The index of the first differing character; 0 where one side has nothing."""
        return 0 if self.old is None or self.new is None else shared_length(self.old, self.new)

    @property
    def excerpt(self) -> Excerpt:
        """Both texts around the difference."""
        start = max(self.offset - _LEAD, 0)
        return Excerpt(
            before=(self.old or "")[start : start + _SHOWN],
            after=(self.new or "")[start : start + _SHOWN],
        )


def shared_length(old: str, new: str) -> int:
    """Return how many characters both texts begin with."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def difference(old: object, new: object, path: str = "") -> Difference | None:
    """Return the first difference in wire order, key order included; ``None`` where the two go out the same.

    It lies as deep as both sides go together: in a string, or in the object whose keys differ.
    Raises `MalformedRequest` for what is no JSON.
    """
    old_object, new_object = as_object(old), as_object(new)
    if old_object is not None and new_object is not None:
        return _in_objects(old_object, new_object, path)
    old_list, new_list = as_list(old), as_list(new)
    if old_list is not None and new_list is not None:
        return _in_lists(old_list, new_list, path)
    return _leaf(_text(old, path), _text(new, path), path)


def _in_objects(old: JsonObject, new: JsonObject, path: str) -> Difference | None:
    for old_key, new_key in zip(old, new, strict=False):
        if old_key != new_key:
            break
        if found := difference(old[old_key], new[new_key], joined(path, old_key)):
            return found
    return _leaf(wire_text(old, path), wire_text(new, path), path)


def _in_lists(old: Sequence[object], new: Sequence[object], path: str) -> Difference | None:
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        if found := difference(left, right, f"{path}[{index}]"):
            return found
    shared = min(len(old), len(new))
    if len(old) == len(new):
        return None
    return Difference(
        path=f"{path}[{shared}]",
        old=wire_text(old[shared], path) if shared < len(old) else None,
        new=wire_text(new[shared], path) if shared < len(new) else None,
    )


def _leaf(old: str, new: str, path: str) -> Difference | None:
    return None if old == new else Difference(path=path, old=old, new=new)


def _text(value: object, path: str) -> str:
    return value if isinstance(value, str) else wire_text(value, path)


def setting_difference(old: object, new: object, path: str) -> Difference | None:
    """Return the first difference between two settings, whose keys have no order; what is left out is an empty one."""
    old_object, new_object = as_object(old), as_object(new)
    if _is_object_or_none(old) and _is_object_or_none(new):
        for key in sorted({*(old_object or {}), *(new_object or {})}):
            found = setting_difference((old_object or {}).get(key), (new_object or {}).get(key), joined(path, key))
            if found:
                return found
        return None
    if old == new:
        return None
    if old is None or new is None:
        return Difference(path=path, old=_or_none(old, path), new=_or_none(new, path))
    return difference(old, new, path)


def _is_object_or_none(value: object) -> bool:
    return value is None or as_object(value) is not None


def _or_none(value: object, path: str) -> str | None:
    return None if value is None else _text(value, path)


def joined(path: str, key: str) -> str:
    """Return the path of the member ``key`` of what stands at ``path``."""
    return f"{path}.{key}" if path else key
