"""The call behind a question to the cache: LangChain hands a cache two strings, and they do not always tell all.

They are made of a dump that a model keeps from its first call on (also in its copies, also when its settings
change), print a class by its name, and leave out what a custom model does not identify itself by, and the
arguments of a completion. The model and the arguments that ask are those of the calling frame: read from there,
every string says what it is taken to say. Where no such frame is found, the strings stay as they are.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Mapping
from operator import is_
from types import FrameType
from typing import Any

import msgspec
from langchain_core.language_models import BaseChatModel, BaseLLM
from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

_OWN_FRAMES = 2
"""How many frames are surely none of LangChain's: this module's and that of the cache."""

_FRAMES = 16
"""How far up the stack a model's method is looked for: other caches may stand between it and this one."""

_CHAT = (BaseChatModel._generate_with_cache.__code__, BaseChatModel._agenerate_with_cache.__code__)  # noqa: SLF001 - the methods that ask a cache
_COMPLETION = (BaseLLM.generate.__code__, BaseLLM.agenerate.__code__)
_ASKING = frozenset(map(id, _CHAT + _COMPLETION))
"""By identity: code is hashed and compared as a whole."""
_STREAMING = frozenset(map(id, (BaseChatModel.stream.__code__, BaseChatModel.astream.__code__)))

_DEFAULT_ADDRESS = "https://api.openai.com/v1/"
_DUMP = "_serialized"
_UNREAD = frozenset({_DUMP, "cache", "callbacks", "metadata", "name", "profile", "rate_limiter", "tags", "verbose"})
_SCHEMA_ERRORS = (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError, TypeError)
_Plain = str | int | float | bool | None


class _State(msgspec.Struct, frozen=True):
    """What is known of a model as long as its fields are the same.

    They are told by identity, and ``held`` ones, which may change in place, by what they print too. Only a field that
    leads back to its model keeps it alive here, until `_MOST_MODELS` others have been seen.
    """

    model: weakref.ref[Any]
    fields: tuple[object, ...]
    held: list[tuple[str, str]]
    stale: bool
    unsaid: str

    def holds(self, model: BaseChatModel) -> bool:
        """Say whether this is still true of ``model``."""
        fields = model.__dict__
        if self.model() is not model or len(fields) != len(self.fields):
            return False
        if not all(map(is_, self.fields, fields.values())):
            return False
        return not self.held or all(repr(fields[name]) == printed for name, printed in self.held)


_MOST_MODELS = 256
_states: dict[int, _State] = {}
_schemas: weakref.WeakKeyDictionary[type, dict[str, Any] | None] = weakref.WeakKeyDictionary()


def call_in_progress() -> FrameType | None:
    """Return the frame of the model's method that asks a cache, to be called by what it asks; ``None`` without one."""
    return _calling(_ASKING)


def stream_in_progress() -> FrameType | None:
    """Return the frame of the model's method that streams, which does not pass its run manager on."""
    return _calling(_STREAMING)


def _calling(codes: frozenset[int]) -> FrameType | None:
    frame: FrameType | None = sys._getframe(_OWN_FRAMES + 1)  # noqa: SLF001 - see above
    for _ in range(_FRAMES):
        if frame is None or id(frame.f_code) in codes:
            return frame
        frame = frame.f_back
    return None


def run_manager_of(call: FrameType | None) -> object:
    """Return what tells the handlers of ``call`` what becomes of it, ``None`` where nothing does."""
    return None if call is None else call.f_locals.get("run_manager")


def told_in_full(llm_string: str, call: FrameType | None) -> str:
    """Return ``llm_string`` as it would be if it said all that ``call`` asks the model with."""
    if call is None:
        return llm_string
    told = call.f_locals
    if call.f_code in _COMPLETION:
        arguments = told["kwargs"]
        return _with(llm_string, f"('call', {_printable(arguments)!r})") if arguments else llm_string
    return chat_llm_string(told["self"], told["stop"], told["kwargs"], llm_string)


def chat_llm_string(
    model: BaseChatModel, stop: list[str] | None, arguments: Mapping[str, Any], llm_string: str | None = None
) -> str:
    """Return the string that stands for ``model`` called with ``arguments``; ``llm_string`` is LangChain's, if made."""
    state = _state(model)
    printable = _printable(arguments)
    if state.stale or printable is not arguments or llm_string is None:
        asked = _fresh(model) if state.stale else model
        llm_string = asked._get_llm_string(stop=stop, **printable)  # noqa: SLF001 - how LangChain makes it
    return _with(llm_string, state.unsaid) if state.unsaid else llm_string


def _with(llm_string: str, item: str) -> str:
    """Add an item to the list of arguments that ends every such string."""
    return f"{llm_string[:-1]}, {item}]"


def _state(model: BaseChatModel) -> _State:
    known = _states.get(id(model))
    if known is not None and known.holds(model):
        return known
    unsaid = _unsaid(model)
    stale = model._get_llm_string() != _fresh(model)._get_llm_string()  # noqa: SLF001 - as LangChain makes it, and anew
    number, fields = id(model), model.__dict__
    while len(_states) >= _MOST_MODELS:
        _states.pop(next(iter(_states)), None)
    state = _states[number] = _State(
        model=weakref.ref(model, lambda _: _states.pop(number, None)),
        fields=tuple(fields.values()),
        held=[
            (name, repr(value))
            for name, value in fields.items()
            if name not in _UNREAD and isinstance(value, dict | list | set)
        ],
        stale=stale,
        unsaid=f"('unsaid', {unsaid!r})" if unsaid else "",
    )
    return state


def _fresh(model: BaseChatModel) -> BaseChatModel:
    """Return a copy of ``model`` without the dump it keeps."""
    if _DUMP not in model.__dict__:
        return model
    fresh = copy.copy(model)
    fresh.__dict__.pop(_DUMP, None)
    return fresh


def _unsaid(model: BaseChatModel) -> dict[str, object]:
    """Return what LangChain's string leaves out: where the client sends to, and how a custom model is set.

    Also what it hides as secret and is more than a credential: the answers of ChatAnthropic's ``mcp_servers`` are of
    those servers, and for whom their tokens stand. A class that says what its models are identified by is believed:
    other fields of its may be counters.
    """
    address = str(getattr(getattr(model, "root_client", None), "base_url", _DEFAULT_ADDRESS))
    addressed = getattr(model, "openai_api_base", None) or getattr(model, "azure_endpoint", None)
    told: dict[str, object] = {} if addressed or address == _DEFAULT_ADDRESS else {"base_url": address}
    told |= {name: hidden for name in model.lc_secrets if isinstance(hidden := getattr(model, name, None), list | dict)}
    if model.is_lc_serializable() or type(model)._identifying_params is not BaseChatModel._identifying_params:  # noqa: SLF001 - LangChain's name for it
        return told
    told["class"] = f"{type(model).__module__}.{type(model).__qualname__}"
    if type(model)._identifying_params is not BaseChatModel._identifying_params:  # noqa: SLF001 - a property to override
        return told  # it says itself what identifies it; other fields may be counters and the like
    plain = {
        name: value
        for name, value in model.__dict__.items()
        if name in type(model).model_fields and name not in _UNREAD and isinstance(value, _Plain)
    }
    return {**told, "fields": plain}


def _printable(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``arguments`` with each class as its name and JSON schema: what goes to the provider of it."""
    schemas = {name: _schema(value) for name, value in arguments.items() if isinstance(value, type)}
    return {**arguments, **{name: schema for name, schema in schemas.items() if schema}} if schemas else arguments


def _schema(kind: type) -> dict[str, Any] | None:
    if kind not in _schemas:
        _schemas[kind] = _made_schema(kind)
    return _schemas[kind]


def _made_schema(kind: type) -> dict[str, Any] | None:
    try:
        schema = kind.model_json_schema() if issubclass(kind, BaseModel) else TypeAdapter(kind).json_schema()
    except _SCHEMA_ERRORS:
        return None
    return {"class": kind.__name__, "doc": kind.__doc__, "schema": schema}
