import asyncio

import pytest

from prefixcache_integrations.errors import CorruptEntry, StoreUnavailable
from prefixcache_integrations.events import CacheMiss
from prefixcache_integrations.flows.op import Emit, Empty, Entry, EntryKey, Invalidate, Load, Op, Remove, Save
from prefixcache_integrations.runner import arun, run
from prefixcache_integrations.store_io import AsyncStoreIO, InlineIO, StoreIO, aclose, async_io
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.wrapper import Wrapper
from tests.stores.awaited import Waiting

KEY = EntryKey("tenant", "digest")
ENTRY = Entry(codec="test/1", body=b"answer")


def tour():
    """Use every operation once; the results in order."""
    first = yield from Load(KEY)
    size = yield from Save(KEY, ENTRY, 60)
    second = yield from Load(KEY)
    yield from Remove(KEY)
    third = yield from Load(KEY)
    yield from Save(KEY, ENTRY, tags=("tag",))
    yield from Invalidate("tenant", "tag")
    invalidated = yield from Load(KEY)
    yield from Save(KEY, ENTRY)
    yield from Empty("tenant")
    fourth = yield from Load(KEY)
    yield from Emit(CacheMiss(key="digest"))
    return first, size > 0, second, third, invalidated, fourth


@pytest.fixture(params=["blocking", "awaiting"])
def perform(request):
    """Run a flow on an IO, either way."""
    if request.param == "blocking":
        return run
    return lambda flow, io: asyncio.run(arun(flow, InlineIO(io)))


def test_every_operation_is_performed_on_the_store(perform):
    seen = []
    result = perform(tour(), StoreIO(MemoryStore(), [seen.append]))
    assert result == (None, True, ENTRY, None, None, None)
    assert seen == [CacheMiss(key="digest")]


async def test_a_store_with_an_awaiting_face_is_awaited_and_any_other_is_called_inline_also_in_wrappers():
    inline, awaited = MemoryStore(), Waiting(MemoryStore())
    kinds = {inline: InlineIO, Wrapper(inline): InlineIO, awaited: AsyncStoreIO, Wrapper(awaited): AsyncStoreIO}
    for store, kind in kinds.items():
        seen = []
        io = async_io(store, [seen.append])
        assert isinstance(io, kind)
        assert await arun(tour(), io) == (None, True, ENTRY, None, None, None)
        assert seen == [CacheMiss(key="digest")]
        store.put(KEY, b"answer")
        await aclose(store)
        assert store.get(KEY) is None


def test_what_is_too_large_has_no_size(perform):
    def save():
        return (yield from Save(KEY, ENTRY))

    assert perform(save(), StoreIO(MemoryStore(max_bytes=10))) is None


def test_unreadable_bytes_are_thrown_into_the_flow(perform):
    store = MemoryStore()
    store.put(KEY, b"no entry")

    def load():
        try:
            yield from Load(KEY)
        except CorruptEntry:
            return "caught"

    assert perform(load(), StoreIO(store)) == "caught"


class _Down:
    def perform(self, op):
        raise self.error

    def __init__(self, error):
        self.error = error


@pytest.mark.parametrize("error", [StoreUnavailable("down"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_errors_and_interrupts_pass_through_the_cleanup_of_the_flow_and_come_out(perform, error):
    cleaned = []

    def load():
        try:
            yield from Load(KEY)
        finally:
            cleaned.append(True)

    with pytest.raises(type(error)):
        perform(load(), _Down(error))
    assert cleaned == [True]


def test_an_operation_nobody_performs_is_named(perform):
    class Foreign(Op[None], frozen=True):
        pass

    def ask():
        yield from Foreign()

    with pytest.raises(TypeError, match="Foreign"):
        perform(ask(), StoreIO(MemoryStore()))


async def test_a_cancelled_task_cleans_its_flow_up():
    cleaned, started = [], asyncio.Event()

    class Slow:
        async def perform(self, op):
            started.set()
            await asyncio.sleep(60)

    def load():
        try:
            yield from Load(KEY)
        finally:
            cleaned.append(True)

    task = asyncio.create_task(arun(load(), Slow()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]
