import tracemalloc

import pytest

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import MemoryStore, envelope
from prefixcache_integrations.stores.envelope import pack, unpack
from tests.stores.contract import SMALL, StoreContract

KEY = EntryKey("tenant", "digest")
ENTRY = Entry(codec="test/1", body=b"answer")


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


def test_what_was_found_whole_is_not_checked_again_and_takes_no_more_memory(monkeypatch):
    store = MemoryStore()
    keys = [EntryKey("tenant", str(number)) for number in range(1000)]
    for key in keys:
        store.put(key, pack(key, ENTRY))
    tracemalloc.start()
    try:
        for key in keys:
            assert unpack(key, store.get(key)) == ENTRY
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 10 * len(keys)
    monkeypatch.setattr(envelope, "_checksum", lambda *_: pytest.fail("checked again"))
    assert unpack(keys[0], store.get(keys[0])) == ENTRY


def test_what_was_found_whole_under_one_key_is_refused_under_another():
    store, other = MemoryStore(), EntryKey("another tenant", "digest")
    store.put(KEY, pack(KEY, ENTRY))
    assert unpack(KEY, store.get(KEY)) == ENTRY
    store.put(other, store.get(KEY))
    with pytest.raises(CorruptEntry):
        unpack(other, store.get(other))
