import asyncio

import pytest

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.redis import RedisStore
from prefixcache_integrations.stores.tiered import Tiered
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, Clock, StoreContract


def _tiered(clock, max_bytes=2**20 * 8):
    near, far = MemoryStore(clock=clock), MemoryStore(max_bytes=max_bytes, clock=clock)
    return Tiered(near, far, near_ttl=0.5)


class TestTiered(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return _tiered(clock)

    @pytest.fixture
    def small_store(self, clock):
        near = MemoryStore(max_bytes=SMALL, clock=clock)
        return Tiered(near, MemoryStore(max_bytes=SMALL, clock=clock))


class TestAwaitedTiered(TestTiered):
    @pytest.fixture
    def store(self, clock):
        awaited = Awaited(_tiered(clock))
        yield awaited
        awaited.stop()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def near(clock):
    return MemoryStore(clock=clock)


@pytest.fixture
def far(clock):
    return MemoryStore(clock=clock)


@pytest.fixture
def store(near, far):
    return Tiered(near, far, near_ttl=5)


class Interrupted(MemoryStore):
    """Lets something else happen between its reading of a value and that of who asked."""

    meanwhile = staticmethod(lambda: None)

    def get(self, key):
        value = super().get(key)
        self.meanwhile()
        return value


@pytest.mark.parametrize(
    "delete",
    [
        lambda store: store.clear(KEY.namespace),
        lambda store: store.invalidate(KEY.namespace, "tag"),
        lambda store: store.discard(KEY.namespace, [KEY]),
    ],
    ids=["clear", "invalidate", "discard"],
)
def test_what_is_deleted_while_it_is_read_far_away_does_not_come_back(clock, delete):
    far = Interrupted(clock=clock)
    store = Tiered(MemoryStore(clock=clock), far)
    far.put(KEY, b"answer", tags=["tag"])
    far.meanwhile = lambda: delete(store)
    assert store.get(KEY) == b"answer"
    assert store.get(KEY) is None


@pytest.mark.parametrize(
    ("change", "left"),
    [(lambda store: store.delete(KEY), None), (lambda store: store.put(KEY, b"new"), b"new")],
    ids=["delete", "put"],
)
@pytest.mark.parametrize("moment", ["far", "near"])
def test_what_is_changed_while_it_is_read_far_away_is_not_read_again_as_it_was(clock, change, left, moment):
    near, far = Interrupted(clock=clock), Interrupted(clock=clock)
    store = Tiered(near, far)
    far.put(KEY, b"old")

    def once():
        far.meanwhile = near.meanwhile = lambda: None
        change(store)

    (far if moment == "far" else near).meanwhile = once
    store.get(KEY)
    assert store.get(KEY) == far.get(KEY) == left


def test_what_is_put_while_it_is_put_near_is_not_read_again_as_it_was(clock):
    class Slow(MemoryStore):
        meanwhile = staticmethod(lambda: None)

        def put_since(self, *args):
            taken = super().put_since(*args)
            self.meanwhile()
            return taken

    near, far = Slow(clock=clock), MemoryStore(clock=clock)
    store = Tiered(near, far)
    far.put(KEY, b"old")
    near.meanwhile = lambda: store.delete(KEY)
    assert store.get(KEY) == b"old"
    assert store.get(KEY) is None


def test_what_is_read_while_it_is_put_is_not_near_as_it_was(near, clock):
    class Writing(MemoryStore):
        def put(self, *args):
            seen.append(store.get(KEY))
            return super().put(*args)

    seen, far = [], Writing(clock=clock)
    store = Tiered(near, far)
    MemoryStore.put(far, KEY, b"old")
    store.put(KEY, b"new")
    assert seen == [b"old"]
    assert store.get(KEY) == b"new"


def test_what_was_found_far_away_is_near_for_a_short_time(store, near, far, clock):
    far.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"
    far.delete(KEY)
    clock.advance(4.9)
    assert store.get(KEY) == b"answer"
    clock.advance(0.2)
    assert store.get(KEY) is None


def test_what_was_put_is_in_both_and_is_read_again_from_afar_when_near_has_forgotten(store, near, far, clock):
    store.put(KEY, b"answer", 60)
    assert near.get(KEY) == far.get(KEY) == b"answer"
    clock.advance(50)
    assert near.get(KEY) is None
    assert store.get(KEY) == b"answer"


def test_deleting_invalidating_and_clearing_reach_both(store, near, far):
    other = EntryKey("tenant", "other")
    for forget in (
        lambda: store.delete(KEY),
        lambda: store.invalidate("tenant", "tag"),
        lambda: store.clear("tenant"),
    ):
        store.put(KEY, b"answer", tags=("tag",))
        store.put(other, b"other")
        store.get(KEY)
        forget()
        assert near.get(KEY) is far.get(KEY) is store.get(KEY) is None


class Down(MemoryStore):
    def _fail(self, *_):
        raise StoreUnavailable("down")

    get = put = delete = invalidate = clear = _fail


def test_while_the_far_store_fails_the_near_one_answers_and_takes_what_is_put(near):
    store = Tiered(near, Down(), near_ttl=5)
    with pytest.raises(StoreUnavailable):
        store.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"
    with pytest.raises(StoreUnavailable):
        store.clear("tenant")
    assert near.get(KEY) is None


def test_a_hit_near_asks_no_server(start_redis):
    server = start_redis()
    store = Tiered(MemoryStore(), RedisStore(server.url()))
    store.put(KEY, b"answer")
    server.kill()
    assert store.get(KEY) == b"answer"
    assert asyncio.run(store.aget(KEY)) == b"answer"
    store.close()
