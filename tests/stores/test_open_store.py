import pytest

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore, SQLiteStore, open_store

KEY = EntryKey("", "digest")


def test_memory_is_opened():
    assert isinstance(open_store("memory://"), MemoryStore)


def test_an_absolute_and_a_relative_path_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, path in [
        (f"sqlite:///{tmp_path}/absolute.db", tmp_path / "absolute.db"),
        ("sqlite:///relative.db", tmp_path / "relative.db"),
        ("sqlite:///folder/two%20words.db", tmp_path / "folder" / "two words.db"),
    ]:
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        store.put(KEY, b"answer")
        store.close()
        assert path.is_file()


@pytest.mark.parametrize("url", ["memory://?max_bytes=1000", "sqlite:///bounded.db?max_bytes=1000"])
def test_the_bound_is_an_option(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    assert store.put(KEY, bytes(1001)) is False
    store.close()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://localhost", "redis"),
        ("answers.db", "answers.db"),
        ("", "known are memory://, sqlite://"),
        ("sqlite://", "path"),
        ("sqlite:///", "path"),
        ("sqlite://host/answers.db", "path"),
        ("memory://host", "no host"),
        ("memory://?size=3", "size"),
        ("memory://?max_bytes=many", "many"),
        ("memory://?max_bytes=0", "above 0"),
        ("memory://?max_bytes=-1", "-1"),
    ],
)
def test_what_cannot_work_is_refused_and_named(url, named):
    with pytest.raises(ConfigurationError, match=named):
        open_store(url)
