import pytest

from prefixcache_integrations.errors import StoreRefused
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.readonly import ReadOnly
from tests.stores.contract import KEY


@pytest.fixture
def inner():
    store = MemoryStore()
    store.put(KEY, b"answer", tags=("tag",))
    return store


@pytest.fixture
def store(inner):
    return ReadOnly(inner)


def test_what_is_there_is_read(store):
    assert store.get(KEY) == b"answer"


def test_nothing_is_taken_and_nothing_is_forgotten(store, inner):
    assert store.put(KEY, b"other") is False
    store.delete(KEY)
    assert inner.get(KEY) == b"answer"


def test_whoever_wants_to_clear_or_to_invalidate_is_told_that_it_did_not_happen(store, inner):
    with pytest.raises(StoreRefused):
        store.clear("tenant")
    with pytest.raises(StoreRefused):
        store.invalidate("tenant", "tag")
    assert inner.get(KEY) == b"answer"


async def test_the_same_awaiting(store, inner):
    assert await store.aget(KEY) == b"answer"
    assert await store.aput(KEY, b"other") is False
    await store.adelete(KEY)
    with pytest.raises(StoreRefused):
        await store.aclear("tenant")
    with pytest.raises(StoreRefused):
        await store.ainvalidate("tenant", "tag")
    assert inner.get(KEY) == b"answer"
    await store.aclose()
