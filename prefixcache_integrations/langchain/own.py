"""The item that a model's class adds to LangChain's string of it, written down anew only where it may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_

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
        return _item(added.of(held), more)
    except Untold:
        return _UNTOLD


def _item(own: Mapping[str, object], more: Mapping[str, object]) -> str:
    try:
        return f"({OWN!r}, {told([own, more])!r})"
    except Untold:
        return _UNTOLD


_UNTOLD = f"({OWN!r}, None)"


class _Printed(str):
    """What a value came to that may change in place."""

    __slots__ = ()


class _Held(Struct, frozen=True):
    """What a model held when ``item`` was written down.

    Of ``values`` those that cannot change in place are there; plain dictionaries as copies; others as `_Printed`.
    """

    values: dict[str, object]
    item: str


def _kept(value: object) -> object:
    if is_settled(value):
        return value
    if type(value) is dict and all(map(is_settled, (*value, *value.values()))):
        return {**value}
    return _Printed(_printed(value))


class Own:
    """What one model's class adds, for every call of it. Safe to share between threads."""

    def __init__(self, added: Added) -> None:
        self._added = added
        self._last: _Held | None = None

    def item(self, model: BaseModel) -> str:
        """Return the item of ``model``, which is always the same one."""
        held, last = self._added.held(model), self._last
        if last is not None and len(held) == len(last.values):
            for name, value in held.items():
                before = last.values.get(name, held)  # compared here: a call for each would be on the way of every hit
                if value is not before and not (
                    all(map(is_, before, value)) and all(map(is_, before.values(), value.values()))
                    if type(before) is dict and type(value) is dict and len(before) == len(value)
                    else type(before) is _Printed and _printed(value) == before
                ):
                    break
            else:
                return last.item
        kept = {name: _kept(value) for name, value in held.items()}  # first: what changes meanwhile is seen next time
        item = _added_item(self._added, held, _NOTHING)
        self._last = _Held(kept, item)
        return item


def _printed(value: object) -> str:
    try:
        return repr(told(value))
    except Untold:
        return ""
