import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.errors import ConfigurationError, CorruptEntry
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.envelope import pack
from prefixcache_integrations.stores.sealed import Sealed
from tests.stores.awaited import Awaited
from tests.stores.contract import KEY, SMALL, StoreContract

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


class TestSealed(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return Sealed(MemoryStore(clock=clock), [NEW, OLD])

    @pytest.fixture
    def small_store(self, clock):
        return Sealed(MemoryStore(max_bytes=SMALL, clock=clock), [NEW])


class TestAwaitedSealed(TestSealed):
    @pytest.fixture
    def store(self, clock):
        awaited = Awaited(Sealed(MemoryStore(clock=clock), [NEW, OLD]))
        yield awaited
        awaited.stop()


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.fixture
def store(inner):
    return Sealed(inner, [NEW])


def _only(inner):
    """Return the one key of ``inner`` and its value."""
    [key] = inner._slots
    return key, inner.get(key)


def test_every_altered_missing_or_added_byte_is_refused(store, inner):
    store.put(KEY, pack(KEY, Entry(codec="test", body=b"the answer")))
    name, sealed = _only(inner)
    altered = [
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :] for at in range(len(sealed)) for bit in range(8)
    ]
    cut = [sealed[:at] for at in range(len(sealed))]
    for forged in [*altered, *cut, sealed + b"\0", b"\0" + sealed, bytes(len(sealed)), os.urandom(len(sealed))]:
        inner.put(name, forged)
        with pytest.raises(CorruptEntry):
            store.get(KEY)
    inner.put(name, sealed)
    assert store.get(KEY) is not None


def test_a_value_moved_to_another_key_or_namespace_is_refused(store, inner):
    others = [EntryKey("tenant", "other"), EntryKey("other", "digest"), EntryKey("tenantd", "igest")]
    store.put(KEY, b"answer")
    _, sealed = _only(inner)
    for other in others:
        store.put(other, b"other")
        [name] = [key for key in list(inner._slots) if key.namespace == other.namespace and inner.get(key) != sealed]
        inner.put(name, sealed)
        with pytest.raises(CorruptEntry):
            store.get(other)
        store.delete(other)


def test_neither_the_digest_nor_the_tags_nor_the_text_can_be_found_inside(store, inner):
    store.put(EntryKey("tenant", "digest of a prompt"), b"text of an answer" * 10, tags=("customer 7",))
    [(name, slot)] = inner._slots.items()
    seen = repr((name, slot))
    assert "digest of" not in seen
    assert "text of" not in seen
    assert "customer" not in seen


def test_names_differ_from_secret_to_secret(inner):
    for secret in (OLD, NEW):
        Sealed(inner, [secret]).put(KEY, b"answer")
    assert len(inner._slots) == 2


def test_the_same_value_is_never_sealed_twice_alike(store, inner):
    seen = set()
    for _ in range(50):
        store.put(KEY, b"answer")
        seen.add(_only(inner)[1])
    assert len(seen) == 50


def test_after_a_rotation_old_values_are_read_and_replaced_and_invalidated_and_new_ones_need_no_old_secret(inner):
    before, during, after = (Sealed(inner, ring) for ring in ([OLD], [NEW, OLD], [NEW]))
    other = EntryKey("tenant", "other")
    before.put(KEY, b"old", tags=("tag",))
    before.put(other, b"old other", tags=("tag",))
    assert during.get(KEY) == b"old"
    during.put(KEY, b"new")
    assert before.get(KEY) is None
    assert after.get(KEY) == during.get(KEY) == b"new"
    during.invalidate("tenant", "tag")
    assert during.get(other) is None
    assert during.get(KEY) == b"new"
    before.put(other, b"old other")
    during.delete(other)
    assert before.get(other) is None


@pytest.mark.parametrize("secrets", [[], [b"short"], [NEW, b""]])
def test_secrets_that_could_be_guessed_are_refused(secrets, inner):
    with pytest.raises(ConfigurationError):
        Sealed(inner, secrets)


@given(st.text(), st.text(), st.binary())
def test_any_key_and_value_come_back(namespace, digest, value):
    store = Sealed(MemoryStore(), [NEW])
    key = EntryKey(namespace, digest)
    store.put(key, value)
    assert store.get(key) == value
