"""LangChain's own suites for caches, over every store."""

import pytest
from langchain_tests.integration_tests.cache import AsyncCacheTestSuite, SyncCacheTestSuite

from prefixcache_integrations.langchain import ResponseCache


class TestMemory(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self):
        return ResponseCache.from_url("memory://")


class TestMemoryAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self):
        return ResponseCache.from_url("memory://")


class TestSQLite(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, tmp_path):
        cache = ResponseCache.from_url(f"sqlite:///{tmp_path / 'answers.db'}")
        yield cache
        cache.close()


class TestSQLiteAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, tmp_path):
        cache = ResponseCache.from_url(f"sqlite:///{tmp_path / 'answers.db'}")
        yield cache
        cache.close()


@pytest.fixture
def redis_url(start_redis):
    return start_redis().url()


class TestRedis(SyncCacheTestSuite):
    @pytest.fixture(params=["", "?memory_ttl=5"], ids=["alone", "behind memory"])
    def cache(self, redis_url, request):
        cache = ResponseCache.from_url(redis_url + request.param, secrets=[bytes(32)])
        yield cache
        cache.close()


class TestPostgres(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, shared_postgres):
        cache = ResponseCache.from_url(shared_postgres.url(options="?timeout=5"))
        cache.clear()
        yield cache
        cache.close()


class TestPostgresAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, shared_postgres):
        cache = ResponseCache.from_url(shared_postgres.url(options="?timeout=5"))
        await cache.aclear()
        yield cache
        await cache.aclose()


class TestRedisAsync(AsyncCacheTestSuite):
    @pytest.fixture(params=["", "?memory_ttl=5"], ids=["alone", "behind memory"])
    async def cache(self, redis_url, request):
        cache = ResponseCache.from_url(redis_url + request.param, secrets=[bytes(32)])
        yield cache
        await cache.aclose()
