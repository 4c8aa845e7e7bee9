"""The item that a model's class adds to LangChain's string of it, written down anew only where it may have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_core.language_models import BaseLLM
from msgspec import Struct
from pydantic import BaseModel

from prefixcache_integrations.langchain.llm_string import OWN
from prefixcache_integrations.langchain.told import Added, Untold, added_by, is_settled, told

_NOTHING: Mapping[str, object] = {}


def own_item(model: BaseLLM, more: Mapping[str, object]) -> str:
    """Return what the class of ``model`` adds, and ``more``."""
    added = added_by(type(model))
    return _item({}, more) if added is None else _added_item(added, added.held(model), more)


def _added_item(added: Added, held: Mapping[str, object], more: Mapping[str, object]) -> str:
    try:
        return _item({**(added.said or {}), **added.of(held)}, more)
    except Untold:
        return _UNTOLD


def _item(own: Mapping[str, object], more: Mapping[str, object]) -> str:
    try:
        return f"({OWN!r}, {told([own, more])!r})"
    except Untold:
        return _UNTOLD


_UNTOLD = f"({OWN!r}, None)"


_IN_PARTS = ("in", "parts")  # by identity, which nothing else has


class _Held(Struct, frozen=True):
    """What a model held when ``item`` was written down.

    ``values`` are those that cannot change in place; of the others only is kept what they came to, ``printed``.
    """

    values: Sequence[object]
    printed: Sequence[str | None]
    item: str

    def still(self, values: Sequence[object]) -> bool:
        """Say whether a model that holds ``values`` now has this item."""
        if len(values) != len(self.values):
            return False
        for value, before, printed in zip(values, self.values, self.printed, strict=True):
            if value is not before if printed is None else _printed(value) != printed:
                return False
        return True


class Own:
    """What one model's class adds, for every call of it. Safe to share between threads."""

    def __init__(self, added: Added) -> None:
        self._added = added
        self._last: _Held | None = None

    def item(self, model: BaseModel) -> str:
        """Return the item of ``model``, which is always the same one."""
        held = self._added.held(model)
        values = _flat(held)
        last = self._last
        if last is None or not last.still(values):
            item = _added_item(self._added, held, _NOTHING)
            printed = [None if is_settled(value) else _printed(value) for value in values]
            settled = [value if text is None else None for value, text in zip(values, printed, strict=True)]
            last = self._last = _Held(settled, printed, item)
        return last.item


def _flat(held: Mapping[str, object]) -> list[object]:
    """Return what is held by name, and of what a class makes at every call to identify a model by, the parts."""
    identity = held.get("identity")
    if type(identity) is not dict:
        return [*held, *held.values()]
    others = {**held, "identity": _IN_PARTS}
    return [*others, *others.values(), *identity, *identity.values()]


def _printed(value: object) -> str:
    try:
        return repr(told(value))
    except Untold:
        return ""
