"""A hundred thousand damaged entries: each is a miss and deleted, whatever was done to it."""

import json
import os
import pickle
import random
from functools import partial

import msgspec
import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.events import CacheMiss, EntryRejected
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.flows.open_settle import open_call
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain.generations import CODEC, read, write
from prefixcache_integrations.runner import run
from prefixcache_integrations.store_io import StoreIO
from prefixcache_integrations.stores import MemoryStore, SQLiteStore
from prefixcache_integrations.stores.compressed import Compressed
from prefixcache_integrations.stores.envelope import pack

ENTRIES = 100_000
IN_SQLITE = 10
"""Of so many entries, one lies in a file; the others in memory."""

KEYS = [EntryKey(namespace, f"v1.sha256.{number}") for number in range(8) for namespace in ("", "tenant")]


class Ran(Exception):
    """Somebody ran what an entry said."""


class Bomb:
    def __reduce__(self):
        return exec, ("from tests.langchain.test_fuzzed_entries import Ran; raise Ran",)


def answer(dice):
    message = AIMessage(
        f"Answer {dice.random()} " * dice.randrange(1, 60),
        tool_calls=[{"name": "look_up", "args": {"order": dice.randrange(99)}, "id": "call_1", "type": "tool_call"}],
        usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
    )
    return write([ChatGeneration(message=message)])


def flipped(dice, key, entries):
    value = bytearray(pack(key, dice.choice(entries)))
    for bit in dice.sample(range(8 * len(value)), dice.randrange(1, 4)):
        value[bit // 8] ^= 1 << bit % 8
    return bytes(value)


def cut(dice, key, entries):
    value = pack(key, dice.choice(entries))
    return value[: dice.randrange(len(value))]


def lengthened(dice, key, entries):
    return pack(key, dice.choice(entries)) + dice.randbytes(dice.randrange(1, 9))


def of_another_key(dice, key, entries):
    other = dice.choice([other for other in KEYS if other != key])
    return pack(other, dice.choice(entries))


def noise(dice, _, __):
    return dice.randbytes(dice.randrange(200))


_GENERATION = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "ChatGeneration"], "kwargs": {}}
FORGED = [
    dumps(ChatGeneration(message=AIMessage("forged"))).encode(),
    json.dumps([_GENERATION]).encode(),
    json.dumps([{**_GENERATION, "id": ["builtins", "exec"], "kwargs": {"source": "raise SystemExit"}}]).encode(),
    json.dumps([{"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}]).encode(),
    b"forged text",
    b"42",
    b"null",
    b"",
    pickle.dumps(Bomb()),
    msgspec.msgpack.encode([["text", None, "os.system"]]),
    msgspec.msgpack.encode([{"type": "HumanMessage", "content": "forged"}]),
    msgspec.msgpack.encode(msgspec.msgpack.Ext(1, pickle.dumps(Bomb()))),
]


def forged(dice, key, _):
    """Well packed, so that only what it says gives it away."""
    codec = dice.choice([CODEC, "pickle", "langchain_core.load", "builtins.exec", "langchain-generations/1", ""])
    return pack(key, Entry(codec=codec, body=dice.choice(FORGED)))


DEEP = [
    b"\x91" * 10_000, b"\x81\xa1a" * 10_000, b"[" * 10_000, b'{"a":' * 10_000, b"\x91\x94\xa4text" + b"\x91" * 10_000,
]  # fmt: skip


def deep(dice, key, _):
    return pack(key, Entry(codec=CODEC, body=dice.choice(DEEP)))


LENGTH = (100 * 2**20).to_bytes(4)
HUGE = [kind + LENGTH + rest for kind in (b"\xdb", b"\xc6", b"\xdd", b"\xdf", b"\xc9") for rest in (b"", b"short")]


def endless(dice, key, _):
    """Promises a hundred megabytes and has none."""
    body = dice.choice(HUGE)
    whole = dice.choice([body, b"\x91" + body, b"\x91\x93" + body])
    return pack(key, Entry(codec=CODEC, body=whole))


DAMAGES = [flipped, cut, lengthened, of_another_key, noise, forged, deep, endless]
WEIGHTS = [30, 20, 10, 20, 10, 20, 1, 5]


@pytest.fixture
def stores(tmp_path):
    file = SQLiteStore(tmp_path / "answers.db")
    yield [MemoryStore(), Compressed(file)]
    file.close()


def test_each_is_a_miss_and_deleted_and_none_raises_or_runs(stores):
    dice, events = random.Random(7), []  # noqa: S311 - repeatable on purpose
    entries = [answer(dice) for _ in range(50)]
    ios = [StoreIO(store, (events.append,)) for store in stores]
    lookups = {key: (Terms(key=key), partial(read, key=key.digest, new_id=str)) for key in KEYS}
    for number in range(ENTRIES):
        key, where = dice.choice(KEYS), number % IN_SQLITE == 0
        damage = dice.choices(DAMAGES, WEIGHTS)[0]
        value = damage(dice, key, entries)
        stores[where].put(key, value)
        assert run(open_call(*lookups[key], alone=True), ios[where]).answer is None, damage.__name__
        assert stores[where].get(key) is None, damage.__name__
    rejected = sum(isinstance(event, EntryRejected) for event in events)
    missed = sum(isinstance(event, CacheMiss) for event in events)
    assert rejected == missed == ENTRIES
    assert not any("forged" in event.reason for event in events if isinstance(event, EntryRejected))


def test_what_was_not_damaged_is_read_all_the_same(stores):
    dice = random.Random(7)  # noqa: S311 - repeatable on purpose
    for store in stores:
        for key in KEYS:
            store.put(key, pack(key, answer(dice)))
            revive = partial(read, key=key.digest, new_id=str)
            found = run(open_call(Terms(key=key), revive, alone=True), StoreIO(store)).answer
            assert found[0].message.tool_calls[0]["name"] == "look_up"


def test_every_altered_byte_of_what_is_sealed_is_refused():
    sealed = pytest.importorskip("prefixcache_integrations.stores.sealed", reason="needs the extra 'crypto'")
    inner, refused = MemoryStore(), 0
    store = sealed.Sealed(inner, [os.urandom(32)])
    entry = answer(random.Random(7))  # noqa: S311 - repeatable on purpose
    for key in KEYS:
        store.put(key, pack(key, entry))
    hidden = {slot: inner.get(slot) for slot in list(inner._slots)}
    assert len(hidden) == len(KEYS)
    key = KEYS[0]
    [name] = [slot for slot in hidden if _opens(store, inner, slot, hidden[slot], key)]
    whole = hidden[name]
    for place in range(len(whole)):
        for altered in (whole[:place], whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]):
            inner.put(name, altered)
            with pytest.raises(CorruptEntry):
                store.get(key)
            refused += 1
    for other in hidden.values():
        inner.put(name, other)
        if other != whole:
            with pytest.raises(CorruptEntry):
                store.get(key)
    assert refused == 2 * len(whole)


def _opens(store, inner, slot, value, key):
    """Return whether ``slot`` is where ``key`` lies."""
    inner.delete(slot)
    gone = store.get(key) is None
    inner.put(slot, value)
    return gone
