import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from prefixcache_integrations.errors import CorruptEntry, StoreUnavailable
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import SQLiteStore
from prefixcache_integrations.stores.envelope import pack, unpack
from prefixcache_integrations.stores.sqlite import TOUCH_SECONDS
from tests.stores.contract import KEY, SMALL, Clock, StoreContract


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path, clock):
        store = SQLiteStore(tmp_path / "answers.db", clock=clock)
        yield store
        store.close()

    @pytest.fixture
    def small_store(self, tmp_path, clock):
        store = SQLiteStore(tmp_path / "small.db", max_bytes=SMALL, clock=clock)
        yield store
        store.close()

    def test_expired_values_make_room_before_living_ones(self, small_store, clock):
        lasting = EntryKey("tenant", "lasting")
        small_store.put(lasting, bytes(10_000))
        for number in range(15):
            small_store.put(EntryKey("tenant", f"expiring {number}"), bytes(10_000), 10)
        clock.advance(11)
        for number in range(5):
            small_store.put(EntryKey("tenant", f"next {number}"), bytes(10_000))
        assert small_store.get(lasting) is not None

    def test_expired_values_leave_the_file_within_a_second_of_writing(self, store, clock, tmp_path):
        store.put(EntryKey("tenant", "short"), b"answer", 1)
        clock.advance(1)
        store.put(KEY, b"answer")
        with sqlite3.connect(tmp_path / "answers.db") as file:
            assert file.execute("SELECT digest FROM entries_v2").fetchall() == [(KEY.digest,)]


def test_what_is_used_stays_longest_and_a_use_is_written_down_once_an_hour(tmp_path):
    clock = Clock()
    store = SQLiteStore(tmp_path / "answers.db", max_bytes=SMALL, clock=clock)
    keys = [EntryKey("tenant", str(number)) for number in range(10)]
    for key in keys:
        store.put(key, bytes(10_000), tags=("tag",))
    with closing(sqlite3.connect(tmp_path / "answers.db")) as outside:

        def version():
            return outside.execute("PRAGMA data_version").fetchone()

        before = version()
        clock.advance(TOUCH_SECONDS - 1)
        assert store.get(keys[0]) is not None
        assert version() == before
        clock.advance(2)
        assert store.get(keys[0]) is not None
        after = version()
        assert after != before
        assert store.get(keys[0]) is not None
        assert version() == after
    for number in range(12):
        store.put(EntryKey("tenant", f"more {number}"), bytes(10_000))
    assert [store.get(key) is not None for key in keys[:2]] == [True, False]
    assert store.evicted > 0
    store.invalidate("tenant", "tag")
    assert store.get(keys[0]) is None
    store.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    yield store
    store.close()


def test_what_one_store_wrote_another_reads_from_the_same_file(path, store):
    store.put(KEY, b"answer")
    store.close()
    again = SQLiteStore(path)
    assert again.get(KEY) == b"answer"
    again.close()


def test_the_file_does_not_outgrow_the_bound(path):
    store = SQLiteStore(path, max_bytes=SMALL)
    for number in range(300):
        store.put(EntryKey("tenant", str(number)), os.urandom(number * 17 % 9_000))
    store.close()
    assert path.stat().st_size < SMALL * 1.3


def pages_in_use(path):
    with sqlite3.connect(path) as file:
        pages, free, size = (
            file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


def test_many_small_values_hold_the_bound_though_it_is_not_looked_at_for_each(path):
    store = SQLiteStore(path, max_bytes=2 * SMALL)
    for number in range(2_000):
        store.put(EntryKey("tenant", str(number)), bytes(number % 500))
        if number % 50 == 0:
            assert pages_in_use(path) <= 2 * SMALL
    assert 0 < store.evicted < 2_000
    store.close()


def test_a_file_that_is_too_large_from_the_start_is_cut_at_the_first_write(path, store):
    for number in range(30):
        store.put(EntryKey("tenant", str(number)), bytes(20_000))
    smaller = SQLiteStore(path, max_bytes=SMALL)
    smaller.put(KEY, b"answer")
    assert pages_in_use(path) <= SMALL
    smaller.close()


def test_missing_folders_are_made(tmp_path):
    store = SQLiteStore(tmp_path / "new" / "folder" / "answers.db")
    assert store.put(KEY, b"answer")
    store.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""], ids=["garbage", "empty"])
def test_a_file_that_is_no_database_is_an_unavailable_store_or_a_new_one(path, content):
    path.write_bytes(content)
    store = SQLiteStore(path)
    if content:
        for call in (lambda: store.get(KEY), lambda: store.put(KEY, b""), lambda: store.clear("")):
            with pytest.raises(StoreUnavailable):
                call()
    else:
        assert store.put(KEY, b"answer")
    store.close()


def test_a_path_that_cannot_be_opened_is_an_unavailable_store(tmp_path):
    (tmp_path / "file").write_text("")
    store = SQLiteStore(tmp_path / "file" / "answers.db")
    with pytest.raises(StoreUnavailable):
        store.get(KEY)


def test_a_key_that_is_no_text_is_an_unavailable_store(store):
    with pytest.raises(StoreUnavailable):
        store.get(EntryKey("\ud800", "digest"))


@pytest.mark.parametrize("value", ["text", 42, 1.5], ids=str)
def test_a_value_of_another_type_comes_back_as_bytes(path, store, value):
    store.put(KEY, b"answer")
    foreign = sqlite3.connect(path)
    with foreign:
        foreign.execute("UPDATE entries_v2 SET value = ?", (value,))
    foreign.close()
    assert store.get(KEY) == str(value).encode()


def test_a_thread_that_ends_leaves_no_connection_open(store):
    def work():
        store.put(KEY, b"answer")

    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(store._open) <= 1


def test_a_forked_child_reads_and_writes_on_a_connection_of_its_own(store):
    store.put(KEY, b"of the parent")
    child = os.fork()
    if child == 0:
        done = False
        try:
            done = store.get(KEY) == b"of the parent" and store.put(EntryKey("child", "digest"), b"of the child")
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get(EntryKey("child", "digest")) == b"of the child"
    assert store.put(KEY, b"still writable")


_MIXED = """
import random, sys, time
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import SQLiteStore
dice, start = random.Random(sys.argv[2]), float(sys.stdin.readline())
for file in range(15):
    while time.time() < start + file * 0.05: pass  # all open the new file at the same moment
    store = SQLiteStore(f"{sys.argv[1]}.{file}", max_bytes=200_000)
    for turn in range(30):
        key = EntryKey("tenant", str(dice.randrange(40)))
        match dice.randrange(10):
            case 0: store.delete(key)
            case 1 | 2 | 3 | 4: store.put(key, key.digest.encode() * dice.randrange(1, 2000), dice.choice([None, 0.01, 60]))
            case _:
                value = store.get(key)
                assert value is None or value.startswith(key.digest.encode())
print("done")
"""


def test_many_processes_share_new_files_without_an_error(path):
    workers = [
        subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _MIXED, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    start = time.time() + 0.5
    for worker in workers:
        worker.stdin.write(f"{start}\n")
        worker.stdin.flush()
    assert [worker.communicate() for worker in workers] == [("done\n", "")] * len(workers)


_WRITER = """
import itertools, sys
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import SQLiteStore
from prefixcache_integrations.stores.envelope import pack
store = SQLiteStore(sys.argv[1])
for number in itertools.count():
    key = EntryKey("tenant", str(number % 50))
    store.put(key, pack(key, Entry(codec="test", body=bytes(number % 5000))))
    if number == 20: print("busy", flush=True)
"""


def test_killing_a_writer_corrupts_no_entry_and_stops_no_reader(path, store):
    for delay in (0, 0.003, 0.02):
        command = [sys.executable, "-c", _WRITER, str(path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        keys = [EntryKey("tenant", str(number)) for number in range(50)]
        found = [(key, value) for key in keys if (value := store.get(key)) is not None]
        assert len(found) >= 20
        for key, value in found:
            unpack(key, value)
        assert store.put(KEY, b"answer")


def test_an_entry_moved_to_another_row_is_refused(path, store):
    keys = EntryKey("tenant", "one"), EntryKey("tenant", "two")
    for key in keys:
        store.put(key, pack(key, Entry(codec="test", body=key.digest.encode())))
    foreign = sqlite3.connect(path)
    with foreign:
        foreign.execute("UPDATE entries_v2 SET value = (SELECT value FROM entries_v2 WHERE digest = 'two')")
    foreign.close()
    assert unpack(keys[1], store.get(keys[1])).body == b"two"
    with pytest.raises(CorruptEntry):
        unpack(keys[0], store.get(keys[0]))
