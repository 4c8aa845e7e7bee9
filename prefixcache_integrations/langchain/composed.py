"""Runnables that are made of others: what is inside of them, and the same ones with something else inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, TypeAlias

from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableSerializable,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.utils import is_async_callable, is_async_generator

AnyRunnable: TypeAlias = Runnable[Any, Any]

# The fields in which LangChain's own combinators hold what they are made of; of other classes it may be any field.
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
    """Return what ``runnable`` is made of, nothing where it is one piece."""
    return [part for field in _fields(runnable) for part in _runnables(getattr(runnable, field))]


def rebuilt(runnable: AnyRunnable, change: Callable[[AnyRunnable], AnyRunnable]) -> AnyRunnable:
    """Return a copy of ``runnable`` made of what ``change`` returns for each part; itself where that is the same."""
    before = {field: getattr(runnable, field) for field in _fields(runnable)}
    after = {field: _changed(value, change) for field, value in before.items()}
    if not isinstance(runnable, RunnableSerializable) or all(after[field] is before[field] for field in before):
        return runnable
    return runnable.model_copy(update=after)


def _fields(runnable: AnyRunnable) -> list[str]:
    is_open = isinstance(runnable, RunnableSerializable) and not isinstance(runnable, BasePromptTemplate)
    any_field = tuple(type(runnable).model_fields) if is_open else ()
    names = next((names for kind, names in _PARTS.items() if isinstance(runnable, kind)), any_field)
    return [name for name in names if hasattr(runnable, name)]


def returning(
    function: RunnableLambda[Any, Any], change: Callable[[AnyRunnable], AnyRunnable], other: Callable[[], None]
) -> RunnableLambda[Any, Any]:
    """Return a copy of ``function`` that returns what ``change`` makes of each Runnable, for LangChain to call.

    ``other`` is told when it returns anything else.
    """
    changes: dict[int, tuple[AnyRunnable, AnyRunnable]] = {}

    def changed(result: object) -> object:
        if not isinstance(result, Runnable):
            other()
            return result
        if id(result) not in changes:
            while len(changes) >= _RETURNED:
                changes.pop(next(iter(changes)), None)
            changes[id(result)] = (result, change(result))  # which keeps the id from being given anew
        return changes[id(result)][1]

    view = copy(function)
    for name in ("func", "afunc"):
        if hasattr(function, name):
            setattr(view, name, _followed(getattr(function, name), changed))
    return view


_RETURNED = 64
"""How many Runnables that a function returned are remembered: some build them anew for each call."""


def _followed(function: Callable[..., Any], changed: Callable[[object], object]) -> Callable[..., Any]:
    if isgeneratorfunction(function) or is_async_generator(function):
        return function

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        return changed(function(*args, **kwargs))

    @wraps(function)
    async def acall(*args: object, **kwargs: object) -> object:
        return changed(await function(*args, **kwargs))

    return acall if is_async_callable(function) else call


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
