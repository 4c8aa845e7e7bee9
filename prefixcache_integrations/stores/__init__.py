"""Floor 5: where answers are kept. One contract, one module per kind of store."""

from __future__ import annotations

from prefixcache_integrations.stores.memory import MemoryStore
from prefixcache_integrations.stores.opening import open_store
from prefixcache_integrations.stores.sqlite import SQLiteStore
from prefixcache_integrations.stores.store import AsyncStore, Store

__all__ = ["AsyncStore", "MemoryStore", "SQLiteStore", "Store", "open_store"]
