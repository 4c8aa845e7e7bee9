import time

import pytest

pytest.importorskip("psycopg", reason="a PostgreSQL store needs the extra 'postgres'")

import psycopg

from prefixcache_integrations.stores.postgres import PostgresStore
from prefixcache_integrations.stores.wrapper import Put, Wrapper
from tests.stores.awaited import Awaited
from tests.stores.contract import SMALL, StoreContract

FASTER = 20
"""The server's clock cannot be set: here its seconds are this many times shorter."""


class Hurried(Wrapper):
    """Puts values for a fraction of their TTL."""

    def _put(self, key, value, ttl, tags):
        return (yield from Put(self._inner, key, value, ttl and ttl / FASTER, tags))


class RealClock:
    def advance(self, seconds):
        time.sleep(min(seconds, 12) / FASTER)


@pytest.fixture
def admin(shared_postgres):
    """A connection to the shared server, without our table."""
    with psycopg.connect(shared_postgres.url(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS prefixcache_entries_v1")
        yield connection


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def clock(self):
        return RealClock()

    @pytest.fixture
    def store(self, shared_postgres, admin):
        store = PostgresStore(shared_postgres.url(), timeout=5)
        yield Hurried(store)
        store.close()

    @pytest.fixture
    def small_store(self, shared_postgres, admin):
        store = PostgresStore(shared_postgres.url(), timeout=5, max_bytes=SMALL)
        yield store
        store.close()


class TestAwaitedPostgresStore(TestPostgresStore):
    @pytest.fixture
    def store(self, shared_postgres, admin):
        awaited = Awaited(Hurried(PostgresStore(shared_postgres.url(), timeout=5)))
        yield awaited
        awaited.stop()

    @pytest.fixture
    def small_store(self, shared_postgres, admin):
        awaited = Awaited(PostgresStore(shared_postgres.url(), timeout=5, max_bytes=SMALL))
        yield awaited
        awaited.stop()
