"""Runnables that are made of others: what is inside of them, and the same ones with something else inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from functools import wraps
from inspect import getclosurevars, isgeneratorfunction, unwrap
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


_FUNCTIONS = ("func", "afunc")


def parts(runnable: AnyRunnable) -> list[AnyRunnable]:
    """Return what ``runnable`` is made of, nothing where it is one piece; of a function, what it holds."""
    if isinstance(runnable, RunnableLambda):
        functions = (getattr(runnable, name, None) for name in _FUNCTIONS)
        return [part for function in functions if function is not None for part in _held(function)]
    return [part for field in _fields(runnable) for part in _runnables(getattr(runnable, field))]


def rebuilt(runnable: AnyRunnable, change: Callable[[AnyRunnable], AnyRunnable]) -> AnyRunnable:
    """Return a copy of ``runnable`` made of what ``change`` returns for each part; itself where that is the same."""
    before = {field: getattr(runnable, field) for field in _fields(runnable)}
    after = {field: _changed(value, change) for field, value in before.items()}
    if not isinstance(runnable, RunnableSerializable) or all(after[field] is before[field] for field in before):
        return runnable
    return runnable.model_copy(update=after)


def _fields(runnable: AnyRunnable) -> list[str]:
    own = next((names for kind, names in _PARTS.items() if isinstance(runnable, kind)), None)
    if own is None and isinstance(runnable, RunnableSerializable) and not isinstance(runnable, BasePromptTemplate):
        fields = type(runnable).model_fields
        own = tuple(name for name in fields if any(_runnables_in(getattr(runnable, name, None))))
    return [name for name in own or () if hasattr(runnable, name)]


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
        before, after = changes.get(id(result)) or (None, None)
        if after is None or before is not result:
            after = change(result)
            changes[id(result)] = (result, after)  # which keeps the id from being given anew
        if len(changes) > _RETURNED:
            changes.clear()
        return after

    view = copy(function)
    for name in _FUNCTIONS:
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


def _held(function: Callable[..., Any]) -> Iterator[AnyRunnable]:
    """Yield what ``function`` can reach by a name of its own: a variable around it, or an attribute of its object.

    LangChain looks for that in the source, which of a lambda inside an expression it cannot read.
    """
    owner = getattr(function, "__self__", None)
    if isinstance(owner, Runnable):
        owned = [owner] if hasattr(Runnable, function.__name__) else []
    else:
        owned = [*getattr(owner, "__dict__", {}).values()]
    try:
        around = getclosurevars(unwrap(function))
        variables = [*around.nonlocals.values(), *around.globals.values()]
    except (TypeError, ValueError):  # no function of Python, or one whose variables are not there yet
        variables = []
    for value in (*owned, *variables):
        yield from _runnables_in(value)


def _runnables_in(value: object) -> Iterator[AnyRunnable]:
    """Yield ``value``, or what it has of them at hand: anything may stand in a variable, so no further is looked."""
    several: Iterable[object] = (value,)
    if isinstance(value, dict):
        several = value.values()
    elif isinstance(value, list | tuple):
        several = value
    yield from (each for each in several if isinstance(each, Runnable))


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
