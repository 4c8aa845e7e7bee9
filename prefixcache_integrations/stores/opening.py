"""Stores by URL, each with the wrappers that its kind needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import Observer
from prefixcache_integrations.stores import memory, sqlite, urls
from prefixcache_integrations.stores.memory import MemoryStore
from prefixcache_integrations.stores.sqlite import SQLiteStore
from prefixcache_integrations.stores.store import Store


class _Address(NamedTuple):
    """A URL, its path and options read, and what was given beside it."""

    url: str
    path: str
    options: Mapping[str, Any]
    secrets: Sequence[bytes]
    observers: Sequence[Observer]


def open_store(url: str, *, secrets: Sequence[bytes] = (), observers: Sequence[Observer] = ()) -> Store:
    """Open the store that ``url`` names.

    - ``memory://``, with the option ``max_bytes``: ``memory://?max_bytes=1000000``.
    - ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``, with ``max_bytes``.
    - ``redis://user:password@host:6379/0``, ``rediss://`` for TLS (with redis-py's ``ssl_…`` options), or
      ``unix:///path/to/socket?db=0``; ``redis+sentinel://host:26379,host:26379/service/0`` and
      ``redis+cluster://host:6379,host:6379``, with the user and password of the data servers.
    - ``postgresql://user:password@host:5432/database``, with libpq's options (``sslmode=verify-full``),
      ``max_bytes``, and ``connections`` for all threads together.

    Servers with ``timeout`` (seconds per exchange) and, for a store in memory in front of them, ``memory_ttl``
    (seconds) and ``memory_bytes``. While one fails it is left alone but for a probe per second. Each store with
    ``read_only=true``. Outside this process's memory, long values are compressed where zstandard is installed.

    Args:
        url: As above.
        secrets: Seal keys and values with these (`Sealed`); the first seals, all open.
        observers: Told when a server is left alone, and when it is back.

    Raises:
        ConfigurationError: The URL means nothing, or an extra is missing. It quotes no part of the URL but its scheme.
    """
    opener = _OPENERS[urls.scheme(url)]
    parts, options = urls.read(url)
    address = _Address(url, parts.path, options, secrets, observers)
    store = opener(address)
    if address.options.get("read_only"):
        from prefixcache_integrations.stores.readonly import ReadOnly

        store = ReadOnly(store)
    return store


def _open_memory(address: _Address) -> Store:
    return _sealed(MemoryStore(max_bytes=address.options.get("max_bytes", memory.DEFAULT_MAX_BYTES)), address)


def _open_sqlite(address: _Address) -> Store:
    path = unquote(address.path.removeprefix("/"))
    if path.endswith(":memory:"):
        raise ConfigurationError("sqlite:// keeps a file; for a store in memory use memory://")
    return _compressed(SQLiteStore(path, max_bytes=address.options.get("max_bytes", sqlite.DEFAULT_MAX_BYTES)), address)


def _open_redis(address: _Address) -> Store:
    from prefixcache_integrations.stores.redis import DEFAULT_TIMEOUT, RedisStore

    server = RedisStore(urls.server_url(address.url), timeout=address.options.get("timeout", DEFAULT_TIMEOUT))
    return _left_alone(server, address)


def _open_postgres(address: _Address) -> Store:
    from prefixcache_integrations.stores.postgres import PostgresStore

    own = {name: address.options[name] for name in ("timeout", "connections", "max_bytes") if name in address.options}
    return _left_alone(PostgresStore(urls.server_url(address.url), **own), address)


def _left_alone(server: Store, address: _Address) -> Store:
    """Leave ``server`` alone while it fails, behind a store in memory if that is wanted."""
    from prefixcache_integrations.stores.failsafe import FailSafe
    from prefixcache_integrations.stores.tiered import DEFAULT_NEAR_TTL, Tiered

    options = address.options
    store = _compressed(FailSafe(server, observers=address.observers), address)
    if "memory_ttl" not in options and "memory_bytes" not in options:
        return store
    near = MemoryStore(max_bytes=options.get("memory_bytes", memory.DEFAULT_MAX_BYTES))
    return Tiered(near, store, near_ttl=options.get("memory_ttl", DEFAULT_NEAR_TTL))


def _sealed(store: Store, address: _Address) -> Store:
    if not address.secrets:
        return store
    from prefixcache_integrations.stores.sealed import Sealed

    return Sealed(store, address.secrets)


def _compressed(store: Store, address: _Address) -> Store:
    """Compress first, then seal: sealed values look random."""
    from prefixcache_integrations.stores.compressed import Compressed

    return Compressed(_sealed(store, address))


_OPENERS: Mapping[str, Callable[[_Address], Store]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    **dict.fromkeys(("redis", "redis+sentinel", "redis+cluster"), _open_redis),
    **dict.fromkeys(("rediss", "rediss+sentinel", "rediss+cluster", "unix"), _open_redis),
    **dict.fromkeys(("postgresql", "postgres"), _open_postgres),
}
