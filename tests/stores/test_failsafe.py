import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefixcache_integrations.errors import CorruptEntry, StoreRefused, StoreUnavailable
from prefixcache_integrations.events import StoreRestored, StoreSuspended
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.failsafe import FailSafe
from prefixcache_integrations.stores.redis import RedisStore
from prefixcache_integrations.stores.sealed import Sealed
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, Clock, StoreContract


class TestFailSafe(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return FailSafe(MemoryStore(clock=clock), clock=clock)

    @pytest.fixture
    def small_store(self, clock):
        return FailSafe(MemoryStore(max_bytes=SMALL, clock=clock), clock=clock)


class TestAwaitedFailSafe(TestFailSafe):
    @pytest.fixture
    def store(self, clock):
        awaited = Awaited(FailSafe(MemoryStore(clock=clock), clock=clock))
        yield awaited
        awaited.stop()


class Moody(MemoryStore):
    """Raises ``error`` while it is set, and counts the calls it got."""

    def __init__(self):
        super().__init__()
        self.error, self.calls = None, 0

    def get(self, key):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return super().get(key)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def moody():
    return Moody()


@pytest.fixture
def store(moody, clock, events):
    return FailSafe(moody, observers=(events.append,), clock=clock)


def _fails(store):
    with pytest.raises(StoreUnavailable):
        store.get(KEY)


def test_a_store_that_failed_is_asked_once_per_period_until_it_answers(store, moody, clock, events):
    moody.put(KEY, b"answer")
    moody.error = StoreUnavailable("down")
    for _ in range(100):
        _fails(store)
    assert moody.calls == 1
    clock.advance(0.99)
    _fails(store)
    assert moody.calls == 1
    clock.advance(0.02)
    for _ in range(100):
        _fails(store)
    assert moody.calls == 2
    assert events == [StoreSuspended(error="StoreUnavailable")]
    moody.error = None
    clock.advance(1)
    assert [store.get(KEY) for _ in range(3)] == [b"answer"] * 3
    assert events == [StoreSuspended(error="StoreUnavailable"), StoreRestored()]


@pytest.mark.parametrize("error", [CorruptEntry("flipped"), StoreRefused("full")])
def test_an_answer_in_time_is_no_failure_even_if_it_is_no(store, moody, clock, events, error):
    moody.error = error
    for _ in range(3):
        with pytest.raises(type(error)):
            store.get(KEY)
    assert (moody.calls, events) == (3, [])
    moody.error = StoreUnavailable("down")
    _fails(store)
    clock.advance(1.1)
    moody.error = error
    with pytest.raises(type(error)):
        store.get(KEY)
    assert events[-1] == StoreRestored()


def test_what_a_store_should_not_raise_counts_as_a_failure_too(store, moody):
    moody.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        store.get(KEY)
    _fails(store)
    assert moody.calls == 1


async def test_a_probe_that_is_cancelled_leaves_the_next_to_the_next_period(moody, clock):
    class Hanging:
        def __init__(self):
            self.calls = 0

        async def aget(self, key):
            self.calls += 1
            if self.calls == 1:
                raise StoreUnavailable("down")
            await asyncio.sleep(60)

        aput = adelete = ainvalidate = afacts = adiscard = aclear = aclose = aget

    hanging = Hanging()
    store = FailSafe(hanging, clock=clock)
    with pytest.raises(StoreUnavailable):
        await store.aget(KEY)
    clock.advance(1.1)
    probe = asyncio.create_task(store.aget(KEY))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await store.aget(KEY)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert hanging.calls == 2
    clock.advance(1.1)
    second = asyncio.create_task(store.aget(KEY))
    await asyncio.sleep(0)
    assert hanging.calls == 3
    second.cancel()


def test_an_altered_value_does_not_open_the_breaker(moody, clock, events):
    store = FailSafe(Sealed(moody, [bytes(32)]), observers=(events.append,), clock=clock)
    store.put(KEY, b"answer")
    [name] = moody._slots
    moody.put(name, b"altered")
    with pytest.raises(CorruptEntry):
        store.get(KEY)
    assert events == []


def _answers_to(store, seconds):
    """Ask for a while; return how many answers came, and how many failures had asked the server before they failed."""
    answered, asked = 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            store.get(KEY)
            answered += 1
        except StoreUnavailable as error:
            asked += "a moment ago" not in str(error)
        time.sleep(0.02)
    return answered, asked


def test_under_load_only_the_calls_in_flight_and_a_probe_per_period_wait_for_a_hanging_server(start_redis):
    server = start_redis()
    events = []
    store = FailSafe(RedisStore(server.url()), period=0.5, observers=(events.append,))
    store.put(KEY, b"answer")
    server.pause()
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: _answers_to(store, 1.3), range(8)))
        assert sum(answered for answered, _ in counts) == 0
        assert 1 <= sum(asked for _, asked in counts) <= 8 + 6
        server.resume()
        counts = list(pool.map(lambda _: _answers_to(store, 2), range(8)))
    assert sum(answered for answered, _ in counts) > 0
    assert [type(event) for event in events] == [StoreSuspended, StoreRestored]
    store.close()


def test_a_server_killed_under_load_is_used_again_when_it_is_back(start_redis):
    server = start_redis()
    store = FailSafe(RedisStore(server.url()))
    store.put(KEY, b"answer")
    server.kill()
    for _ in range(1000):
        with pytest.raises(StoreUnavailable):
            store.get(KEY)
    server.start()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            store.put(EntryKey("tenant", "later"), b"later")
            break
        except StoreUnavailable:
            time.sleep(0.02)
    assert store.get(EntryKey("tenant", "later")) == b"later"
    store.close()
