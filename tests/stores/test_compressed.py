import os
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore, compressed
from prefixcache_integrations.stores.compressed import MAX_BYTES, Compressed
from prefixcache_integrations.stores.wrapper import Get, Put, Wrapper
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, StoreContract

MAGIC = b"\x28\xb5\x2f\xfd"


class Scrambled(Wrapper):
    """Makes values look random, so that they do not compress and bounds are met as the contract counts."""

    def _get(self, key):
        value = yield from Get(self._inner, key)
        return None if value is None else _scramble(value)

    def _put(self, key, value, ttl, tags, began):
        return (yield from Put(self._inner, key, _scramble(value), ttl, tags))


def _scramble(value):
    mask = random.Random(1).randbytes(len(value))  # noqa: S311 - repeatable on purpose
    return (int.from_bytes(value) ^ int.from_bytes(mask)).to_bytes(len(value))


class TestCompressed(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return Compressed(MemoryStore(clock=clock))

    @pytest.fixture
    def small_store(self, clock):
        return Scrambled(Compressed(MemoryStore(max_bytes=SMALL, clock=clock)))


class TestAwaitedCompressed(TestCompressed):
    @pytest.fixture
    def store(self, clock):
        awaited = Awaited(Compressed(MemoryStore(clock=clock)))
        yield awaited
        awaited.stop()


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.fixture
def store(inner):
    return Compressed(inner)


@given(st.binary() | st.binary().map(MAGIC.__add__) | st.binary(max_size=20).map(lambda value: value * 200))
def test_any_value_comes_back_whatever_it_begins_with(value):
    store = Compressed(MemoryStore())
    store.put(KEY, value)
    assert store.get(KEY) == value


def test_a_long_text_takes_less_and_a_short_or_random_one_is_left_as_it_is(store, inner):
    store.put(KEY, b"the same again " * 100)
    assert len(inner.get(KEY)) < 100
    for value in (b"the same again " * 3, os.urandom(5000)):
        store.put(KEY, value)
        assert inner.get(KEY) == value


def test_a_value_that_was_cut_or_altered_or_promises_too_much_is_corrupt(store, inner):
    store.put(KEY, b"the same again " * 100)
    whole = inner.get(KEY)
    bomb = zstandard.ZstdCompressor().compress(bytes(MAX_BYTES + 1))
    endless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(MAX_BYTES + 1))
    for value in (MAGIC, whole[:8], whole[:-1], MAGIC + os.urandom(100), bomb, endless):
        inner.put(KEY, value)
        with pytest.raises(CorruptEntry):
            store.get(KEY)


@pytest.fixture
def expanded(monkeypatch):
    """What is expanded, in order."""
    seen, expand = [], compressed._expanded
    monkeypatch.setattr(compressed, "_expanded", lambda value: seen.append(value) or expand(value))
    return seen


def test_what_was_expanded_lately_is_not_expanded_again_while_it_is_what_is_stored(store, inner, expanded):
    store.put(KEY, b"the same again " * 100)
    assert store.get(KEY) == store.get(KEY) == b"the same again " * 100
    assert len(expanded) == 1
    Compressed(inner).put(KEY, b"another " * 200)
    assert store.get(KEY) == b"another " * 200
    inner.put(KEY, inner.get(KEY)[:-1])
    with pytest.raises(CorruptEntry):
        store.get(KEY)
    inner.delete(KEY)
    assert store.get(KEY) is None


def test_what_is_remembered_is_bounded(store, expanded, monkeypatch):
    keys = [EntryKey("", str(number)) for number in range(20)]
    values = [os.urandom(1000) * 2 for _ in keys]
    monkeypatch.setattr(compressed, "REMEMBERED_BYTES", 8 * 4000)
    for key, value in zip(keys, values, strict=True):
        store.put(key, value)
        assert store.get(key) == value
    expanded.clear()
    assert [store.get(key) for key in reversed(keys)] == values[::-1]
    assert 0 < len(expanded) < len(keys)
    store.put(KEY, large := os.urandom(2000) * 2)
    expanded.clear()
    assert store.get(KEY) == store.get(KEY) == large
    assert len(expanded) == 2


def test_where_zstandard_is_missing_compressed_values_are_not_there_and_new_ones_are_kept_plain(
    store, inner, monkeypatch
):
    store.put(KEY, b"the same again " * 100)
    monkeypatch.setattr(compressed, "_INSTALLED", False)
    assert store.get(KEY) is None
    store.put(KEY, b"the same again " * 100)
    assert inner.get(KEY) == store.get(KEY) == b"the same again " * 100
