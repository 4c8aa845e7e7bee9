"""The right to make a call, among all who share a store."""

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from redis import Redis

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.flights import UNSHARED
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore, SQLiteStore
from prefixcache_integrations.stores import redis_lease as redis_lease_module
from prefixcache_integrations.stores.compressed import Compressed
from prefixcache_integrations.stores.failsafe import FailSafe
from prefixcache_integrations.stores.leases import alease, lease
from prefixcache_integrations.stores.postgres import PostgresStore
from prefixcache_integrations.stores.readonly import ReadOnly
from prefixcache_integrations.stores.redis import RedisStore
from prefixcache_integrations.stores.sealed import Sealed
from prefixcache_integrations.stores.tiered import Tiered

KEY, OTHER = EntryKey("tenant", "digest"), EntryKey("tenant", "other")
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def server(shared_redis):
    """The URL of a Redis server with nothing in it."""
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    return shared_redis.url()


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def open_again(request, opening):
    """Return a function that opens one and the same store, as another process would."""
    opened = []

    def begin():
        opened.append(opening[0](opening[1]))
        return opened[-1]

    yield begin
    for store in opened:
        store.close()


@pytest.fixture
def opening(request, tmp_path):
    """Return a store's class, and where it opens, for the store that ``open_again`` is about."""
    match request.node.callspec.params["open_again"]:
        case "redis":
            return partial(RedisStore, timeout=5), request.getfixturevalue("server")
        case "postgres":
            return partial(PostgresStore, timeout=5), request.getfixturevalue("shared_postgres").url()
    return SQLiteStore, tmp_path / "answers.db"


@pytest.fixture(params=["blocking", "awaiting"])
def take(request):
    """Take a lease either way."""
    with asyncio.Runner() as runner:
        yield lease if request.param == "blocking" else lambda store, key: runner.run(alease(store, key))


def eventually(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_one_holds_a_lease_until_it_is_released(open_again, take):
    mine, theirs = open_again(), open_again()
    held = take(mine, KEY)
    assert held is not None
    assert take(theirs, KEY) is None
    assert take(mine, KEY) is None
    held.release()
    held.release()
    again = eventually(lambda: take(theirs, KEY))
    held.release()
    assert take(mine, KEY) is None
    again.release()


def test_other_keys_and_namespaces_have_other_leases(open_again):
    store = open_again()
    held = [lease(store, key) for key in (KEY, OTHER, EntryKey("", "digest"), EntryKey("tenant:", "digest"))]
    assert None not in held
    for each in held:
        each.release()


def test_of_many_threads_one_holds(open_again):
    stores, together = [open_again() for _ in range(8)], threading.Barrier(8)

    def work(store):
        together.wait()
        return lease(store, KEY)

    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            held = [each for each in pool.map(work, stores) if each is not None]
        assert len(held) == 1
        held[0].release()
        eventually(lambda: (again := lease(stores[0], KEY)) and (again.release(), True))
        time.sleep(0.02)


def hold(make, argument, key, pipe):
    held = lease(make(argument), key)
    pipe.send(held is not None)
    time.sleep(60)


def test_a_lease_of_a_process_that_was_killed_is_free_soon(open_again, opening):
    store, (make, argument) = open_again(), opening
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=hold, args=(make, argument, KEY, theirs))
    process.start()
    assert ours.recv() is True
    assert lease(store, KEY) is None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    eventually(lambda: lease(store, KEY), seconds=redis_lease_module.LEASE_SECONDS + 2).release()


def test_a_lease_in_redis_lives_as_long_as_it_is_held(server, monkeypatch):
    monkeypatch.setattr(redis_lease_module, "LEASE_SECONDS", 0.5)
    store, other = (RedisStore(server, timeout=5) for _ in range(2))
    held = lease(store, KEY)
    for _ in range(15):
        assert lease(other, KEY) is None
        time.sleep(0.1)
    held.release()
    eventually(lambda: lease(other, KEY)).release()
    store.close()
    other.close()


def test_a_lease_in_redis_lives_while_others_come_and_go(server, monkeypatch):
    monkeypatch.setattr(redis_lease_module, "LEASE_SECONDS", 0.5)
    store, other = (RedisStore(server, timeout=5) for _ in range(2))
    lease(store, KEY)
    for number in range(50):
        lease(store, EntryKey("tenant", str(number))).release()
        assert lease(other, KEY) is None
        time.sleep(0.02)
    store.close()
    other.close()


def test_a_lease_in_redis_that_nobody_releases_ends(server, monkeypatch):
    monkeypatch.setattr(redis_lease_module, "LEASE_SECONDS", 0.15)
    monkeypatch.setattr(redis_lease_module, "LONGEST_FLIGHT", 0.2)
    store = RedisStore(server, timeout=5)
    lease(store, KEY)
    eventually(lambda: lease(store, KEY), seconds=2)
    store.close()


def test_a_lease_in_redis_that_ran_out_takes_no_other_with_it(server):
    store, client = RedisStore(server, timeout=5), Redis.from_url(server)
    held = lease(store, KEY)
    [name] = client.keys("*:lease")
    client.set(name, "another's")
    held.release()
    store.close()
    time.sleep(0.1)
    assert client.get(name) == b"another's"
    client.close()


@pytest.mark.parametrize(
    "damage", [lambda client, name: client.set(name, "x"), lambda client, name: client.persist(name)]
)
def test_a_lease_in_redis_that_would_never_end_is_taken_over_by_one(server, take, damage):
    stores = [RedisStore(server, timeout=5) for _ in range(2)]
    lease(stores[0], KEY)
    stores[0]._keeper._held.clear()  # as if its process had died
    with Redis.from_url(server) as client:
        [name] = client.keys("*:lease")
        damage(client, name)
        held = take(stores[1], KEY)
        assert held is not None
        assert 0 < client.pttl(name) <= redis_lease_module.LEASE_SECONDS * 1000
    assert take(stores[0], KEY) is None
    held.release()
    eventually(lambda: take(stores[0], KEY)).release()
    for store in stores:
        store.close()


def test_who_may_run_no_scripts_has_leases_that_run_out(server):
    with Redis.from_url(server) as client:
        client.acl_setuser("plain", enabled=True, passwords=["+pass"], keys=["pfx:*"], commands=["+set", "+get"])
        stores = [RedisStore(server.replace("//", "//plain:pass@", 1), timeout=5) for _ in range(2)]
        assert [lease(store, KEY) is None for store in stores] == [False, True]
        for store in stores:
            store.close()
        client.acl_deluser("plain")


def test_the_thread_that_keeps_leases_ends_with_the_last(server):
    store = RedisStore(server, timeout=5)
    for _ in range(3):
        held = lease(store, KEY)
        assert store._keeper._thread in threading.enumerate()
        held.release()
        eventually(lambda: store._keeper._thread is None)
    store.close()


def test_closing_a_store_releases_its_leases(server):
    store, other = (RedisStore(server, timeout=5) for _ in range(2))
    lease(store, KEY)
    store.close()
    eventually(lambda: lease(other, KEY), seconds=1).release()
    other.close()


def test_a_forked_child_neither_holds_nor_releases_what_its_parent_holds(tmp_path):
    store = SQLiteStore(tmp_path / "answers.db")
    held = lease(store, KEY)
    child = os.fork()
    if child == 0:
        held.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert lease(SQLiteStore(tmp_path / "answers.db"), KEY) is None
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    held.release()
    again = lease(store, KEY)
    assert again is not None
    again.release()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_nothing_is_left_of_released_leases_on_disk(tmp_path):
    store = SQLiteStore(tmp_path / "answers.db")
    for _ in range(3):
        lease(store, KEY).release()
    assert list((tmp_path / "answers.db-leases").iterdir()) == []


def test_a_lease_that_nobody_refers_to_is_released(tmp_path):
    store = SQLiteStore(tmp_path / "answers.db")
    lease(store, KEY)
    assert lease(store, KEY) is not None


def test_a_folder_that_cannot_be_made_is_a_store_that_fails(tmp_path):
    (tmp_path / "answers.db-leases").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        lease(SQLiteStore(tmp_path / "answers.db"), KEY)


def test_memory_and_what_is_never_written_have_nothing_to_share(take, tmp_path):
    for store in (MemoryStore(), ReadOnly(SQLiteStore(tmp_path / "answers.db")), Compressed(MemoryStore())):
        assert take(store, KEY) is UNSHARED
        assert take(store, KEY) is UNSHARED
    UNSHARED.release()


@pytest.mark.parametrize("wrap", [Compressed, FailSafe, lambda store: Tiered(MemoryStore(), store)])
def test_wrappers_pass_leases_on(wrap, take, tmp_path):
    store = SQLiteStore(tmp_path / "answers.db")
    held = take(wrap(store), KEY)
    assert lease(store, KEY) is None
    assert take(wrap(store), KEY) is None
    held.release()
    lease(store, KEY).release()


def test_a_sealed_lease_is_under_a_hidden_name(take, tmp_path):
    store, secrets = SQLiteStore(tmp_path / "answers.db"), [bytes(32), bytes(range(32))]
    held = take(Sealed(store, secrets), KEY)
    assert take(Sealed(store, secrets), KEY) is None
    lease(store, KEY).release()
    held.release()


def test_a_server_that_is_down_is_asked_for_no_more_leases(start_redis, take):
    server = start_redis()
    store = FailSafe(RedisStore(server.url()), period=60)
    server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            take(store, KEY)
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        store.get(KEY)
