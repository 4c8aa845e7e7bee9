"""The caches that are compared: ours, and those of others as far as they are installed here."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.load import dumps, loads
from langchain_core.outputs import Generation
from typing_extensions import override

from prefixcache_integrations.langchain import ResponseCache


class Places:
    """Where caches keep what they keep: a folder, and a Redis server."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        folder.mkdir(parents=True, exist_ok=True)


def _sqlite(places: Places) -> BaseCache:
    from langchain_community.cache import SQLiteCache

    return SQLiteCache(str(places.folder / "community.db"))


def _redis(places: Places) -> BaseCache:
    from langchain_community.cache import RedisCache
    from redis import Redis

    return RedisCache(Redis.from_url(places.redis_url))


def _async_redis(places: Places) -> BaseCache:
    from langchain_community.cache import AsyncRedisCache
    from redis.asyncio import Redis

    return AsyncRedisCache(Redis.from_url(places.redis_url))


def _langchain_redis(places: Places) -> BaseCache:
    from langchain_redis import RedisCache

    return RedisCache(redis_url=places.redis_url)


class DiskCache(BaseCache):
    """diskcache with pickled values: what people write themselves."""

    def __init__(self, folder: Path) -> None:
        from diskcache import Cache

        self._cache = Cache(str(folder))

    def _key(self, prompt: str, llm_string: str) -> bytes:
        return hashlib.sha256(f"{prompt}\x00{llm_string}".encode()).digest()

    @override
    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        return self._cache.get(self._key(prompt, llm_string))

    @override
    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        self._cache.set(self._key(prompt, llm_string), pickle.loads(pickle.dumps(list(return_val))))  # noqa: S301 - our own

    @override
    def clear(self, **_: object) -> None:
        self._cache.clear()


class LiteLLM(BaseCache):
    """The cache of LiteLLM, asked with LangChain's strings and answering with its dumps."""

    def __init__(self, **settings: object) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network for prices
        from litellm.caching.caching import Cache

        self._cache = Cache(**settings)

    def _call(self, prompt: str, llm_string: str) -> dict[str, object]:
        return {"model": llm_string, "messages": [{"role": "user", "content": prompt}]}

    @override
    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        found = self._cache.get_cache(**self._call(prompt, llm_string))
        return None if found is None else [loads(item, allowed_objects="core") for item in found["generations"]]

    @override
    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        kept = {"generations": [dumps(generation) for generation in return_val]}
        self._cache.add_cache(kept, **self._call(prompt, llm_string))

    @override
    def clear(self, **_: object) -> None:
        self._cache.cache.flush_cache()


CACHES: dict[str, Callable[[Places], BaseCache]] = {
    "InMemoryCache": lambda _: InMemoryCache(),
    "ours, memory": lambda _: ResponseCache.from_url("memory://"),
    "ours, SQLite": lambda places: ResponseCache.from_url(f"sqlite:///{places.folder}/ours.db"),
    "ours, Redis": lambda places: ResponseCache.from_url(f"{places.redis_url}?timeout=1"),
    "ours, Redis behind memory": lambda places: ResponseCache.from_url(
        f"{places.redis_url}?timeout=1&memory_ttl=600", namespace="near"
    ),
    "community SQLiteCache": _sqlite,
    "community RedisCache": _redis,
    "langchain-redis RedisCache": _langchain_redis,
    "diskcache": lambda places: DiskCache(places.folder / "diskcache"),
    "LiteLLM, local": lambda _: LiteLLM(type="local"),
    "LiteLLM, disk": lambda places: LiteLLM(type="disk", disk_cache_dir=str(places.folder / "litellm")),
}


AWAITED: dict[str, Callable[[Places], BaseCache]] = {"community AsyncRedisCache": _async_redis}
"""Those that can only be awaited."""


def opened(
    places: Places, known: Mapping[str, Callable[[Places], BaseCache]] = CACHES
) -> tuple[dict[str, BaseCache], dict[str, str]]:
    """Return the caches that open here, and why the others do not."""
    caches, missing = {}, {}
    for name, open_cache in known.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                caches[name] = open_cache(places)
        except Exception as error:  # noqa: BLE001 - another's cache may fail in any way
            missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"
    return caches, missing
