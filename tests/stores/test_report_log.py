"""The contract of logs of reports, over the stores that they are kept in."""

import time

import pytest
from redis import Redis

from prefixcache_integrations.errors import ConfigurationError, CorruptEntry, StoreUnavailable
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores.opening import open_store
from prefixcache_integrations.stores.redis_reports import READ, RedisLog
from prefixcache_integrations.stores.report_log import NAMESPACE, Batch, StoreLog

ROOMY = 2**20


@pytest.fixture(params=["redis", "sqlite", "memory", "postgres"])
def logs(request, shared_redis, tmp_path):
    """Return a function that makes another log at the same place."""
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    store, made = open_store("memory://"), []
    place = f"sqlite:///{tmp_path}/log.db"
    if request.param == "postgres":
        place = request.getfixturevalue("shared_postgres").url()
        open_store(place).clear(NAMESPACE)

    def log(app="shop", max_bytes=ROOMY):
        bounds = {"app": app, "max_bytes": max_bytes, "horizon": 3600.0}
        if request.param == "redis":
            made.append(RedisLog(shared_redis.url(), **bounds))
        else:
            made.append(StoreLog(store if request.param == "memory" else open_store(place), **bounds))
        return made[-1]

    yield log
    for each in made:
        each.close()


def batch(origin, number, data=b"data"):
    return Batch(origin, number, 1000.0 + number, data)


def test_one_that_starts_learns_all_there_is(logs):
    first = [batch("a", number) for number in range(3)]
    assert logs().exchange("a", first) == []
    assert list(logs().exchange("b", [])) == first


def test_each_learns_what_others_add_and_nothing_twice(logs):
    one, other = logs(), logs()
    one.exchange("a", [])
    other.exchange("b", [batch("b", 0)])
    assert list(one.exchange("a", [batch("a", 0)])) == [batch("b", 0)]
    assert list(other.exchange("b", [batch("b", 1)])) == [batch("a", 0)]
    assert list(one.exchange("a", [])) == [batch("b", 1)]
    assert list(one.exchange("a", [])) == list(other.exchange("b", [])) == []


def test_what_is_added_again_is_known_by_its_number(logs):
    logs().exchange("a", [batch("a", 0)])
    logs().exchange("a", [batch("a", 0)])
    assert {(each.origin, each.number) for each in logs().exchange("b", [])} == {("a", 0)}


def test_applications_do_not_know_of_each_other(logs):
    logs("shop").exchange("a", [batch("a", 0)])
    assert list(logs("desk").exchange("b", [])) == []


def test_the_oldest_goes_where_there_is_no_more_room(logs):
    writer = logs(max_bytes=5000)
    for number in range(20):
        writer.exchange("a", [batch("a", number, bytes([number]) * 900)])
    found = list(logs().exchange("b", []))
    assert 3 <= len(found) <= 5
    assert [each.number for each in found] == list(range(20))[-len(found) :]


def test_many_are_read_in_order(logs):
    reader, writer = logs(), logs()
    reader.exchange("b", [])
    added = [batch("a", number) for number in range(READ + 20)]
    writer.exchange("a", added)
    assert list(reader.exchange("b", [])) == added


def test_a_log_that_was_cleared_begins_anew(logs, shared_redis):
    one, other = logs(), logs()
    one.exchange("a", [batch("a", 0)])
    other.exchange("b", [])
    if isinstance(one, RedisLog):
        with Redis.from_url(shared_redis.url()) as client:
            client.flushall()
        time.sleep(0.002)  # a stream names its entries by the server's milliseconds
    else:
        one._store.clear(NAMESPACE)
    one.exchange("a", [batch("a", 1)])
    assert [each.number for each in other.exchange("b", []) if each.number > 0] == [1]


def test_a_value_that_is_no_log_is_said_and_replaced(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/log.db")
    store.put(EntryKey(NAMESPACE, "shop"), b"anything")
    log = StoreLog(store, app="shop", max_bytes=ROOMY, horizon=60.0)
    with pytest.raises(CorruptEntry):
        log.exchange("a", [batch("a", 0)])
    assert list(log.exchange("a", [batch("a", 0)])) == []
    assert list(StoreLog(store, app="shop", max_bytes=ROOMY, horizon=60.0).exchange("b", [])) == [batch("a", 0)]
    log.close()


def test_a_store_that_is_smaller_than_the_log_keeps_the_latest():
    store = open_store("memory://?max_bytes=5000")
    log = StoreLog(store, app="shop", max_bytes=ROOMY, horizon=60.0)
    for number in range(20):
        log.exchange("a", [batch("a", number, bytes([number]) * 900)])
    found = StoreLog(store, app="shop", max_bytes=ROOMY, horizon=60.0).exchange("b", [])
    assert found
    assert [each.number for each in found] == list(range(20))[-len(found) :]


def test_a_key_that_is_no_stream_is_said(shared_redis):
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
        client.set("pfxmem:{shop}", "anything")
    log = RedisLog(shared_redis.url(), app="shop", max_bytes=ROOMY, horizon=60.0)
    with pytest.raises(StoreUnavailable):
        log.exchange("a", [])
    log.close()


def test_what_others_put_into_the_stream_is_passed_over(shared_redis):
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
        for fields in ({"x": "y"}, {"o": "z", "n": "no number", "t": "0", "b": ""}):
            client.xadd("pfxmem:{shop}", fields)
    log = RedisLog(shared_redis.url(), app="shop", max_bytes=20, horizon=60.0)
    assert log.exchange("a", [batch("a", 0)]) == []
    assert log.exchange("a", [batch("a", number, b"more than fits together") for number in (1, 2)]) == []
    log.close()


def test_a_stream_is_gone_some_time_after_the_last_batch(shared_redis):
    log = RedisLog(shared_redis.url(), app="fleeting", max_bytes=ROOMY, horizon=60.0)
    log.exchange("a", [batch("a", 0)])
    log.close()
    with Redis.from_url(shared_redis.url()) as client:
        assert all(0 < client.ttl(key) <= 60 for key in client.keys("pfxmem:{fleeting}*"))


def test_a_url_of_no_server_is_refused():
    with pytest.raises(ConfigurationError):
        RedisLog("redis://host:no", app="", max_bytes=1, horizon=1.0)
