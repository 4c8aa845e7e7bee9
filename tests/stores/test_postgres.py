import asyncio
import multiprocessing
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

pytest.importorskip("psycopg", reason="a PostgreSQL store needs the extra 'postgres'")

import psycopg

from prefixcache_integrations.errors import StoreRefused, StoreUnavailable
from prefixcache_integrations.flows.flights import moment
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import open_store
from prefixcache_integrations.stores import postgres_layout as layout
from prefixcache_integrations.stores.postgres import DEFAULT_CONNECTIONS, PostgresStore
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, StoreContract
from tests.stores.hurried import Hurried, RealClock


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


@pytest.fixture
def store(shared_postgres, admin):
    with closing(PostgresStore(shared_postgres.url(), timeout=2)) as store:
        yield store


@pytest.fixture
def connections(admin):
    """Return a function that counts the connections of others than the test."""

    def count():
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return admin.execute(query).fetchone()[0]

    return count


def eventually(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def failed(call, kind=StoreUnavailable):
    """Return what ``call`` raised and how many seconds it took."""
    started = time.monotonic()
    with pytest.raises(kind) as raised:
        call()
    return raised.value, time.monotonic() - started


def test_what_lies_in_the_table_can_be_read_with_sql(store, admin):
    store.put(KEY, b"answer", 60, ("blue", "model:gpt"))
    found = admin.execute("SELECT metadata, value, expires_at - created_at FROM prefixcache_entries_v1").fetchone()
    assert found[0] == {"namespace": "tenant", "tags": ["blue", "model:gpt"]}
    assert (found[1], found[2].total_seconds()) == (b"answer", 60)


def test_threads_share_a_few_connections_and_nobody_is_turned_away(store, connections):
    store.put(KEY, b"answer")
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(lambda _: store.get(KEY), range(500))) == [b"answer"] * 500
    assert 1 <= connections() <= DEFAULT_CONNECTIONS


def test_four_hundred_reads_at_once_share_one_connection(store, connections):
    keys = [EntryKey("tenant", f"digest {number}") for number in range(400)]

    async def burst():
        await asyncio.gather(*(store.aput(key, key.digest.encode()) for key in keys))
        return await asyncio.gather(*(store.aget(key) for key in keys)), connections()

    assert asyncio.run(burst()) == ([key.digest.encode() for key in keys], 1 + 1)  # and one for what takes long


def test_event_loops_leave_no_connection_behind(store, connections):
    store.put(KEY, b"answer")

    async def read():
        return [await store.aget(KEY) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(read()), range(8))) == [[b"answer"] * 20] * 8
    store.close()
    eventually(lambda: connections() == 0)


async def test_a_cancelled_reader_takes_nobody_with_it(store):
    await store.aput(KEY, b"answer")
    readers = [asyncio.create_task(store.aget(KEY)) for _ in range(10)]
    await asyncio.sleep(0)
    for number in (0, 5):
        readers[number].cancel()
    assert (await asyncio.gather(*readers, return_exceptions=True)).count(b"answer") == 8
    assert await store.aget(KEY) == b"answer"
    await store.aclose()


def test_large_values_go_both_ways_on_one_connection_at_once(store):
    values = [os.urandom(3_000_000) for _ in range(8)]

    async def cross():
        await asyncio.gather(*(store.aput(EntryKey("", str(number)), value) for number, value in enumerate(values)))
        reads = [store.aget(EntryKey("", str(number))) for number in range(8)]
        writes = [store.aput(EntryKey("other", str(number)), value) for number, value in enumerate(values)]
        return (await asyncio.gather(*reads, *writes))[:8]

    assert asyncio.run(cross()) == values


def _in_child(store, results):
    found = store.get(KEY)
    store.put(EntryKey("tenant", "child"), b"of the child")
    results.put((found, asyncio.run(store.aget(KEY))))


def test_a_forked_child_reads_and_writes_on_a_connection_of_its_own(store):
    store.put(KEY, b"answer")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking beside threads
        child = context.Process(target=_in_child, args=(store, results))
        child.start()
    assert [store.get(KEY) for _ in range(50)] == [b"answer"] * 50
    assert results.get(timeout=10) == (b"answer", b"answer")
    child.join(10)
    assert store.get(EntryKey("tenant", "child")) == b"of the child"


def test_many_that_find_no_table_make_one(shared_postgres, admin):
    stores, start = [PostgresStore(shared_postgres.url(), timeout=5) for _ in range(8)], threading.Barrier(8)

    def begin(number):
        start.wait()
        return stores[number].put(EntryKey("tenant", str(number)), b"answer")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(begin, range(8)))
    for each in stores:
        each.close()


def test_who_comes_too_late_to_make_the_table_waits_for_nobody_who_uses_it(shared_postgres, store, admin):
    store.put(KEY, b"answer")
    with psycopg.connect(shared_postgres.url()) as clearing, psycopg.connect(shared_postgres.url()) as late:
        clearing.execute(  # as far as one comes who clears
            "WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(7027164309115437121))"
            " DELETE FROM prefixcache_entries_v1 WHERE (SELECT count(*) FROM alone) = 1 AND namespace = ''"
        )
        late.execute("SET lock_timeout = '1s'")
        late.execute(layout.CREATE)
    assert store.get(KEY) == b"answer"


@pytest.mark.parametrize(
    "delete",
    [lambda store: store.clear(KEY.namespace), lambda store: store.invalidate(KEY.namespace, "tag")],
    ids=["clear", "invalidate"],
)
def test_what_was_asked_for_before_is_not_kept_while_who_deletes_waits_for_another(shared_postgres, store, delete):
    store.get(KEY)
    began = moment()
    with psycopg.connect(shared_postgres.url()) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(7027164309115437121)")
        deleting = pool.submit(delete, store)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not other.execute(waiting).fetchone()[0]:
            time.sleep(0.01)
        assert not store.put_since(began, KEY, b"old", None, ["tag"])
        other.rollback()
        deleting.result(10)
    assert store.get(KEY) is None
    assert store.put_since(moment(), KEY, b"new", None, ["tag"])


def test_what_is_deleted_while_it_is_written_is_not_kept(shared_postgres, store, admin):
    store.put(KEY, b"first")
    row = admin.execute("SELECT namespace, digest, metadata::text, value FROM prefixcache_entries_v1").fetchone()
    store.delete(KEY)
    store.get(KEY)
    with psycopg.connect(shared_postgres.url()) as other, ThreadPoolExecutor(1) as pool:
        insert = "INSERT INTO prefixcache_entries_v1 (namespace, digest, metadata, value) VALUES (%s, %s, %s, %s)"
        other.execute(insert, row)
        putting = pool.submit(store.put_since, moment(), KEY, b"old", None, ["tag"])
        while not admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
            time.sleep(0.01)
        store.clear(KEY.namespace)
        other.rollback()
        assert not putting.result(10)
    assert store.get(KEY) is None


def test_who_clears_as_soon_as_there_is_a_table_meets_nobody_making_it_in_a_circle(shared_postgres, admin):
    for _ in range(6):
        admin.execute("DROP TABLE IF EXISTS prefixcache_entries_v1")
        stores, start = [PostgresStore(shared_postgres.url(), timeout=5) for _ in range(6)], threading.Barrier(6)

        def begin(store, start=start):
            start.wait()
            store.put(KEY, b"answer")
            store.clear(KEY.namespace)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(begin, stores))
        for each in stores:
            each.close()


def test_a_table_that_is_dropped_is_made_again(store, admin):
    store.put(KEY, b"answer")
    admin.execute("DROP TABLE prefixcache_entries_v1")
    assert store.get(KEY) is None
    assert store.put(KEY, b"again")
    admin.execute("DROP TABLE prefixcache_entries_v1")
    assert asyncio.run(store.aget(KEY)) is None


def test_what_is_read_stays_longest(shared_postgres, admin):
    store = PostgresStore(shared_postgres.url(), timeout=5, max_bytes=SMALL)
    keys = [EntryKey("tenant", str(number)) for number in range(10)]
    for key in keys:
        store.put(key, bytes(10_000))
    admin.execute("UPDATE prefixcache_entries_v1 SET used_at = used_at - interval '2 hours'")
    assert store.get(keys[0]) is not None
    for number in range(10):
        store.put(EntryKey("tenant", f"more {number}"), bytes(10_000))
    assert [store.get(key) is not None for key in keys[:2]] == [True, False]
    assert store.evicted > 0
    store.close()


def test_a_hit_writes_nothing_but_once_an_hour(store, admin):
    store.put(KEY, b"answer")
    version = admin.execute("SELECT xmin FROM prefixcache_entries_v1").fetchone()
    for _ in range(10):
        store.get(KEY)
    assert admin.execute("SELECT xmin FROM prefixcache_entries_v1").fetchone() == version


def test_a_server_that_died_costs_an_error_and_is_used_again_as_soon_as_it_is_back(start_postgres):
    server = start_postgres()
    store = PostgresStore(server.url(), timeout=1)
    store.put(KEY, b"answer")
    asyncio.run(store.aget(KEY))
    server.kill()
    for call in (lambda: store.get(KEY), lambda: asyncio.run(store.aget(KEY)), lambda: store.put(KEY, b"")):
        error, _ = failed(call)
        assert str(error) == "PostgreSQL: no connection"
    server.start()
    store.put(KEY, b"again")  # what was put in the last moments before may be lost
    assert store.get(KEY) == asyncio.run(store.aget(KEY)) == b"again"
    store.close()


HANGING = 2
"""Seconds: far more than the timeout, far less than anybody's patience."""


def test_a_server_that_never_answers_costs_the_timeout_and_is_used_again_when_it_goes_on(start_postgres):
    server = start_postgres()
    store, fresh = (PostgresStore(server.url(), timeout=0.2) for _ in range(2))
    store.put(KEY, b"answer")
    server.pause()
    assert 0.1 < failed(lambda: store.get(KEY))[1] < HANGING
    assert 0.1 < failed(lambda: fresh.put(KEY, b"other"))[1] < HANGING
    server.resume()
    eventually(lambda: _quietly(lambda: store.get(KEY)) == b"answer")
    for each in (store, fresh):
        each.close()


async def test_each_of_many_waiting_readers_waits_for_the_timeout_once(start_postgres):
    server = start_postgres()
    store = PostgresStore(server.url(), timeout=0.2)
    await store.aput(KEY, b"answer")
    server.pause()
    started = time.monotonic()
    found = await asyncio.gather(*(store.aget(KEY) for _ in range(1000)), return_exceptions=True)
    assert 0.1 < time.monotonic() - started < HANGING
    assert all(isinstance(error, StoreUnavailable) for error in found)
    server.resume()
    assert await store.aget(KEY) == b"answer"
    await store.aclose()


def _quietly(call):
    try:
        return call()
    except StoreUnavailable:
        return None


def test_a_wrong_password_is_an_unavailable_store_that_tells_no_secret(shared_postgres):
    store = PostgresStore(shared_postgres.url("prefixcache:wr0ng@"))
    error, _ = failed(lambda: store.get(KEY))
    assert "wr0ng" not in repr(error) + repr(error.__cause__)
    store.close()


def test_who_may_only_read_is_refused_to_write_and_answered_otherwise(shared_postgres, store, admin):
    store.put(KEY, b"answer")
    admin.execute("DROP ROLE IF EXISTS reader")
    admin.execute("CREATE ROLE reader LOGIN PASSWORD 'pass'")
    admin.execute("GRANT SELECT ON prefixcache_entries_v1 TO reader")
    with closing(PostgresStore(shared_postgres.url("reader:pass@"), timeout=2)) as reader:
        assert reader.get(KEY) == b"answer"
        error, _ = failed(lambda: reader.put(KEY, b"other"), StoreRefused)
        assert str(error) == "PostgreSQL: InsufficientPrivilege"
        failed(lambda: asyncio.run(reader.aput(KEY, b"other")), StoreRefused)
        assert reader.get(KEY) == b"answer"
    admin.execute("DROP OWNED BY reader")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=ascii)
def test_a_name_that_the_database_cannot_write_down_is_refused(store, name):
    assert store.get(EntryKey(name, "digest")) is None
    failed(lambda: store.put(EntryKey(name, "digest"), b"answer"), StoreRefused)
    assert store.get(KEY) is None


async def test_what_is_refused_fails_alone_in_its_batch(store):
    results = await asyncio.gather(
        store.aput(KEY, b"answer"), store.aput(EntryKey("\0", "digest"), b"x"), store.aget(KEY), return_exceptions=True
    )
    assert results[0] is True
    assert isinstance(results[1], StoreRefused)
    assert results[2] == b"answer"
    await store.aclose()


def test_writers_sweepers_and_who_clears_never_wait_for_each_other_in_a_circle(shared_postgres, admin):
    stores = [PostgresStore(shared_postgres.url(), timeout=5, max_bytes=SMALL) for _ in range(6)]

    def work(number):
        for turn in range(60):
            key = EntryKey(f"tenant {turn % 2}", str((turn * 7 + number) % 20))
            stores[number].put(key, os.urandom(9_000), 0.01 if turn % 3 else None, ("tag",))
            if turn % 10 == number:
                stores[number].clear("tenant 0")
            if turn % 10 == number + 1:
                stores[number].invalidate("tenant 1", "tag")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    for each in stores:
        each.close()


def test_a_server_with_memory_in_front_is_opened_by_url(shared_postgres, admin):
    store = open_store(shared_postgres.url(options="?timeout=2&memory_ttl=60&connections=2&application_name=mine"))
    store.put(KEY, b"answer")
    assert admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'").fetchone() == (1,)
    admin.execute("TRUNCATE prefixcache_entries_v1")
    assert store.get(KEY) == b"answer"
    store.close()
