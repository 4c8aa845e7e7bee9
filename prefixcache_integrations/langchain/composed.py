"""Runnables that are made of others: what is inside of them, and the same ones with something else inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableParallel,
    RunnableSequence,
    RunnableSerializable,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable

AnyRunnable: TypeAlias = Runnable[Any, Any]

# The fields in which LangChain's own combinators hold what they are made of.
_PARTS: Mapping[type, tuple[str, ...]] = {
    RunnableBindingBase: ("bound",),
    RunnableEachBase: ("bound",),
    DynamicRunnable: ("default", "alternatives"),
    RunnableWithFallbacks: ("runnable", "fallbacks"),
    RunnableSequence: ("first", "middle", "last"),
    RunnableParallel: ("steps__",),
    RunnableAssign: ("mapper",),
    RunnableBranch: ("branches", "default"),
    RouterRunnable: ("runnables",),
}


def parts(runnable: AnyRunnable) -> list[AnyRunnable]:
    """Return what ``runnable`` is made of, nothing where it is one piece or of a class that we do not know."""
    return [part for field in _fields(runnable) for part in _runnables(getattr(runnable, field))]


def rebuilt(runnable: AnyRunnable, change: Callable[[AnyRunnable], AnyRunnable]) -> AnyRunnable:
    """Return a copy of ``runnable`` made of what ``change`` returns for each part; itself where that is the same."""
    before = {field: getattr(runnable, field) for field in _fields(runnable)}
    after = {field: _changed(value, change) for field, value in before.items()}
    if not isinstance(runnable, RunnableSerializable) or all(after[field] is before[field] for field in before):
        return runnable
    return runnable.model_copy(update=after)


def _fields(runnable: AnyRunnable) -> list[str]:
    names = next((names for kind, names in _PARTS.items() if isinstance(runnable, kind)), ())
    return [name for name in names if hasattr(runnable, name)]


def _runnables(value: object) -> Iterator[AnyRunnable]:
    match value:
        case Runnable():
            yield value
        case list() | tuple():
            for item in value:
                yield from _runnables(item)
        case Mapping():
            for item in value.values():
                yield from _runnables(item)
        case _:
            pass


def _changed(value: object, change: Callable[[AnyRunnable], AnyRunnable]) -> object:
    """Return ``value`` with every Runnable in it changed; the very object where none is."""
    changed: object = value
    match value:
        case Runnable():
            return change(value)
        case list() | tuple():
            items = [_changed(item, change) for item in value]
            if any(new is not old for new, old in zip(items, value, strict=True)):
                changed = type(value)(items)
        case Mapping():
            entries = {name: _changed(item, change) for name, item in value.items()}
            if any(entries[name] is not value[name] for name in value):
                changed = entries
        case _:
            pass
    return changed
