import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import envelope
from prefixcache_integrations.stores.envelope import pack, unpack

KEY = EntryKey("tenant", "digest")
ENTRY = Entry(codec="test/1", body=b"body of the answer")

texts = st.text(max_size=20)


@given(texts, texts, texts, st.binary(max_size=200))
def test_an_entry_comes_back_under_its_key(namespace, digest, codec, body):
    key, entry = EntryKey(namespace, digest), Entry(codec=codec, body=body)
    assert unpack(key, pack(key, entry)) == entry


@given(texts, texts, texts, texts)
def test_an_entry_is_refused_under_every_other_key(namespace, digest, other_namespace, other_digest):
    key, other = EntryKey(namespace, digest), EntryKey(other_namespace, other_digest)
    value = pack(key, ENTRY)
    if other != key:
        with pytest.raises(CorruptEntry):
            unpack(other, value)


def test_every_flipped_bit_and_every_cut_is_refused():
    value = pack(KEY, ENTRY)
    flipped = [
        bytes(byte ^ (1 << bit) if index == at else byte for index, byte in enumerate(value))
        for at in range(len(value))
        for bit in range(8)
    ]
    cut = [value[:length] for length in range(len(value))]
    for broken in (*flipped, *cut, value + b"\0"):
        with pytest.raises(CorruptEntry):
            unpack(KEY, broken)


def test_garbage_is_refused():
    dice = random.Random(7)  # noqa: S311 - repeatable on purpose
    for _ in range(20_000):
        with pytest.raises(CorruptEntry):
            unpack(KEY, dice.choice([b"", b"pfx\x01"]) + dice.randbytes(dice.randrange(60)))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        msgspec.msgpack.encode("text"),
        msgspec.msgpack.encode(["test/1"]),
        msgspec.msgpack.encode(["test/1", "text", 3]),
        msgspec.msgpack.encode([1, b"body"]),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\x06\x00\x00\x00",
    ],
    ids=["nothing", "text", "short", "long", "wrong type", "deep", "4 billion items", "100 MB of bytes"],
)
def test_a_well_sealed_record_of_another_shape_is_refused(record):
    value = envelope._HEADER + envelope._checksum(KEY, record) + record
    with pytest.raises(CorruptEntry):
        unpack(KEY, value)
