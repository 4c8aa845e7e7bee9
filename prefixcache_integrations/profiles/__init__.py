"""Floor 1: the facts. One frozen row per model family; nothing here decides anything."""

from prefixcache_integrations.profiles.names import resolve, rows
from prefixcache_integrations.profiles.profile import (
    CacheProfile,
    Lifetime,
    Price,
    Provider,
    Regime,
    Scope,
    Tier,
    ToolChange,
    WholeRequestTier,
)

__all__ = [
    "CacheProfile",
    "Lifetime",
    "Price",
    "Provider",
    "Regime",
    "Scope",
    "Tier",
    "ToolChange",
    "WholeRequestTier",
    "resolve",
    "rows",
]
