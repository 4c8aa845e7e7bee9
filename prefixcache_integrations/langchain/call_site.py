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
from itertools import repeat
from operator import is_
from types import FrameType
from typing import Any

import msgspec
from langchain_core.language_models import BaseChatModel, BaseLLM

from prefixcache_integrations.langchain.llm_string import TRANSPORT_SETTINGS
from prefixcache_integrations.langchain.own import Own, own_item
from prefixcache_integrations.langchain.schemas import schema_of
from prefixcache_integrations.langchain.told import UNREAD, added_by
from prefixcache_integrations.prompt.headers import routing
from prefixcache_integrations.sdk_headers import Sdk, sent_by

_OWN_FRAMES = 2
"""How many frames are surely none of LangChain's: this module's and that of the cache."""

_FRAMES = 16
"""How far up the stack a model's method is looked for: other caches may stand between it and this one."""

_CHAT = (BaseChatModel._generate_with_cache.__code__, BaseChatModel._agenerate_with_cache.__code__)  # noqa: SLF001 - the methods that ask a cache
_COMPLETION = (BaseLLM.generate.__code__, BaseLLM.agenerate.__code__)
_ASKING = frozenset(map(id, _CHAT + _COMPLETION))
"""By identity: code is hashed and compared as a whole."""
_COMPLETING = frozenset(map(id, _COMPLETION))
_STREAMING = frozenset(map(id, (BaseChatModel.stream.__code__, BaseChatModel.astream.__code__)))

_DEFAULT_ADDRESS = "https://api.openai.com/v1/"
_DUMP = "_serialized"
_CLIENTS = {"client": "root_client", "async_client": "root_async_client"}


class _State(msgspec.Struct, frozen=True):
    """What is known of a model as long as its fields are the same.

    They are told by identity, and those ``held`` that may change in place by what is ``printed`` too. Only a field that
    leads back to its model keeps it alive here, until `_MOST_MODELS` others have been seen.
    """

    model: weakref.ref[Any]
    fields: tuple[object, ...]
    held: list[str]
    printed: list[str]
    stale: bool
    unsaid: str
    url: object
    own: Own | None

    def holds(self, model: BaseChatModel) -> bool:
        """Say whether this is still true of ``model``."""
        fields = model.__dict__
        if self.model() is not model or len(fields) != len(self.fields):
            return False
        if not all(map(is_, self.fields, fields.values())):
            return False
        client = fields.get("root_client") or _client(model)  # the first by itself: one call less
        if getattr(client, "base_url", None) is not self.url:
            return False
        return [*map(repr, map(fields.get, self.held))] == self.printed


_MOST_MODELS = 256
_states: dict[int, _State] = {}


class Call(msgspec.Struct, frozen=True):
    """What a method of a model that asks a cache was called with; ``run_manager`` tells handlers what becomes of it."""

    model: Any
    stop: list[str] | None
    arguments: Mapping[str, Any]
    run_manager: object = None
    completes: bool = False


def call_in_progress(codes: frozenset[int] = _ASKING) -> Call | None:
    """Return the call of the model's method that asks a cache, to be called by what it asks; ``None`` without one."""
    frame: FrameType | None = sys._getframe(_OWN_FRAMES)  # noqa: SLF001 - see above
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if id(frame.f_code) in codes:
            break
        frame = frame.f_back
    else:
        return None
    given = frame.f_locals
    run_manager, completes = given.get("run_manager"), id(frame.f_code) in _COMPLETING
    return Call(given["self"], given.get("stop"), given["kwargs"], run_manager, completes)


def streaming_call() -> Call | None:
    """Return the call of the model's method that streams, which does not pass its run manager on."""
    return call_in_progress(_STREAMING)


def told_in_full(llm_string: str | None, call: Call | None) -> tuple[str, str]:
    """Return what LangChain's string of ``call`` should be, and what is to be `added_to` it.

    ``llm_string`` is LangChain's, if it is made already, and stays as it is if it says what it should.
    """
    if call is None or call.completes:
        return llm_string or "", "" if call is None else _completion_items(call.model, call.arguments)
    model, arguments = call.model, call.arguments
    state = _states.get(id(model))
    if state is None or not state.holds(model):
        state = _state(model)
    printable = _printable(arguments) if any(map(isinstance, arguments.values(), repeat(type))) else arguments
    if state.stale or printable is not arguments or llm_string is None:
        asked = _fresh(model) if state.stale else model
        llm_string = asked._get_llm_string(stop=call.stop, **printable)  # noqa: SLF001 - how LangChain makes it
    if state.own is None:
        return llm_string, state.unsaid
    own = state.own.item(model)
    return llm_string, f"{state.unsaid}, {own}" if state.unsaid else own


def chat_llm_string(model: BaseChatModel, stop: list[str] | None, arguments: Mapping[str, Any]) -> str:
    """Return the string that stands for ``model`` called with ``arguments``."""
    return added_to(*told_in_full(None, Call(model, stop, arguments)))


def added_to(llm_string: str, items: str) -> str:
    """Add ``items`` to the list of arguments that ends every such string."""
    return f"{llm_string[:-1]}, {items}]" if items else llm_string


def _completion_items(model: BaseLLM, arguments: Mapping[str, Any]) -> str:
    own = own_item(model, {"settings": _dump(model), **_address(model), **_headers(model)})
    return f"('call', {_printable(arguments)!r}), {own}" if arguments else own


def _dump(model: BaseLLM) -> Mapping[str, object]:
    """Return the settings that a completion model is dumped with: its string has but some of them."""
    if not model.is_lc_serializable():
        return {}
    settings = model.to_json().get("kwargs", {})
    return {
        name: value
        for name, value in settings.items()  # type: ignore[attr-defined] # it is the dump of a constructor
        if name not in TRANSPORT_SETTINGS and name not in model.lc_secrets and name not in UNREAD
    }


def _state(model: BaseChatModel) -> _State:
    unsaid = _unsaid(model)
    stale = model._get_llm_string() != _fresh(model)._get_llm_string()  # noqa: SLF001 - as LangChain makes it, and anew
    number, fields, added = id(model), model.__dict__, added_by(type(model))
    held = [name for name, value in fields.items() if name not in UNREAD and isinstance(value, dict | list | set)]
    while len(_states) >= _MOST_MODELS:
        _states.pop(next(iter(_states)), None)
    state = _states[number] = _State(
        model=weakref.ref(model, lambda _: _states.pop(number, None)),
        fields=tuple(fields.values()),
        held=held,
        printed=[repr(fields[name]) for name in held],
        stale=stale,
        unsaid=f"('unsaid', {unsaid!r})" if unsaid else "",
        url=_url(model),
        own=None if added is None else Own(added),
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
    """Return what LangChain's string leaves out, besides what the class adds: where the client sends to, and as whom.

    Also what it hides as secret and is more than a credential: the answers of ChatAnthropic's ``mcp_servers`` are of
    those servers, and for whom their tokens stand.
    """
    hidden = {name: getattr(model, name, None) for name in model.lc_secrets}
    lists = {name: value for name, value in hidden.items() if isinstance(value, list | dict)}
    return _address(model) | _headers(model) | _put_in(model) | lists


def _put_in(model: BaseChatModel) -> dict[str, object]:
    """Return where clients lead that somebody put in the place of those that langchain-openai had made."""
    found: dict[str, object] = {}
    for name, made_as in _CLIENTS.items():
        used, made = getattr(model.__dict__.get(name), "_client", None), model.__dict__.get(made_as)
        if used is not None and made is not None and (way := _way(used)) != _way(made):
            found[name] = way
    return found


def _way(client: object) -> list[str]:
    """Return where ``client`` sends to, and as whom."""
    return [str(getattr(client, "base_url", "")), *routing(getattr(client, "default_headers", None))]


def _headers(model: BaseChatModel | BaseLLM) -> dict[str, object]:
    """Return which headers the client sends that the settings do not say: those of the environment."""
    if not hasattr(model, "default_headers"):
        return {}
    sdk: Sdk = "anthropic" if hasattr(model, "anthropic_api_url") else "openai"
    client, given = _client(model) or model.__dict__.get("_client"), routing(model.default_headers)
    told = [header for header in routing(sent_by(client, model.default_headers, sdk)) if header not in given]
    return {"headers": told} if told else {}


def _address(model: BaseChatModel | BaseLLM) -> dict[str, object]:
    """Return where the client sends to, unless the settings say so."""
    if getattr(model, "azure_endpoint", None):
        return {}
    address = str(_url(model) or _DEFAULT_ADDRESS)
    expected = getattr(model, "openai_api_base", None) or _DEFAULT_ADDRESS
    return {} if address.rstrip("/") == str(expected).rstrip("/") else {"base_url": address}


def _url(model: BaseChatModel | BaseLLM) -> object:
    return getattr(_client(model), "base_url", None)


def _client(model: BaseChatModel | BaseLLM) -> object:
    """Return the SDK's client, ``None`` where there is none, or not yet."""
    fields = model.__dict__
    return fields.get("root_client") or getattr(fields.get("client"), "_client", None)


def _printable(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``arguments`` with each class as its name and JSON schema: what goes to the provider of it."""
    schemas = {name: schema_of(value) for name, value in arguments.items() if isinstance(value, type)}
    return {**arguments, **{name: schema for name, schema in schemas.items() if schema}}
