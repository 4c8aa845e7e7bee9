"""A chat model with a response cache of its own, for what LangChain asks no cache: streams, and long prompts.

LangChain's own way to a cache writes every message down twice before it asks, and does not ask at all for
``model.stream()``. The view of a model that `with_response_cache` returns asks by itself, with a key made of the
messages as they are. Both ways make the same keys, and share their answers.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.langchain.cache import ResponseCache
from prefixcache_integrations.langchain.cached_calls import Asks, Door, Streams, StreamsAwaited

RunnableT = TypeVar("RunnableT", bound=Runnable[Any, Any])

_Views = dict[type[BaseChatModel], type[BaseChatModel]]
_doors: WeakKeyDictionary[PrefixCache, tuple[Door, _Views]] = WeakKeyDictionary()


def with_response_cache(model: RunnableT, cache: ResponseCache | PrefixCache | str) -> RunnableT:
    """Return a view of ``model`` whose every call is answered from ``cache``, if it can be: also streams and events.

    The view is of a subclass of the model's class, with its settings as they are now; ``model`` itself goes on as it
    is. Tools and structured output are bound to the view, not the other way round; what binds arguments to a model
    already is bound to the view again. A stream is kept when it has come to its end, and a hit is streamed in pieces.

    Identical calls at the same time are made once. An error is told to its own caller, and the others call for
    themselves; so does one of those who wait for a stream that nobody has read on for ten seconds (in another process:
    for the cache's patience).

    Args:
        model: A chat model, or one with arguments bound.
        cache: Where answers are kept, by URL (`open_store`) or as the cache that others use too.

    Raises `ConfigurationError` for anything else.
    """
    if isinstance(model, RunnableBindingBase):
        bound = with_response_cache(model.bound, cache)
        return cast("RunnableT", model.model_copy(update={"bound": bound}))
    if not isinstance(model, BaseChatModel):
        raise ConfigurationError(f"a response cache is put on a chat model, not on a {type(model).__name__}")
    if isinstance(cache, ResponseCache):
        cache = cache.front
    return cast("RunnableT", _view(model, cache if isinstance(cache, PrefixCache) else PrefixCache.from_url(cache)))


def _view(model: BaseChatModel, cache: PrefixCache) -> BaseChatModel:
    door, views = _doors.get(cache) or _doors.setdefault(cache, (Door(cache), {}))
    base = type(model)
    if getattr(base, "__prefixcache_door__", None) is door:
        return model
    kind = views.get(base) or views.setdefault(base, _view_class(base, door))
    view = kind.__new__(kind)
    fields = {name: value for name, value in model.__dict__.items() if name != "_serialized"}
    object.__setattr__(view, "__dict__", {**fields, "cache": False})  # or LangChain asks a cache besides
    object.__setattr__(view, "__pydantic_fields_set__", {*model.model_fields_set})
    for name in ("__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(view, name, getattr(model, name))
    return view


def _view_class(base: type[BaseChatModel], door: Door) -> type[BaseChatModel]:
    """Return a subclass that goes by its parent's name: LangChain's cache keys and traces are made of it."""
    parents: list[type] = [Asks]
    if base._stream is not BaseChatModel._stream:  # noqa: SLF001 - how LangChain tells whether a model streams
        parents.append(Streams)
    if base._astream is not BaseChatModel._astream:  # noqa: SLF001 - the same
        parents.append(StreamsAwaited)
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    view: type[BaseChatModel] = metaclass(base.__name__, (*parents, base), {**names, "__prefixcache_door__": door})
    if hasattr(base, "_stream_chat_model_events"):
        type.__setattr__(view, "_stream_chat_model_events", None)  # events are made of chunks then, which the view has
    return view
