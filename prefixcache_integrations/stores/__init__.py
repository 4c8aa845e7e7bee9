"""Floor 5: where answers are kept. One contract, one module per kind of store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.stores import memory, sqlite
from prefixcache_integrations.stores.memory import MemoryStore
from prefixcache_integrations.stores.sqlite import SQLiteStore
from prefixcache_integrations.stores.store import Store

__all__ = ["MemoryStore", "SQLiteStore", "Store", "open_store"]


def open_store(url: str) -> Store:
    """Open the store that ``url`` names.

    ``memory://``, ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``; the bound in bytes is
    an option of both: ``memory://?max_bytes=1000000``.
    Raises `ConfigurationError` for anything else.
    """
    parts = urlsplit(url)
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        known = ", ".join(f"{scheme}://" for scheme in _OPENERS)
        raise ConfigurationError(f"no store for {parts.scheme or url!r}: known are {known}")
    return opener(parts, _max_bytes(parts))


def _max_bytes(parts: SplitResult) -> int | None:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    value = options.pop("max_bytes", None)
    if options:
        raise ConfigurationError(f"{parts.scheme}:// has no option {next(iter(options))!r}, only max_bytes")
    if value is not None and (not value.isdecimal() or int(value) == 0):
        raise ConfigurationError(f"max_bytes must be a whole number above 0, not {value!r}")
    return None if value is None else int(value)


def _open_memory(parts: SplitResult, max_bytes: int | None) -> Store:
    if parts.netloc or parts.path:
        raise ConfigurationError("memory:// takes no host and no path")
    return MemoryStore(max_bytes=max_bytes or memory.DEFAULT_MAX_BYTES)


def _open_sqlite(parts: SplitResult, max_bytes: int | None) -> Store:
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path:
        raise ConfigurationError("sqlite:// takes a path: sqlite:///relative.db or sqlite:////absolute.db")
    return SQLiteStore(path, max_bytes=max_bytes or sqlite.DEFAULT_MAX_BYTES)


_OPENERS: Mapping[str, Callable[[SplitResult, int | None], Store]] = {"memory": _open_memory, "sqlite": _open_sqlite}
