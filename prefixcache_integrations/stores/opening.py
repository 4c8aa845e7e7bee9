"""Stores by URL, each with the wrappers that its kind needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import Observer
from prefixcache_integrations.stores import memory, sqlite
from prefixcache_integrations.stores.memory import MemoryStore
from prefixcache_integrations.stores.sqlite import SQLiteStore
from prefixcache_integrations.stores.store import Store


class _Setting(NamedTuple):
    """What an option may be, in words and as a test, and how it is read."""

    words: str
    holds: Callable[[str], bool]
    read: Callable[[str], object]


def _is_positive(value: str) -> bool:
    whole, _, fraction = value.partition(".")
    return (whole + fraction).isdecimal() and value.isascii() and float(value) > 0


_COUNT = _Setting("a whole number above 0", lambda value: value.isdecimal() and int(value) > 0, int)
_BYTES = _Setting("a whole number above 0", lambda value: value.isdecimal() and int(value) > 0, int)
_SECONDS = _Setting("a number of seconds above 0", _is_positive, float)
_SWITCH = _Setting("true or false", lambda value: value in ("true", "false"), "true".__eq__)
_TEXT = _Setting("text", bool, str)

_ALL = {"read_only": _SWITCH}
_TLS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_OWN = {"max_bytes": _BYTES} | _ALL
_SERVED = {"timeout": _SECONDS, "memory_ttl": _SECONDS, "memory_bytes": _BYTES} | _ALL
_SENTINEL = dict.fromkeys(("sentinel_username", "sentinel_password"), _TEXT)
_LIBPQ = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "options", "application_name", "passfile",
    "service", "target_session_attrs", "host", "port", "user", "dbname",
)  # fmt: skip
_POSTGRES = _SERVED | _OWN | {"connections": _COUNT} | dict.fromkeys(_LIBPQ, _TEXT)


class _Address(NamedTuple):
    """A URL in parts, its options read, and what was given beside it."""

    parts: SplitResult
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
        ConfigurationError: The URL means nothing, or an extra is missing.
    """
    parts = urlsplit(url)
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        known = ", ".join(f"{scheme}://" for scheme in _KINDS)
        raise ConfigurationError(f"no store for {parts.scheme or url!r}: known are {known}")
    opener, settings = kind
    address = _Address(parts, _options(parts, settings), secrets, observers)
    store = opener(address)
    if address.options.get("read_only"):
        from prefixcache_integrations.stores.readonly import ReadOnly

        store = ReadOnly(store)
    return store


def _options(parts: SplitResult, settings: Mapping[str, _Setting]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in settings:
            raise ConfigurationError(f"{parts.scheme}:// has no option {name!r}, only {', '.join(settings)}")
        words, holds, read = settings[name]
        if not holds(value):
            raise ConfigurationError(f"{name} must be {words}, not {value!r}")
        options[name] = read(value)
    return options


def _open_memory(address: _Address) -> Store:
    if address.parts.netloc or address.parts.path:
        raise ConfigurationError("memory:// takes no host and no path")
    return _sealed(MemoryStore(max_bytes=address.options.get("max_bytes", memory.DEFAULT_MAX_BYTES)), address)


def _open_sqlite(address: _Address) -> Store:
    path = unquote(address.parts.path.removeprefix("/"))
    if address.parts.netloc or not path:
        raise ConfigurationError("sqlite:// takes a path: sqlite:///relative.db or sqlite:////absolute.db")
    if path.endswith(":memory:"):
        raise ConfigurationError("sqlite:// keeps a file; for a store in memory use memory://")
    return _compressed(SQLiteStore(path, max_bytes=address.options.get("max_bytes", sqlite.DEFAULT_MAX_BYTES)), address)


def _open_redis(address: _Address) -> Store:
    from prefixcache_integrations.stores.redis import DEFAULT_TIMEOUT, RedisStore

    server = RedisStore(_theirs(address), timeout=address.options.get("timeout", DEFAULT_TIMEOUT))
    return _left_alone(server, address)


def _open_postgres(address: _Address) -> Store:
    from prefixcache_integrations.stores.postgres import PostgresStore

    own = {name: address.options[name] for name in ("timeout", "connections", "max_bytes") if name in address.options}
    return _left_alone(PostgresStore(_theirs(address), **own), address)


def _theirs(address: _Address) -> str:
    """Return the URL without the options that are ours."""
    ours = _SERVED | _OWN | {"connections": _COUNT}
    theirs = {name: value for name, value in address.options.items() if name not in ours}
    return address.parts._replace(query=urlencode(theirs)).geturl()


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


_KINDS: Mapping[str, tuple[Callable[[_Address], Store], Mapping[str, _Setting]]] = {
    "memory": (_open_memory, _OWN),
    "sqlite": (_open_sqlite, _OWN),
    "redis": (_open_redis, _SERVED | {"db": _TEXT}),
    "rediss": (_open_redis, _SERVED | dict.fromkeys(("db", *_TLS), _TEXT)),
    "redis+sentinel": (_open_redis, _SERVED | _SENTINEL),
    "rediss+sentinel": (_open_redis, _SERVED | _SENTINEL | dict.fromkeys(_TLS, _TEXT)),
    "redis+cluster": (_open_redis, _SERVED),
    "rediss+cluster": (_open_redis, _SERVED | dict.fromkeys(_TLS, _TEXT)),
    "unix": (_open_redis, _SERVED | {"db": _TEXT}),
    "postgresql": (_open_postgres, _POSTGRES),
    "postgres": (_open_postgres, _POSTGRES),
}
