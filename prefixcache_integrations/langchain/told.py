"""What a model is, as far as it is not LangChain's own: its class, its fields and private state, written down.

A class that overrides ``_identifying_params`` says itself what identifies its models, and is believed about its fields
and those it inherits. LangChain's packages dump what counts of their classes. What a class of somebody's own adds to
either counts by its value; a value that cannot be written down in full makes the model one that is not cached.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from hashlib import sha256
from pathlib import PurePath
from threading import Lock, RLock
from types import CodeType, FunctionType, MethodType, NoneType
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary, ref

from langchain_core.language_models import BaseChatModel, BaseLLM
from msgspec import Struct
from pydantic import BaseModel, SecretBytes, SecretStr

from prefixcache_integrations.langchain.schemas import schema_of
from prefixcache_integrations.langchain.written_class import members_of, said_of

UNREAD = frozenset(
    {
        "_serialized", "cache", "callbacks", "custom_get_token_ids", "metadata", "name", "profile", "rate_limiter",
        "tags", "verbose",
    }
)  # fmt: skip
"""Fields of LangChain's base classes that no answer depends on."""

_HOUSE = ("langchain", "prefixcache_integrations")
_VIEW = "__prefixcache_"
_IDLE: tuple[type, ...] = (logging.Logger, logging.LoggerAdapter, type(Lock()), type(RLock()))
"""What no answer depends on, whatever is in it."""

_PRINTED = (Decimal, PurePath, UUID, date, time, timedelta)
_SETTLED = frozenset({NoneType, str, int, float, bool, bytes, SecretStr, SecretBytes, *_IDLE, *_PRINTED, datetime})


class Untold(Exception):
    """A value that cannot be written down in full."""


class Added(Struct, frozen=True):
    """What the class of a model adds to those that say what identifies them.

    ``own`` is the class, where it counts itself: as it is when it is asked. ``fields`` and ``private`` are names whose
    values count; the ``lenient`` of them, whose class leaves them unsaid, where they can be written down. ``identity``
    says that LangChain's string has not what the class identifies its models by.
    """

    own: ref[type] | None
    fields: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    lenient: frozenset[str] = frozenset()
    identity: bool = False

    def held(self, model: BaseModel) -> dict[str, object]:
        """Return what counts of ``model`` itself, as it holds it."""
        values, private = model.__dict__, model.__pydantic_private__
        own = None if self.own is None else self.own()
        held: dict[str, object] = {} if own is None else {**_class(own)}
        for name in self.fields:
            held[name] = values.get(name)
        for name in self.private:
            if private and name in private:
                held[name] = private[name]
        if own is not None and model.__pydantic_extra__:
            held["extra"] = model.__pydantic_extra__
        if self.identity:
            held["identity"] = model._identifying_params  # type: ignore[attr-defined] # noqa: SLF001 - LangChain's name for it
        return held

    def of(self, held: Mapping[str, object]) -> dict[str, object]:
        """Return what is ``held``, written down. Raises `Untold`."""
        found: dict[str, object] = {}
        for name, value in held.items():
            try:
                found[name] = told(value)
            except Untold:
                if name not in self.lenient:
                    raise
        return found


_added: WeakKeyDictionary[type, Added | None] = WeakKeyDictionary()


def added_by(kind: type[BaseModel]) -> Added | None:
    """Return what ``kind``, the class of a model, adds; ``None`` for a class whose dump says it all."""
    if kind not in _added:
        _added[kind] = _made(kind)
    return _added[kind]


def _made(kind: type[BaseModel]) -> Added | None:
    parents: list[Any] = [parent for parent in kind.__mro__ if not _is_view(parent)]
    own: type[BaseModel] = parents[0]
    teller = next(parent for parent in parents if _of_house(parent) or "_identifying_params" in vars(parent))
    serialised = bool(kind.is_lc_serializable())  # type: ignore[attr-defined] # what every model of LangChain has
    if own is teller and _of_house(own) and serialised and not issubclass(own, BaseLLM):
        return None
    base: type[BaseModel] = teller if issubclass(teller, BaseModel) else BaseModel
    known = frozenset(base.model_fields) - UNREAD if _silent(base, serialised=serialised) else frozenset()
    fields = tuple(
        name
        for name, field in own.model_fields.items()
        if name not in base.model_fields or (field.exclude and not base.model_fields[name].exclude)
    )
    return Added(
        own=ref(own) if known or not _of_house(own) else None,
        fields=(*fields, *known.difference(fields)),
        private=tuple(name for name in own.__private_attributes__ if name not in base.__private_attributes__),
        lenient=known.difference(fields),
        identity=serialised and not _of_house(teller),
    )


def _silent(teller: type, *, serialised: bool) -> bool:
    """Say whether a class of LangChain's leaves it to nobody to say what identifies its models."""
    if not _of_house(teller) or (serialised and not issubclass(teller, BaseLLM)):
        return False
    named = getattr(teller, "_identifying_params", None)
    return named in (BaseChatModel._identifying_params, BaseLLM._identifying_params)  # noqa: SLF001 - LangChain's name


def _is_view(kind: type) -> bool:
    return any(name.startswith(_VIEW) for name in (*vars(kind), *vars(kind).get("__annotations__", ())))


def _of_house(kind: type) -> bool:
    package = kind.__module__.partition(".")[0]
    return package in _HOUSE or package.startswith("langchain_")


def told(value: object) -> object:
    """Return ``value`` as lists, dictionaries and plain values, the same for the same. Raises `Untold`."""
    try:
        return _told(value)
    except RecursionError as error:
        raise Untold from error


def is_settled(value: object) -> bool:
    """Say whether ``value`` is the same for as long as it is the same object."""
    if type(value) is tuple:
        return all(map(is_settled, value))
    return type(value) in _SETTLED or isinstance(value, Enum)


def _told(value: object) -> object:
    if value is None or type(value) in (str, int, float, bool):
        return value
    return next((form(value) for kind, form in _FORMS if isinstance(value, kind)), None) or _told_other(value)


def _told_list(value: Iterable[object]) -> object:
    return ["list", *map(_told, value)]


def _told_object(value: BaseModel) -> object:
    fields = {name: _told(item) for name, item in value.__dict__.items()}
    return {
        **_class(type(value)),
        "fields": fields,
        "state": [_told(value.__pydantic_private__), _told(value.__pydantic_extra__)],
    }


def _told_other(value: Any) -> object:  # noqa: ANN401 - whatever a model holds
    if not dataclasses.is_dataclass(value):
        raise Untold(_name(type(value)))
    fields = {field.name: _told(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {**_class(type(value)), "fields": fields}


def _told_model(model: BaseChatModel | BaseLLM) -> object:
    """Return a model that another holds: what it is identified by, and what its class adds."""
    added = added_by(type(model))
    dump = model.to_json()["kwargs"] if model.is_lc_serializable() else dict(model._identifying_params)  # type: ignore[typeddict-item] # noqa: SLF001 - see above
    client = getattr(model, "root_client", None) or getattr(getattr(model, "client", None), "_client", None)
    return {
        "class": _name(type(model)),
        "dump": _told(dump),
        "added": None if added is None else added.of(added.held(model)),
        "base_url": str(getattr(client, "base_url", "")),
    }


def _told_class(kind: type) -> object:
    if kind.__module__ == "builtins":
        return {"class": kind.__qualname__}
    schema = schema_of(kind)
    if schema is None:
        raise Untold(_name(kind))
    return schema


def _class(kind: type) -> dict[str, object]:
    """Return a class by its name and what it does; one that depends on what nobody can write down, by itself."""
    return said_of(kind, _is_known, lambda parents: {"class": _name(kind), "does": _does(parents)})


def _does(parents: Sequence[type]) -> str:
    try:
        return _digest([_told_members(parent) for parent in parents])
    except (Untold, RecursionError):
        return uuid4().hex


def _is_known(kind: type) -> bool:
    return _is_view(kind) or _of_house(kind) or kind.__module__.partition(".")[0] in ("builtins", "abc", "pydantic")


def _told_members(kind: type) -> list[object]:
    members: list[object] = [_name(kind)]
    for name, value in members_of(kind):
        functions = _functions(value)
        try:
            members.append([name, *map(_told_function, functions)] if functions else [name, _told(value)])
        except Untold:
            if functions or "<locals>" in kind.__qualname__:
                raise
    return members


def _functions(value: object) -> list[FunctionType]:
    """Return the functions that a member of a class is made of."""
    match value:
        case FunctionType():
            return [value]
        case property():
            found: Iterable[object] = (value.fget, value.fset)
        case staticmethod() | classmethod():
            found = (value.__func__,)
        case cached_property():
            found = (value.func,)
        case _:
            found = (getattr(value, "wrapped", None),)
    return [function for function in found if isinstance(function, FunctionType)]


def _told_function(function: FunctionType) -> object:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    enclosed = {name: _told(cell.cell_contents) for name, cell in cells if name != "__class__"}
    defaults = [_told(function.__defaults__), _told(function.__kwdefaults__)]
    return [function.__module__, function.__qualname__, _told_code(function.__code__), enclosed, defaults]


def _told_code(code: CodeType) -> list[object]:
    constants = [_told_code(item) if isinstance(item, CodeType) else _constant(item) for item in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _constant(value: object) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _digest(value: object) -> str:
    return sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_FORMS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (type, _told_class),
    (Enum, lambda value: {"class": _name(type(value)), "name": value.name}),
    ((SecretStr, SecretBytes), lambda _: "secret"),
    ((str, int, float), lambda value: {"class": _name(type(value)), "value": repr(value)}),
    ((bytes, bytearray), lambda value: {"bytes": value.hex()}),
    (Mapping, lambda value: {"pairs": sorted(([_told(name), _told(item)] for name, item in value.items()), key=repr)}),
    ((list, tuple, deque), _told_list),
    ((set, frozenset), lambda value: {"set": sorted(map(_told, value), key=repr)}),
    (FunctionType, _told_function),
    (MethodType, lambda value: [_told(value.__self__), _told(value.__func__)]),
    (_IDLE, lambda _: "idle"),
    (_PRINTED, lambda value: {"class": _name(type(value)), "value": str(value)}),
    ((BaseChatModel, BaseLLM), _told_model),
    (BaseModel, _told_object),
)
"""How what is more than plain is written down, the first that fits."""
