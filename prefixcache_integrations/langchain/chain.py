"""`with_prompt_layout`: chains whose every request is laid out so that the provider's prompt cache finds it again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, TypeVar, cast

from langchain.chat_models.base import _ConfigurableModel
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from prefixcache_integrations.canonical import Level, Tokenizer
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import Observer, PassedThrough, tell
from prefixcache_integrations.langchain.composed import AnyRunnable, parts, rebuilt, returning
from prefixcache_integrations.langchain.model_view import ModelLayout
from prefixcache_integrations.langchain.prompt_view import reading
from prefixcache_integrations.memories import MemoryChoice
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules

RunnableT = TypeVar("RunnableT", bound=Runnable[Any, Any])


def with_prompt_layout(
    chain: RunnableT,
    *,
    level: Level = "canonical",
    observers: Sequence[Observer] = (),
    tokenizer: Tokenizer | None = None,
    memory: MemoryChoice = "own",
    documents: DocumentRules = ANY_ORDER,
) -> RunnableT:
    """Return a copy of ``chain`` whose models send requests laid out for the provider's prompt cache.

    A chain is whatever LangChain makes of ``|``, dicts, bindings, retries, fallbacks, branches, histories and functions
    that return chains, or a model alone. The copy takes and returns what ``chain`` does, with the same names in traces;
    ``chain``, its templates and its models go on as they are. What cannot be looked into, such as a function that calls
    a model, stays as it is.

    Args:
        chain: The chain; wrap it before it is given to a function or to an object that only calls it.
        level: How far it may go; see `Level`. At ``arrange`` it goes by the chat templates of the chain: what a call
            fills in to instructions is stated at the end, what was retrieved before the question. Partials stay, but
            for functions; messages and history are sent as they are.
        observers: Told `PromptPlanned` or `PassedThrough` for each request, `PrefixBroken` for one that loses what the
            one before it in its conversation left, and `PassedThrough` once for each part of the chain that cannot be
            laid out: right away, or when a function has returned no chain.
        tokenizer: What counts tokens; by default the best at hand.
        memory: What was sent before, from which it learns where markers pay and, at ``arrange``, where documents go: by
            default one of its own, ``None`` for none, a URL for one that outlives the process and that others share
            (`open_memory`). Several layouts of an application may share one; tenants, told apart by
            ``caching(namespace=...)``, are kept apart in it.
        documents: What may be done at ``arrange`` with documents that are blocks of their own.

    Raises `ConfigurationError` for what is no Runnable, and for settings that cannot be meant.
    """
    if not isinstance(chain, Runnable):
        raise ConfigurationError(f"a prompt layout is put on a chain, not on a {type(chain).__name__}")
    layout = ModelLayout(level=level, observers=observers, tokenizer=tokenizer, memory=memory, documents=documents)

    def passed(reason: str) -> None:
        tell(observers, PassedThrough(reason=reason))

    def laid_out(runnable: AnyRunnable) -> AnyRunnable:
        if _is_model(runnable):
            return layout.laid_out(runnable)
        if isinstance(runnable, BasePromptTemplate):
            return reading(runnable, passed) if level == "arrange" else runnable
        if isinstance(runnable, RunnableLambda) and _asks_a_model(runnable):
            unseen = "a function that holds a model, and may call it by itself, cannot be looked into"
            return returning(runnable, laid_out, cache(partial(passed, unseen)))
        return rebuilt(runnable, laid_out)

    if not _asks_a_model(chain):
        passed(f"no chat model is found in a {type(chain).__name__}")
    return cast("RunnableT", laid_out(chain))


def _asks_a_model(runnable: AnyRunnable, *around: AnyRunnable) -> bool:
    """Tell whether ``runnable`` is or holds a model; functions may hold what is ``around`` them."""
    around = (*around, runnable)
    return _is_model(runnable) or any(
        _asks_a_model(part, *around) for part in parts(runnable) if all(part is not each for each in around)
    )


def _is_model(runnable: AnyRunnable) -> bool:
    return isinstance(runnable, BaseChatModel | _ConfigurableModel)
