"""Floor 7: LlamaIndex. Each name is loaded when it is asked for, and names the extra it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefixcache_integrations.lazy import loader

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

__getattr__ = loader(__name__, _MODULES, needs="llama_index", extra="llama-index")


def __dir__() -> list[str]:
    return __all__
