"""Floor 7: LlamaIndex. Each name is loaded when it is asked for, and names the extra it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from prefixcache_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from prefixcache_integrations.llama_index.events import PrefixCacheEvent
    from prefixcache_integrations.llama_index.handler import CachedTokensEventHandler
    from prefixcache_integrations.llama_index.llm import disable, enable
    from prefixcache_integrations.llama_index.postprocessor import StableOrderPostprocessor, StablePromptHelper

__all__ = [
    "CachedTokensEventHandler",
    "PrefixCacheEvent",
    "StableOrderPostprocessor",
    "StablePromptHelper",
    "disable",
    "enable",
]

_MODULES = {
    "CachedTokensEventHandler": "handler",
    "PrefixCacheEvent": "events",
    "StableOrderPostprocessor": "postprocessor",
    "StablePromptHelper": "postprocessor",
    "disable": "llm",
    "enable": "llm",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("llama_index"):
            raise
        raise ConfigurationError(
            f"{name} needs {error.name}: pip install 'prefixcache-integrations[llama-index]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
