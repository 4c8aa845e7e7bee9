"""Redis as a cluster, and behind sentinels."""

import asyncio
import time

import pytest

pytest.importorskip("redis", reason="a Redis store needs the extra 'redis'")

from redis.crc import key_slot

from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import open_store
from prefixcache_integrations.stores.leases import alease, lease
from prefixcache_integrations.stores.redis import RedisStore
from prefixcache_integrations.stores.redis_reports import RedisLog
from prefixcache_integrations.stores.report_log import Batch
from tests.redis_topologies import RedisCluster, RedisSentinel
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY

NAMESPACES = [f"tenant {number}" for number in range(12)]


@pytest.fixture(scope="module")
def cluster(redis_program):
    cluster = RedisCluster(redis_program)
    yield cluster
    cluster.close()


@pytest.fixture
def sentinel(redis_program, tmp_path):
    sentinel = RedisSentinel(redis_program, tmp_path)
    yield sentinel
    sentinel.close()


@pytest.fixture(params=["blocking", "awaiting"])
def store(cluster, request):
    """A store on an empty cluster, by either face."""
    for client in cluster.clients:
        client.flushall()
    inner = RedisStore(cluster.url(), timeout=5)
    if request.param == "blocking":
        yield inner
        inner.close()
        return
    awaited = Awaited(inner)
    yield awaited
    awaited.stop()


def test_a_cluster_keeps_finds_invalidates_and_clears_on_every_node(store, cluster):
    for name in NAMESPACES:
        store.put(EntryKey(name, "plain"), name.encode())
        store.put(EntryKey(name, "tagged"), name.encode(), 60, ("tag",))
    assert all(client.dbsize() for client in cluster.clients)
    assert all(store.get(EntryKey(name, "tagged")) == name.encode() for name in NAMESPACES)
    for name in NAMESPACES[:6]:
        store.invalidate(name, "tag")
    store.delete(EntryKey(NAMESPACES[7], "plain"))
    store.clear(NAMESPACES[8])
    found = {
        (name, digest) for name in NAMESPACES for digest in ("plain", "tagged") if store.get(EntryKey(name, digest))
    }
    assert len(found) == 24 - 6 - 1 - 2
    assert (NAMESPACES[0], "plain") in found


def test_a_cluster_tells_what_is_known_of_every_namespace(store, cluster):
    for name in NAMESPACES:
        for number in range(3):
            store.put(EntryKey(name, str(number)), b"x" * number, tags=("tag",) if number else ())
    for name in NAMESPACES:
        entries = store.facts(name)
        assert sorted((entry.size, "tag" in entry.tags) for entry in entries) == [(0, False), (1, True), (2, True)]
        store.discard(name, [entry.handle for entry in entries if entry.size == 2])
        assert len(store.facts(name)) == 2
        assert store.get(EntryKey(name, "2")) is None


def test_all_keys_of_a_namespace_are_in_one_slot_of_a_cluster(store, cluster):
    for name in NAMESPACES:
        store.put(EntryKey(name, "one"), b"1")
        store.put(EntryKey(name, "two"), b"2", 60, ("tag",))
    names = [name for client in cluster.clients for name in client.scan_iter()]
    assert len(names) == 3 * len(NAMESPACES)
    assert len({(name.split(b":")[1], key_slot(name)) for name in names}) == len(NAMESPACES)


async def test_many_readers_of_a_cluster_share_a_few_commands(cluster):
    store = RedisStore(cluster.url(), timeout=5)
    keys = [EntryKey(name, str(number)) for name in NAMESPACES for number in range(20)]
    await asyncio.gather(*(store.aput(key, key.digest.encode()) for key in keys))
    before = [client.info("stats")["total_commands_processed"] for client in cluster.clients]
    assert await asyncio.gather(*(store.aget(key) for key in keys)) == [key.digest.encode() for key in keys]
    after = [client.info("stats")["total_commands_processed"] for client in cluster.clients]
    assert sum(after) - sum(before) < len(keys)
    await store.aclose()


async def test_a_lease_is_held_by_one_in_a_cluster(cluster):
    mine, theirs = (open_store(cluster.url() + "?timeout=5") for _ in range(2))
    held = await alease(mine, KEY)
    assert lease(theirs, KEY) is None
    held.release()
    deadline = time.monotonic() + 5
    while (again := lease(theirs, KEY)) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    again.release()
    for store in (mine, theirs):
        await store.aclose()


def test_a_server_of_a_cluster_that_dies_takes_its_slots_alone(cluster):
    store = RedisStore(cluster.url(), timeout=1)
    keys = [EntryKey(name, "digest") for name in NAMESPACES]
    for key in keys:
        store.put(key, b"answer")
    cluster.nodes[2].kill()
    assert {_outcome(lambda key=key: store.get(key)) for key in keys} == {b"answer", "unavailable"}
    store.close()
    cluster.nodes[2].start()
    cluster.wait()


def _outcome(call):
    try:
        return call()
    except StoreUnavailable:
        return "unavailable"


async def test_sentinels_name_the_master_and_its_successor(sentinel):
    store = open_store(sentinel.url() + "?timeout=1")
    store.put(KEY, b"answer")
    assert await store.aget(KEY) == b"answer"
    sentinel.master.kill()
    deadline = time.monotonic() + 20
    while _outcome(lambda: store.put(KEY, b"again")) is not True:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert store.get(KEY) == await store.aget(KEY) == b"again"
    await store.aclose()
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://localhost:7000/1",
        "redis+cluster://",
        "redis+cluster://localhost:port",
        "redis+sentinel://localhost:26379",
        "redis+sentinel://localhost/service/first",
        "redis+sentinel://localhost/service/0/more",
    ],
)
def test_a_url_that_names_no_place_is_refused(url):
    with pytest.raises(ConfigurationError, match="looks like redis"):
        open_store(url)


def test_processes_tell_each_other_of_prompts_over_a_cluster(cluster):
    one, other = (RedisLog(cluster.url(), app="shop", max_bytes=1000, horizon=60.0, timeout=5) for _ in range(2))
    for number in range(9):
        one.exchange("a", [Batch("a", number, float(number), b"x" * 200)])
    assert [batch.number for batch in other.exchange("b", [])] == [4, 5, 6, 7, 8]
    one.close()
    other.close()


def test_processes_tell_each_other_of_prompts_behind_sentinels(sentinel):
    one, other = (RedisLog(sentinel.url(), app="shop", max_bytes=1000, horizon=60.0, timeout=5) for _ in range(2))
    batch = Batch("a", 0, 0.0, b"data")
    one.exchange("a", [batch])
    assert other.exchange("b", []) == [batch]
    one.close()
    other.close()
