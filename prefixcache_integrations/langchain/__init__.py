"""Floor 7: LangChain. Each name is loaded when it is asked for, and names the extra it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from prefixcache_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from prefixcache_integrations.langchain.cache import ResponseCache
    from prefixcache_integrations.langchain.callbacks import CachedTokensHandler
    from prefixcache_integrations.langchain.control import CachingMiddleware
    from prefixcache_integrations.langchain.middleware import PromptLayoutMiddleware
    from prefixcache_integrations.langchain.response_model import with_response_cache
    from prefixcache_integrations.langchain.tool_results import ToolResultCache

__all__ = [
    "CachedTokensHandler",
    "CachingMiddleware",
    "PromptLayoutMiddleware",
    "ResponseCache",
    "ToolResultCache",
    "with_response_cache",
]

_MODULES = {
    "CachedTokensHandler": "callbacks",
    "CachingMiddleware": "control",
    "PromptLayoutMiddleware": "middleware",
    "ResponseCache": "cache",
    "ToolResultCache": "tool_results",
    "with_response_cache": "response_model",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("langchain"):
            raise
        raise ConfigurationError(
            f"{name} needs {error.name}: pip install 'prefixcache-integrations[langchain]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
