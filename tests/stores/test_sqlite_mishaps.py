"""What happens to the file behind a SQLite store's back."""

import sqlite3
from contextlib import closing

import pytest

from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.stores import SQLiteStore, open_store
from tests.stores.contract import KEY


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    yield store
    store.close()


def read_by_another(path):
    with closing(SQLiteStore(path)) as other:
        return other.get(KEY)


def test_after_the_file_was_deleted_what_is_put_is_kept_in_a_new_one(path, store):
    store.put(KEY, b"before")
    path.unlink()
    store.put(KEY, b"after")
    assert path.exists()
    assert read_by_another(path) == store.get(KEY) == b"after"


def test_after_the_file_was_replaced_what_is_put_goes_to_the_one_that_is_there(path, store):
    store.put(KEY, b"before")
    with closing(SQLiteStore(path.with_name("other.db"))) as other:
        other.put(KEY, b"other")
    path.with_name("other.db").replace(path)
    store.put(KEY, b"after")
    assert read_by_another(path) == b"after"


def test_a_file_that_breaks_while_it_is_open_is_set_aside_once_and_the_store_goes_on(path, store):
    for number in range(50):
        store.put(KEY, bytes([number]) * 3000)
    with closing(sqlite3.connect(path)) as outside:
        outside.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(path.read_bytes())
    damaged[100:] = b"\xff" * (len(damaged) - 100)
    path.write_bytes(damaged)
    store.close()
    again = SQLiteStore(path)
    with pytest.raises(StoreUnavailable):
        again.put(KEY, b"answer")
    assert again.put(KEY, b"answer")
    assert read_by_another(path) == b"answer"
    assert path.with_name("answers.db.broken").read_bytes() == bytes(damaged)
    again.close()


def test_a_file_that_is_no_database_is_left_as_it_is(path):
    content = b"somebody's notes, at a path that was a mistake" * 20
    path.write_bytes(content)
    with closing(SQLiteStore(path)) as store:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.put(KEY, b"answer")
    assert path.read_bytes() == content


def test_a_broken_file_that_was_replaced_meanwhile_is_left_alone(path, store):
    store.put(KEY, b"before")
    path.unlink()
    with closing(SQLiteStore(path)) as other:
        other.put(KEY, b"theirs")
        store._set_aside()
        assert read_by_another(path) == b"theirs"


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///file::memory:"])
def test_a_database_in_memory_is_pointed_to_the_memory_store(url):
    with pytest.raises(ConfigurationError, match="memory://"):
        open_store(url)
