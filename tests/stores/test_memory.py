import tracemalloc

import pytest

from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore
from tests.stores.contract import SMALL, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock=clock)

    @pytest.fixture
    def small_store(self, clock):
        return MemoryStore(max_bytes=SMALL, clock=clock)

    def test_what_is_read_often_stays(self, small_store):
        favourite = EntryKey("tenant", "favourite")
        small_store.put(favourite, bytes(10_000))
        for number in range(100):
            small_store.put(EntryKey("tenant", f"digest {number}"), bytes(10_000))
            assert small_store.get(favourite) is not None

    def test_an_expired_value_gives_its_room_back_when_it_is_asked_for(self, small_store, clock):
        expiring, lasting = EntryKey("tenant", "expiring"), EntryKey("tenant", "lasting")
        small_store.put(lasting, bytes(90_000))
        small_store.put(expiring, bytes(90_000), 10)
        clock.advance(11)
        assert small_store.get(expiring) is None
        small_store.put(EntryKey("tenant", "next"), bytes(90_000))
        assert small_store.get(lasting) is not None


def test_the_bound_is_about_what_memory_it_really_takes():
    bound = 2_000_000
    tracemalloc.start()
    try:
        store = MemoryStore(max_bytes=bound)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            store.put(EntryKey("tenant", f"v1.sha256.{number:064}"), bytes(300))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * bound < taken < bound
