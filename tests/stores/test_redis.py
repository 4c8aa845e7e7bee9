import asyncio
import multiprocessing
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.crc import key_slot

from prefixcache_integrations.errors import ConfigurationError, StoreRefused, StoreUnavailable
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import redis_layout
from prefixcache_integrations.stores.redis import LONGEST_TTL, MAX_RECORDS, RedisStore
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, StoreContract
from tests.stores.hurried import Hurried, RealClock

COMMANDS = ["+mget", "+set", "+unlink", "+append"]


@pytest.fixture
def admin(shared_redis):
    """A client of the shared server, emptied."""
    client = Redis.from_url(shared_redis.url())
    client.flushall()
    yield client
    client.close()


class TestRedisStore(StoreContract):
    @pytest.fixture
    def clock(self):
        return RealClock()

    @pytest.fixture
    def store(self, shared_redis, admin):
        store = RedisStore(shared_redis.url(), timeout=5)
        yield Hurried(store)
        store.close()

    @pytest.fixture
    def small_store(self, shared_redis, admin):
        store = RedisStore(shared_redis.url(), timeout=5, max_value_bytes=SMALL)
        yield store
        store.close()

    def test_a_full_store_keeps_the_newest_and_holds_its_bound(self, start_redis):
        server = start_redis(maxmemory="3mb", maxmemory_policy="allkeys-lru")
        store = RedisStore(server.url(), timeout=5)
        for number in range(400):
            assert store.put(EntryKey("tenant", str(number)), os.urandom(10_000)) is True
        kept = [number for number in range(400) if store.get(EntryKey("tenant", str(number))) is not None]
        assert len(kept) < 300
        store.put(KEY, b"answer")
        assert store.get(KEY) == b"answer"
        store.close()


class TestAwaitedRedisStore(TestRedisStore):
    @pytest.fixture
    def store(self, shared_redis, admin):
        awaited = Awaited(Hurried(RedisStore(shared_redis.url(), timeout=5)))
        yield awaited
        awaited.stop()

    @pytest.fixture
    def small_store(self, shared_redis, admin):
        awaited = Awaited(RedisStore(shared_redis.url(), timeout=5, max_value_bytes=SMALL))
        yield awaited
        awaited.stop()


@pytest.fixture
def store(shared_redis, admin):
    store = RedisStore(shared_redis.url(), timeout=1)
    yield store
    store.close()


@pytest.fixture
def commands(admin):
    """Return a function that says how many commands, connections' own aside, the server has performed."""
    greetings = ("config", "client", "hello", "info", "ping", "select", "command", "flushall")

    def count():
        stats = admin.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
        return {name: calls for name, calls in calls.items() if name.split("|")[0] not in greetings}

    admin.config_resetstat()
    return count


def test_a_hit_is_one_command(store, commands, admin):
    store.put(KEY, b"answer", tags=("tag", "other"))
    admin.config_resetstat()
    assert store.get(KEY) == b"answer"
    assert commands() == {"mget": 1}


def test_four_hundred_hits_at_once_miss_nothing_and_share_a_few_commands_on_one_connection(store, commands, admin):
    keys = [EntryKey("tenant", f"digest {number}") for number in range(400)]

    async def burst():
        await asyncio.gather(*(store.aput(key, key.digest.encode()) for key in keys))
        admin.config_resetstat()
        found = await asyncio.gather(*(store.aget(key) for key in keys))
        connections = len(admin.client_list()) - 1
        return found, connections

    found, connections = asyncio.run(burst())
    assert found == [key.digest.encode() for key in keys]
    assert commands()["mget"] <= 4
    assert connections == 1


def test_clear_and_invalidate_touch_no_other_key_and_never_scan(store, admin, commands):
    admin.mset({"pfx:foreign": b"1", "other app": b"2", redis_layout.log_key("elsewhere"): b"x" * 16})
    before = {name: admin.get(name) for name in admin.scan_iter()}
    store.put(KEY, b"answer", tags=("tag",))
    store.put(EntryKey("other", "digest"), b"answer")
    admin.config_resetstat()
    store.invalidate("tenant", "tag")
    store.clear("tenant")
    assert set(commands()) == {"append", "unlink", "mget", "set"}
    assert store.get(EntryKey("other", "digest")) == b"answer"
    assert {name: admin.get(name) for name in before} == before


def test_every_key_of_a_namespace_is_in_one_cluster_slot_whatever_its_name(store, admin):
    for namespace in ("tenant", "", "{a}{b}", "}{"):
        store.put(EntryKey(namespace, "one"), b"1")
        store.put(EntryKey(namespace, "two"), b"2")
    slots = {}
    for name in admin.scan_iter():
        slots.setdefault(name[: name.index(b"}")], set()).add(key_slot(name))
    assert len(slots) == 4
    assert all(len(found) == 1 for found in slots.values())


def test_every_value_expires_and_those_for_good_last(store, admin):
    store.put(KEY, b"for good")
    store.put(EntryKey("tenant", "short"), b"short", 7)
    lasting, short = (admin.pttl(redis_layout.entry_key(EntryKey("tenant", digest))) for digest in ("digest", "short"))
    assert LONGEST_TTL * 1000 - 5000 < lasting <= LONGEST_TTL * 1000
    assert 2000 < short <= 7000


def test_a_ttl_of_nothing_leaves_nothing(store):
    store.put(KEY, b"older")
    assert store.put(KEY, b"answer", 0) is True
    assert store.get(KEY) is None


def test_the_log_of_invalidations_is_bounded(store, admin):
    store.put(KEY, b"answer", tags=("kept",))
    for number in range(MAX_RECORDS - 1):
        store.invalidate("tenant", f"tag {number}")
    assert store.get(KEY) == b"answer"
    store.invalidate("tenant", "one too many")
    assert store.get(KEY) is None
    assert admin.strlen(redis_layout.log_key("tenant")) == redis_layout.RECORD
    store.put(KEY, b"again")
    assert store.get(KEY) == b"again"


def test_a_log_that_went_away_takes_every_value_with_it_for_ever(store, admin):
    store.put(KEY, b"answer", tags=("tag",))
    admin.delete(redis_layout.log_key("tenant"))
    assert store.get(KEY) is None
    store.invalidate("tenant", "tag")
    store.put(EntryKey("tenant", "other"), b"other")
    assert store.get(KEY) is None


@pytest.mark.parametrize("which", [redis_layout.entry_key(KEY), redis_layout.log_key("tenant")], ids=["entry", "log"])
def test_a_key_that_holds_something_else_is_a_miss_and_is_written_over(store, admin, which):
    store.put(KEY, b"answer")
    admin.delete(which)
    admin.rpush(which, "a list")
    assert store.get(KEY) is None
    store.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"


def test_what_others_wrote_under_our_keys_is_never_read_as_a_value(store, admin):
    store.put(KEY, b"answer", tags=("tag",))
    name, log = redis_layout.entry_key(KEY), redis_layout.log_key("tenant")
    whole = admin.get(name)
    for cut in (b"", b"x", whole[:8], whole[:11], b"x" * 1000):
        admin.set(name, cut)
        assert store.get(KEY) is None
    admin.set(name, whole)
    for cut in (b"", b"x" * 15, b"x" * 17, admin.get(log)[:15]):
        admin.set(log, cut)
        assert store.get(KEY) is None


def test_many_that_begin_a_namespace_together_share_one_log(shared_redis, admin):
    stores = [RedisStore(shared_redis.url(), timeout=5) for _ in range(8)]
    start = threading.Barrier(8)

    def begin(number):
        start.wait()
        stores[number].put(EntryKey("tenant", str(number)), b"answer")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    assert [stores[0].get(EntryKey("tenant", str(number))) for number in range(8)] == [b"answer"] * 8
    for store in stores:
        store.close()


def _in_child(store, results):
    found = store.get(KEY)
    store.put(EntryKey("tenant", "child"), b"of the child")
    results.put((found, asyncio.run(store.aget(KEY))))


def test_a_forked_child_reads_and_writes_on_a_connection_of_its_own(store):
    store.put(KEY, b"answer")
    asyncio.run(store.aget(KEY))
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


def test_event_loops_one_after_another_and_side_by_side_leave_no_connection_behind(store, admin):
    store.put(KEY, b"answer")

    async def read():
        return [await store.aget(KEY) for _ in range(20)]

    for _ in range(3):
        assert asyncio.run(read()) == [b"answer"] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(read()), range(4))) == [[b"answer"] * 20] * 4
    store.close()
    deadline = time.monotonic() + 2
    while len(admin.client_list()) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(admin.client_list()) == 1


async def test_a_cancelled_reader_takes_nobody_with_it(store):
    await store.aput(KEY, b"answer")
    readers = [asyncio.create_task(store.aget(KEY)) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    readers[5].cancel()
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert found.count(b"answer") == 8
    assert await store.aget(KEY) == b"answer"
    await store.aclose()


async def test_an_answer_that_came_in_while_the_loop_was_busy_is_not_late(shared_redis, admin):
    store = RedisStore(shared_redis.url(), timeout=0.1)
    await store.aput(KEY, b"answer")
    reader = asyncio.create_task(store.aget(KEY))
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the pause is the case
    assert await reader == b"answer"
    await store.aclose()


REDIS_PY_WAITS = 4
"""Seconds: under its defaults redis-py waits for longer, again and again; a busy machine does not."""


def _failed(call):
    """Return what ``call`` raised and how many seconds it took."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as raised:
        call()
    return raised.value, time.monotonic() - started


def test_a_killed_server_costs_an_error_at_once_and_is_used_again_as_soon_as_it_is_back(start_redis):
    server = start_redis()
    store = RedisStore(server.url())
    store.put(KEY, b"answer")
    server.kill()
    assert max(_failed(lambda: store.get(KEY))[1] for _ in range(5)) < REDIS_PY_WAITS
    server.start()
    assert store.get(KEY) is None
    store.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"
    store.close()


async def test_the_same_awaiting(start_redis):
    server = start_redis()
    store = RedisStore(server.url())
    await store.aput(KEY, b"answer")
    server.kill()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.aget(KEY)
    server.start()
    await store.aput(KEY, b"answer")
    assert await store.aget(KEY) == b"answer"
    await store.aclose()


def test_a_server_that_accepts_and_never_answers_costs_the_timeout(start_redis):
    server = start_redis()
    store, fresh = RedisStore(server.url()), RedisStore(server.url())
    store.put(KEY, b"answer")
    server.pause()
    assert 0.04 < _failed(lambda: store.get(KEY))[1] < REDIS_PY_WAITS
    assert 0.04 < _failed(lambda: fresh.put(KEY, b"other"))[1] < REDIS_PY_WAITS
    server.resume()
    assert store.get(KEY) == b"answer"
    store.close()
    fresh.close()


async def test_a_server_that_never_answers_costs_each_of_many_waiting_readers_the_timeout_once(start_redis):
    server = start_redis()
    store = RedisStore(server.url())
    await store.aput(KEY, b"answer")
    server.pause()
    started = time.monotonic()
    found = await asyncio.gather(*(store.aget(KEY) for _ in range(1000)), return_exceptions=True)
    assert 0.04 < time.monotonic() - started < REDIS_PY_WAITS
    assert all(isinstance(error, StoreUnavailable) for error in found)
    server.resume()
    assert await store.aget(KEY) == b"answer"
    await store.aclose()


def test_users_and_passwords_come_with_the_url_and_a_wrong_one_is_named_without_the_secret(start_redis):
    server = start_redis(requirepass="right")
    store, wrong = RedisStore(server.url(":right@"), timeout=1), RedisStore(server.url(":wr0ng@"), timeout=1)
    store.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"
    error, _ = _failed(lambda: wrong.get(KEY))
    assert "Authentication" in str(error)
    assert "wr0ng" not in repr(error)
    for opened in (store, wrong):
        opened.close()


def test_the_commands_and_keys_it_says_it_needs_are_enough_for_an_acl_user(start_redis):
    server = start_redis()
    with Redis.from_url(server.url()) as admin:
        admin.acl_setuser("app", enabled=True, passwords="+pass", keys=["pfx:*"], commands=COMMANDS)
    store = RedisStore(server.url("app:pass@"), timeout=1)
    store.put(KEY, b"answer", tags=("tag",))
    assert store.get(KEY) == b"answer"
    assert asyncio.run(store.aget(KEY)) == b"answer"
    store.invalidate("tenant", "tag")
    store.delete(KEY)
    store.clear("tenant")
    store.close()


def test_a_full_server_refuses_writes_and_still_answers_reads_and_clears(start_redis):
    server = start_redis(maxmemory_policy="noeviction")
    store = RedisStore(server.url(), timeout=1)
    store.put(KEY, b"answer")
    with Redis.from_url(server.url()) as admin:
        admin.config_set("maxmemory", 1)
    with pytest.raises(StoreRefused):
        store.put(EntryKey("tenant", "other"), b"answer")
    with pytest.raises(StoreRefused):
        asyncio.run(store.aput(EntryKey("tenant", "other"), b"answer"))
    assert store.get(KEY) == b"answer"
    store.clear("tenant")
    assert store.get(KEY) is None
    store.close()


async def test_what_is_refused_fails_alone_in_its_batch(start_redis):
    server = start_redis(maxmemory_policy="noeviction")
    store = RedisStore(server.url(), timeout=1)
    await store.aput(KEY, b"answer")
    with Redis.from_url(server.url()) as admin:
        admin.config_set("maxmemory", 1)
    other = EntryKey("tenant", "other")
    put, found, missing, deleted = await asyncio.gather(
        store.aput(other, b"x"), store.aget(KEY), store.aget(other), store.adelete(other), return_exceptions=True
    )
    assert isinstance(put, StoreRefused)
    assert (found, missing, deleted) == (b"answer", None, None)
    await store.aclose()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:port"])
def test_what_is_no_url_of_a_server_is_refused_when_the_store_is_made(url):
    with pytest.raises(ConfigurationError):
        RedisStore(url)


def test_an_unreachable_server_never_stops_an_application_from_starting():
    RedisStore("redis://127.0.0.1:1/0").close()
