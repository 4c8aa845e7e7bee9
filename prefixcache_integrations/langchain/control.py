"""How the model calls of an agent use the response cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from msgspec import UNSET, UnsetType
from typing_extensions import override

from prefixcache_integrations.caching import Mode, caching
from prefixcache_integrations.prompt.keys import KeyPolicy


class CachingMiddleware(AgentMiddleware[Any, Any, Any]):
    """Puts every model call of an agent from `create_agent` into a `caching` block; blocks around the agent win.

    Args:
        ttl: Seconds an answer is kept, ``None`` for good.
        mode: See `Mode`.
        policy: What may differ between two requests that share an answer.
        temperature_tolerance: Rounds temperature and top_p, and leaves order of tools and parallel calls out.
        tags: Names by which what is stored can be invalidated.
        namespace: The tenant boundary; with ``None`` that of the cache stays.

    Raises `ConfigurationError` for what cannot be meant.
    """

    def __init__(
        self,
        *,
        ttl: float | UnsetType | None = UNSET,
        mode: Mode | UnsetType = UNSET,
        policy: KeyPolicy | UnsetType = UNSET,
        temperature_tolerance: float | UnsetType = UNSET,
        tags: Iterable[str] = (),
        namespace: str | UnsetType | None = UNSET,
    ) -> None:
        super().__init__()
        self._block = caching(
            ttl=ttl,
            mode=mode,
            policy=policy,
            temperature_tolerance=temperature_tolerance,
            tags=tags,
            namespace=namespace,
            yields=True,
        )

    @override
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        with self._block:
            return handler(request)

    @override
    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        async with self._block:
            return await handler(request)
