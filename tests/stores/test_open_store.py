import os
import subprocess
import sys

import pytest

from prefixcache_integrations.errors import ConfigurationError, StoreRefused, StoreUnavailable
from prefixcache_integrations.events import StoreSuspended
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import MemoryStore, open_store

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
        store.put(KEY, b"answer")
        store.close()
        assert path.is_file()


@pytest.mark.parametrize("url", ["memory://?max_bytes=1000", "sqlite:///bounded.db?max_bytes=1000"])
def test_the_bound_is_an_option(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    assert store.put(KEY, os.urandom(1001)) is False
    store.close()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://localhost", "mysql"),
        ("redis://localhost?max_bytes=3", "max_bytes"),
        ("redis://localhost?timeout=soon", "seconds above 0, not 'soon'"),
        ("redis://localhost?timeout=0", "timeout"),
        ("redis://localhost?memory_ttl=-1", "memory_ttl"),
        ("redis://localhost?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("redis://localhost:port", "URL of a Redis server"),
        ("postgresql://localhost/%zz", "URL of a PostgreSQL server"),
        ("postgresql://localhost?max_bytes=none", "max_bytes"),
        ("postgresql://localhost?colour=red", "colour"),
        ("sqlite:///a.db?read_only=maybe", "true or false"),
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


def test_a_redis_server_is_opened_with_its_own_options_and_ours(start_redis, tmp_path):
    socket = tmp_path / "socket"
    server = start_redis(requirepass="pass", unixsocket=socket)
    urls = [
        server.url(":pass@", database=3),
        f"unix://:pass@{socket}?db=3",
        f"redis://:pass@127.0.0.1:{server.port}?db=3",
    ]
    for number, url in enumerate(urls):
        store = open_store(f"{url}{'&' if '?' in url else '?'}timeout=1&read_only={'true' if number else 'false'}")
        if number == 0:
            assert store.put(KEY, b"answer") is True
        assert store.get(KEY) == b"answer"
        assert (store.put(KEY, b"other") is True) is (number == 0)
        store.put(KEY, b"answer")
        store.close()


async def test_a_server_that_is_down_is_left_alone_and_memory_in_front_goes_on(start_redis):
    server = start_redis()
    events = []
    store = open_store(f"{server.url()}?memory_ttl=60&memory_bytes=1000000", observers=[events.append])
    await store.aput(KEY, b"answer" * 1000)
    server.kill()
    assert await store.aget(KEY) == b"answer" * 1000
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.aget(EntryKey("", "other"))
    assert events == [StoreSuspended(error="StoreUnavailable")]
    await store.aclose()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "postgres"])
def test_what_is_sealed_is_read_with_its_secret_alone_and_long_texts_take_little_room(kind, tmp_path, request):
    url = {
        "memory": lambda: "memory://",
        "sqlite": lambda: f"sqlite:///{tmp_path}/a.db",
        "redis": lambda: request.getfixturevalue("start_redis")().url(),
        "postgres": lambda: request.getfixturevalue("shared_postgres").url(),
    }[kind]()
    secret, text = os.urandom(32), b"a long answer " * 1000
    store = open_store(url, secrets=[secret])
    store.put(KEY, text)
    assert store.get(KEY) == text
    if kind == "sqlite":
        assert text[:50] not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    if kind != "memory":
        for secrets in ([], [os.urandom(32)]):
            other = open_store(url, secrets=secrets)
            assert other.get(KEY) is None
            other.close()
        again = open_store(url, secrets=[os.urandom(32), secret])
        assert again.get(KEY) == text
        again.close()
    store.close()


def test_a_file_opened_to_be_read_is_not_written(tmp_path):
    store, reader = open_store(f"sqlite:///{tmp_path}/a.db"), open_store(f"sqlite:///{tmp_path}/a.db?read_only=true")
    store.put(KEY, b"answer")
    assert reader.put(KEY, b"other") is False
    assert reader.get(KEY) == b"answer"
    with pytest.raises(StoreRefused):
        reader.clear("")
    reader.close()
    store.close()


def test_importing_the_package_s_stores_loads_no_driver():
    code = "import sys, prefixcache_integrations.stores; print(*{'redis', 'psycopg', 'cryptography', 'zstandard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    assert done.stdout == "\n"
