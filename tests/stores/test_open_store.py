import os
import subprocess
import sys

import pytest

from prefixcache_integrations.errors import ConfigurationError, StoreRefused, StoreUnavailable
from prefixcache_integrations.events import StoreSuspended
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.memories import open_memory
from prefixcache_integrations.stores import MemoryStore, open_store
from prefixcache_integrations.stores.postgres import PostgresStore
from prefixcache_integrations.stores.redis import RedisStore
from prefixcache_integrations.stores.survey import survey
from prefixcache_integrations.stores.urls import server_url

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
        ("redis://localhost?timeout=soon", "timeout must be a number of seconds above 0"),
        ("redis://localhost?timeout=0", "timeout"),
        ("redis://localhost?memory_ttl=-1", "memory_ttl"),
        ("redis://localhost?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("redis://localhost:port", "looks like redis://user"),
        ("postgresql://localhost/%zz", "URL of a PostgreSQL server"),
        ("postgresql://localhost?max_bytes=none", "max_bytes"),
        ("postgresql://localhost?colour=red", "colour"),
        ("sqlite:///a.db?read_only=maybe", "true or false"),
        ("answers.db", "a URL of no scheme"),
        (123, "not by int"),
        (b"memory://", "not by bytes"),
        ("", "known are memory://, sqlite://"),
        ("sqlite://", "path"),
        ("sqlite:///", "path"),
        ("sqlite://host/answers.db", "path"),
        ("memory://host", "no host"),
        ("memory://?size=3", "size"),
        ("memory://?max_bytes=many", "max_bytes"),
        ("memory://?max_bytes=0", "above 0"),
        ("memory://?max_bytes=-1", "max_bytes"),
        ("memory://?max_bytes=\u0663", "max_bytes"),
        ("memory://?max_bytes=3&max_bytes=4", "twice what max_bytes is"),
        ("memory:", "a URL of no scheme"),
        ("sqlite:///a.db#frag", "%23"),
        ("redis://", "looks like redis://user"),
        ("redis://u:pa[ss@host", "%5B"),
        ("redis://host/x", "host:6379/0"),
        ("redis://host/-1", "host:6379/0"),
        ("redis://host/0/1", "host:6379/0"),
        ("redis://host/0?db=1", "twice what db is"),
        ("redis://host..name", "host:6379/0"),
        ("redis+cluster://host," + "a" * 64, "and no database"),
        ("redis://host:65536", "host:6379/0"),
        ("redis://one,two", "host:6379/0"),
        ("rediss://host?ssl_cert_reqs=bogus", "none, optional, required"),
        ("rediss://host?ssl_check_hostname=perhaps", "true or false"),
        ("unix://", "unix:///path"),
        ("unix://host/socket", "unix:///path"),
        ("postgresql://", "postgresql://user"),
        ("postgresql://u:p@host:abc/db", "postgresql://user"),
        ("postgresql://u:p@ss@host/db", "%40"),
        ("postgresql://host/db?port=abc", "port"),
        ("postgresql://host/db?sslmode=full", "verify-full"),
    ],
)
def test_what_cannot_work_is_refused_and_named(url, named):
    with pytest.raises(ConfigurationError, match=named):
        open_store(url)


SECRETS = [
    "//user:SECRET@host/0",
    "user:SECRET@host",
    ":SECRET",
    "SECRET",
    "memory://user:SECRET@host",
    "sqlite://user:SECRET@/a.db",
    "sqlite:///a.db?max_bytes=SECRET",
    *(
        f"{scheme}://{user}:SECRET{character}SECRET@host/0"
        for scheme in ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "postgresql", "postgres")
        for user in ("", "user")
        for character in ("/", "/0/", "?", "#", "[", "?SECRET=", "/?#", "%zz/", "?db=", "?timeout=", "?max_bytes=1&")
    ),
    "redis://:6379?SECRET=SECRET@host/0",
    "redis://user:6379?SECRET@host/0",
    "postgresql://user:5432?user=SECRET@host/db",
    "postgresql://user:5432/SECRET@host/db",
    *(f"postgresql://user:SECRET{character}SECRET@host/db" for character in ("@", "%zz", "%00", " ", "%")),
]
"""Passwords that are not percent-encoded as they ought to be."""


@pytest.mark.parametrize("begin", [open_store, survey, open_memory, RedisStore, PostgresStore])
def test_no_error_holds_a_piece_of_a_password(begin):
    for url in SECRETS:
        with pytest.raises(ConfigurationError) as raised:
            begin(url)
        error, told = raised.value, ""
        while error is not None:
            told, error = told + repr(error), error.__cause__ or error.__context__
        assert "SECRET" not in told.upper()


@pytest.mark.parametrize("url", ["unix:///tmp/socket?db=3", "postgresql:///database", "postgresql://?service=mine"])
def test_a_url_without_a_host_stays_one(url):
    assert server_url(f"{url}{'&' if '?' in url else '?'}timeout=1") == url
    open_store(url).close()


def test_spaces_in_options_reach_libpq_as_it_reads_them():
    url = "postgresql://host/db?options=-c%20statement_timeout%3D5"
    assert server_url(url) == url


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
