"""Floor 7: LangChain. Each name is loaded when it is asked for, and names the extra it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefixcache_integrations.lazy import loader

if TYPE_CHECKING:
    from prefixcache_integrations.langchain.cache import ResponseCache
    from prefixcache_integrations.langchain.callbacks import CachedTokensHandler
    from prefixcache_integrations.langchain.chain import with_prompt_layout
    from prefixcache_integrations.langchain.control import CachingMiddleware
    from prefixcache_integrations.langchain.documents import document_blocks
    from prefixcache_integrations.langchain.middleware import PromptLayoutMiddleware
    from prefixcache_integrations.langchain.response_model import with_response_cache
    from prefixcache_integrations.langchain.tool_results import ToolResultCache

__all__ = [
    "CachedTokensHandler",
    "CachingMiddleware",
    "PromptLayoutMiddleware",
    "ResponseCache",
    "ToolResultCache",
    "document_blocks",
    "with_prompt_layout",
    "with_response_cache",
]

_MODULES = {
    "CachedTokensHandler": "callbacks",
    "CachingMiddleware": "control",
    "PromptLayoutMiddleware": "middleware",
    "ResponseCache": "cache",
    "ToolResultCache": "tool_results",
    "document_blocks": "documents",
    "with_prompt_layout": "chain",
    "with_response_cache": "response_model",
}

__getattr__ = loader(__name__, _MODULES, needs="langchain", extra="langchain")


def __dir__() -> list[str]:
    return __all__
