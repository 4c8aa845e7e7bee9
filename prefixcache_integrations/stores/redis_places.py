"""Where Redis is, by URL: one server, the master that sentinels name, or a cluster; and clients for each.

``redis+sentinel://host:port,host:port/service/db`` and ``redis+cluster://host:port,host:port``, ``rediss+…`` for TLS.
User and password are those of the data servers; sentinels have theirs as ``sentinel_username`` and
``sentinel_password``. Every other option is redis-py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.stores.urls import taken_apart

try:
    import redis
    import redis.asyncio
    import redis.asyncio.cluster
    import redis.asyncio.sentinel
    import redis.cluster
    import redis.sentinel
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as missing:
    raise ConfigurationError("a Redis store needs redis: pip install 'prefixcache-integrations[redis]'") from missing

_untyped: Any = redis  # much of redis-py has no types
FAILURES = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
"""What redis-py raises where a server, or all of a cluster, fails."""
ResponseError = redis.ResponseError
"""What it raises where a server answers, and that it will not."""

SENTINEL_PORT, REDIS_PORT = 26379, 6379
_MANY = 2**31 - 1
_SETTINGS: dict[str, Any] = {"protocol": 2, "max_connections": _MANY, "decode_responses": False}
# Where the time is kept per batch, redis-py's own limits would only add a timer to every read.
_UNTIMED: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": None}


class Place(NamedTuple):
    """How to make clients: the one that is asked first, then those it asks by itself.

    ``per_thread`` where each thread has its own; elsewhere all share the connections of one. A blocking client opens a
    connection that was closed meanwhile anew, once and at once; what takes longer than ``timeout`` seconds is not
    tried again. An awaiting one tries nothing twice and leaves the time to its caller, but in a cluster either asks for
    the slots anew, and once more, when a server is gone. Until a replica has taken over, the blocking one goes on with
    the other servers; redis-py's awaiting one may find none.
    """

    blocking: Callable[[float], Sequence[Any]]
    awaiting: Callable[[], Sequence[Any]]
    per_thread: bool


def place(url: str) -> Place:
    """Return the place that ``url`` names; connects to nothing. Raises `ConfigurationError`."""
    parts = taken_apart(url)
    with suppress(ValueError):  # which quotes what it is about
        return _place(url, parts)
    raise ConfigurationError("no URL of a Redis server: redis-py does not understand an option")


def _place(url: str, parts: SplitResult) -> Place:
    scheme, _, topology = parts.scheme.partition("+")
    if not topology:
        return _server(url)
    user, separator, addresses = parts.netloc.rpartition("@")
    hosts = [_address(word, SENTINEL_PORT if topology == "sentinel" else REDIS_PORT) for word in addresses.split(",")]
    words = [word for word in parts.path.split("/") if word]
    options = _untyped.connection.parse_url(f"{scheme}://{user}{separator}?{parts.query}")
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    if topology == "cluster":
        return _cluster(hosts, options)
    return _sentinels(hosts, words[0], options | {"db": int(words[1]) if len(words) > 1 else 0})


def _address(word: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{word}")
    return parts.hostname or "", parts.port or default


def _once() -> Retry:
    return Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))


def _never() -> AsyncRetry:
    return AsyncRetry(NoBackoff(), 0)


def _timed(seconds: float) -> dict[str, Any]:
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def _server(url: str) -> Place:
    redis.ConnectionPool.from_url(url)  # refuses what is no URL of a server

    def blocking(timeout: float) -> Sequence[redis.Redis]:
        settings = _SETTINGS | _timed(timeout) | {"retry": _once(), "single_connection_client": True}
        return [redis.Redis.from_url(url, **settings)]

    def awaiting() -> Sequence[redis.asyncio.Redis]:
        return [redis.asyncio.Redis.from_url(url, **(_SETTINGS | _UNTIMED | {"retry": _never()}))]

    return Place(blocking, awaiting, per_thread=True)


def _sentinels(hosts: list[tuple[str, int]], service: str, options: dict[str, Any]) -> Place:
    guards = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    guards |= {name: value for name, value in options.items() if name.startswith("ssl")}

    def blocking(timeout: float) -> Sequence[Any]:
        watch = _untyped.sentinel.Sentinel(hosts, sentinel_kwargs=guards | _timed(timeout) | {"retry": _once()})
        master = watch.master_for(service, **(options | _SETTINGS | _timed(timeout) | {"retry": _once()}))
        return [master, *watch.sentinels]

    def awaiting() -> Sequence[Any]:
        watch = _untyped.asyncio.sentinel.Sentinel(hosts, sentinel_kwargs=guards | _UNTIMED | {"retry": _never()})
        master = watch.master_for(service, **(options | _SETTINGS | _UNTIMED | {"retry": _never()}))
        return [master, *watch.sentinels]

    return Place(blocking, awaiting, per_thread=False)


def _cluster(hosts: list[tuple[str, int]], options: dict[str, Any]) -> Place:
    settings = options | _SETTINGS | {"require_full_coverage": False}

    def blocking(timeout: float) -> Sequence[Any]:
        nodes = [_untyped.cluster.ClusterNode(*host) for host in hosts]
        return [redis.RedisCluster(startup_nodes=nodes, retry=_once(), **(settings | _timed(timeout)))]

    def awaiting() -> Sequence[Any]:
        nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in hosts]
        retry = AsyncRetry(NoBackoff(), 1)
        return [redis.asyncio.RedisCluster(startup_nodes=nodes, retry=retry, **(settings | _UNTIMED))]

    return Place(blocking, awaiting, per_thread=False)
