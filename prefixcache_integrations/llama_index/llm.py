"""`enable`: makes an LLM, where it is, answer repeated calls from a store and lay out its requests.

The object changes over to a subclass of its class. It stays the same object, so that every engine and agent that
already holds it benefits, and keeps its class's name, callbacks, private state and all other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from llama_index.core import Settings
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import CacheSettings
from prefixcache_integrations.canonical import Level, Tokenizer
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import Observer, PassedThrough, checked_observers, tell
from prefixcache_integrations.llama_index.events import dispatch
from prefixcache_integrations.llama_index.view import CLIENTS, View
from prefixcache_integrations.llama_index.views import view_class
from prefixcache_integrations.memories import MemoryChoice
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules
from prefixcache_integrations.prompt.keys import KeyPolicy
from prefixcache_integrations.sdk_hooks import ClientLayout
from prefixcache_integrations.stores import Store

LLMT = TypeVar("LLMT", bound=LLM)


def enable(
    llm: LLMT | None = None,
    *,
    cache: str | Store | PrefixCache | None = None,
    layout: Level | None = "canonical",
    namespace: str = "",
    ttl: float | None = None,
    exact: bool = False,
    observers: Sequence[Observer] = (),
    tokenizer: Tokenizer | None = None,
    memory: MemoryChoice = "own",
    documents: DocumentRules = ANY_ORDER,
) -> LLMT:
    """Let ``llm`` answer repeated calls from ``cache`` and lay out its requests; return the same object.

    All ways to call it are covered: complete, chat, streams, tools, structured outputs, blocking and awaiting. A hit
    is a fresh response without the provider's usage, and no LLM event; ``raw["prefixcache"]`` tells it. A stream is
    kept once it was consumed to its end, and is replayed in pieces. Refusals, cut or empty answers and invalid tool
    calls are not kept. Of callers who ask the same at the same time one calls, and the others get its answer; `caching`
    overrides the settings for a while. A store that fails costs a miss, an event and a line in the log. A copy of the
    LLM is enabled too, one that was pickled is not. Enabling it again replaces the settings.

    Args:
        llm: The LLM; ``Settings.llm`` if not given.
        cache: Where answers are kept: a store, or a URL for `open_store`. Or a cache that others use, too, and that
            can be sealed, counted and emptied: then it has namespace, ttl and exact of its own, and only its own
            observers are told what comes of calls. ``None``: no response cache.
        layout: How far the layout may go, ``None`` for none. Needs a client of the OpenAI or Anthropic SDK inside.
            ``arrange`` also moves what engines put before the part of their prompts that does not change. Where the
            app says nothing about it, OpenAI is asked for the usage of streams.
        namespace: The tenant boundary of the cache; nothing crosses it.
        ttl: Seconds an answer is kept, for good if ``None``.
        exact: Let white space around system and user text count.
        observers: Told every fact, beside LlamaIndex's dispatcher, which is told it as a `PrefixCacheEvent`.
        tokenizer: What counts tokens for the layout; by default the best at hand.
        memory: What was sent before, from which the layout learns where markers pay: by default one of its own,
            ``None`` for none, a URL for one that outlives the process (`open_memory`).
        documents: What may be done at ``arrange`` with documents that are blocks of their own.

    Raises:
        ConfigurationError: A setting cannot be meant, ``llm`` is none, or objects of its class cannot change their
            class. The LLM stays as it was.
    """
    chosen = Settings.llm if llm is None else llm
    if not isinstance(chosen, LLM):
        raise ConfigurationError(f"a {type(chosen).__name__} is no LLM of LlamaIndex")
    if isinstance(chosen, StructuredLLM):  # its answers are objects of the app's, made of those of the LLM inside
        raise ConfigurationError("a StructuredLLM calls another LLM: enable the one inside, its `llm`")
    told = (*checked_observers(observers), dispatch)
    settings = CacheSettings(ttl=ttl, policy=KeyPolicy(exact=exact), namespace=None if namespace == "" else namespace)
    view = View(
        base=_plain_class(chosen),
        cache=None if cache is None else _response_cache(cache, settings, told),
        layout=None if layout is None else _client_layout(layout, told, tokenizer, memory, documents),
        arranges=layout == "arrange",
    )
    _change_over(chosen, view, told)
    return cast("LLMT", chosen)  # without an argument the caller's type is whatever Settings holds


def disable(llm: LLM) -> None:
    """Undo what `enable` did to ``llm``; nothing happens to one that is not enabled."""
    view = _view_of(llm)
    if view is None:
        return
    for name in CLIENTS:
        original = view.originals.get(id(getattr(llm, name, None)))
        if original is not None:
            setattr(llm, name, original)
    llm.__class__ = view.base


def _view_of(llm: LLM) -> View | None:
    view = getattr(type(llm), "__prefixcache__", None)
    return view if isinstance(view, View) else None


def _plain_class(llm: LLM) -> type[LLM]:
    """Return the class that ``llm`` has, or had before it was enabled."""
    view = _view_of(llm)
    return type(llm) if view is None else view.base


def _change_over(llm: LLM, view: View, observers: Sequence[Observer]) -> None:
    """Make ``llm`` an object of the subclass for ``view``, or raise and leave it as it is; tell what it cannot do."""
    name = view.base.__name__
    try:
        made = view_class(view)
        disable(llm)
        llm.__class__ = made
    except TypeError as error:
        raise ConfigurationError(f"{name} objects cannot change their class") from error
    if view.cache is not None and _has_other_ways(view.base):
        tell(observers, PassedThrough(reason=f"{name} calls tools in a way of its own, which is not cached"))
    if view.layout is not None and not view.lay_out_clients(llm):
        tell(observers, PassedThrough(reason=f"{name} has no client whose requests can be laid out"))


def _response_cache(
    store: str | Store | PrefixCache, settings: CacheSettings, observers: Sequence[Observer]
) -> PrefixCache:
    if isinstance(store, PrefixCache):
        store.check_own(settings)
        return store
    if isinstance(store, str):
        return PrefixCache.from_url(store, settings, observers=observers)
    return PrefixCache(store, settings, observers=observers)


def _client_layout(
    layout: Level,
    observers: Sequence[Observer],
    tokenizer: Tokenizer | None,
    memory: MemoryChoice,
    documents: DocumentRules,
) -> ClientLayout:
    return ClientLayout(
        level=layout,
        observers=observers,
        tokenizer=tokenizer,
        stream_usage=True,
        memory=memory,
        documents=documents,
    )


def _has_other_ways(kind: type[LLM]) -> bool:
    """Tell whether LLMs of ``kind`` call tools without their chat methods, as a few integrations do."""
    names = ("chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools")
    if not issubclass(kind, FunctionCallingLLM):
        return False
    return any(getattr(kind, name) is not getattr(FunctionCallingLLM, name) for name in names)
