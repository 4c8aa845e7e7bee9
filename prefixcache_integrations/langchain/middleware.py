"""`PromptLayoutMiddleware`: lays out every request of an agent so that the provider's prompt cache finds it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from typing_extensions import override

from prefixcache_integrations.canonical import Level, Tokenizer
from prefixcache_integrations.events import Observer
from prefixcache_integrations.langchain.model_view import ModelLayout
from prefixcache_integrations.memories import MemoryChoice
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules


class PromptLayoutMiddleware(AgentMiddleware[Any, Any, Any]):
    """Lays out the requests of an agent from `create_agent` for the provider's prompt cache.

    Its place in the list of middleware does not matter: it works on the body that LangChain has built for the
    provider, and on that of each model another middleware puts in its place. Messages, tools and state are never
    touched, and markers of the application or of other middleware are kept and counted.

    Args:
        level: How far it may go; see `Level`.
        observers: Told `PromptPlanned` or `PassedThrough` for each request, `PrefixBroken` for one that loses what it
            could have read, and once per class that a model is of a class whose requests cannot be laid out. With an
            observer, plans also say what was changed since the request before, by whichever middleware, and its price.
        tokenizer: What counts tokens; by default the best at hand.
        memory: What was sent before, from which it learns where markers pay and, at ``arrange``, where documents go: by
            default one of its own, ``None`` for none, a URL for one that outlives the process and that others share
            (`open_memory`). Several layouts of an application may share one; tenants, told apart by
            ``caching(namespace=...)``, are kept apart in it.
        documents: What may be done at ``arrange`` with documents that are blocks of their own.
    """

    def __init__(
        self,
        level: Level = "canonical",
        *,
        observers: Sequence[Observer] = (),
        tokenizer: Tokenizer | None = None,
        memory: MemoryChoice = "own",
        documents: DocumentRules = ANY_ORDER,
    ) -> None:
        super().__init__()
        self._layout = ModelLayout(
            level=level, observers=observers, tokenizer=tokenizer, memory=memory, documents=documents
        )

    @override
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        return handler(_LaidOutRequest.of(request, self._layout))

    @override
    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        return await handler(_LaidOutRequest.of(request, self._layout))


@dataclass(init=False)
class _LaidOutRequest(ModelRequest[Any]):
    """A request whose model is a view, also after another middleware has overridden it with a plain one."""

    layout: ModelLayout = field(kw_only=True)

    def __init__(self, *, layout: ModelLayout, model: BaseChatModel, **others: Any) -> None:  # noqa: ANN401 - theirs
        super().__init__(model=layout.laid_out(model), **others)
        # ModelRequest warns of every assignment: its own way in is `override`.
        object.__setattr__(self, "layout", layout)

    @classmethod
    def of(cls, request: ModelRequest[Any], layout: ModelLayout) -> _LaidOutRequest:
        """Return ``request`` as one of these."""
        given = {each.name: getattr(request, each.name) for each in fields(request)}
        return cls(**{**given, "layout": layout})
