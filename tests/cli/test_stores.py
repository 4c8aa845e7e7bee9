import os
from contextlib import closing
from decimal import Decimal

import psycopg
import pytest
from redis import Redis

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.cli.output import address
from prefixcache_integrations.events import AnswerTimed, Labels, UsageRecorded
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.flows.response_cache import model_tag
from prefixcache_integrations.stores import open_store
from prefixcache_integrations.stores.shared_sums import SharedSums
from tests.redis_topologies import RedisCluster, RedisSentinel


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'answers.db'}"
    if request.param == "postgres":
        server = request.getfixturevalue("shared_postgres")
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute("DROP TABLE IF EXISTS prefixcache_entries_v1")
        return server.url(options="?timeout=5&connections=2")
    server = request.getfixturevalue("shared_redis")
    with closing(Redis.from_url(server.url())) as admin:
        admin.flushall()
    return f"{server.url()}?timeout=5"


@pytest.fixture
def filled(url):
    with_answers = open_store(url)
    for name in ("", "tenant"):
        with_answers.clear(name)
        for number in range(3):
            tags = (model_tag("gpt-4o"),) if number else (model_tag("o3"), "faq")
            with_answers.put(EntryKey(name, str(number)), b"x" * 100, None, tags)
    yield with_answers
    for name in ("", "tenant"):
        with_answers.clear(name)
    with_answers.close()


def kept(store, name):
    return [number for number in range(3) if store.get(EntryKey(name, str(number))) is not None]


def test_entries_are_counted_by_namespace(prefixcache, filled, url, request):
    found = prefixcache("stats", url, "--json").json

    assert found["entries"] >= 6
    assert found["size"] > 300
    if found["kind"] != "redis":
        assert [(row["name"], row["entries"]) for row in found["namespaces"]] == [("", 3), ("tenant", 3)]
        assert found["namespaces"][0]["tags"] == {"faq": 1, "model:gpt-4o": 2, "model:o3": 1}
        assert found["expired"] == 0
    else:
        assert [row["entries"] for row in found["namespaces"] if row["entries"] == 3][:2] == [3, 3]


def test_a_cluster_is_counted_on_every_server(prefixcache, redis_program):
    cluster = RedisCluster(redis_program)
    try:
        url = cluster.url() + "?timeout=5"
        store = open_store(url)
        for number in range(20):
            store.put(EntryKey(f"tenant {number % 10}", str(number)), b"x" * 10)
        store.close()
        found = prefixcache("stats", url, "--json").json
        assert [row["entries"] for row in found["namespaces"]] == [2] * 10
        done = prefixcache("doctor", "--store", url, "--json")
        assert [check["level"] for check in done.json["checks"] if check["name"].startswith("store")] == ["ok"]
    finally:
        cluster.close()


def test_what_sentinels_watch_over_is_counted_at_the_master(prefixcache, redis_program, tmp_path):
    sentinel = RedisSentinel(redis_program, tmp_path)
    try:
        url = sentinel.url() + "?timeout=5"
        store = open_store(url)
        store.put(EntryKey("tenant", "digest"), b"x" * 10)
        store.close()
        assert prefixcache("stats", url, "--json").json["entries"] == 1
    finally:
        sentinel.close()


def test_a_database_nobody_has_kept_anything_in_is_empty(prefixcache, start_postgres):
    server = start_postgres()
    found = prefixcache("stats", server.url(), "--json").json
    assert (found["kind"], found["entries"], found["namespaces"]) == ("postgres", 0, [])


def test_people_get_a_table(prefixcache, filled, url):
    assert "entries" in prefixcache("stats", url).out


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ((), []),
        (("--tag", "faq"), [1, 2]),
        (("--model", "gpt-4o"), [0]),
        (("--model", "gpt-4o", "--tag", "faq"), []),
        (("--tag", "nothing"), [0, 1, 2]),
    ],
)
def test_only_what_is_named_is_forgotten(prefixcache, filled, url, options, left):
    done = prefixcache("clear", url, "--namespace", "tenant", *options, "--yes")

    assert (done.code, done.err) == (0, "")
    assert kept(open_store(url), "tenant") == left
    assert kept(open_store(url), "") == [0, 1, 2]


def test_clear_asks_first(prefixcache, filled, url):
    assert prefixcache("clear", url, given="n\n").code == 1
    assert kept(open_store(url), "") == [0, 1, 2]
    assert prefixcache("clear", url, given="y\n").code == 0
    assert kept(open_store(url), "") == []


def test_a_program_must_say_yes(prefixcache, filled, url):
    assert prefixcache("clear", url, "--json").code == 1
    assert prefixcache("clear", url, "--json", "--yes", "--tag", "faq").json == {"namespace": "", "tags": ["faq"]}


def test_tags_of_a_sealed_store_need_its_secret(prefixcache, url, monkeypatch):
    pytest.importorskip("cryptography", reason="sealed stores need the extra 'crypto'")
    secret = os.urandom(32)
    sealed = open_store(url, secrets=[secret])
    sealed.put(EntryKey("", "0"), b"x", None, ("faq",))
    monkeypatch.setenv("OUR_SECRET", secret.hex())
    prefixcache("clear", url, "--tag", "faq", "--yes", "--secret-from", "OUR_SECRET")

    assert sealed.get(EntryKey("", "0")) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "sqlite:////no/such/file.db"), "there is no file"),
        (("stats", "memory://"), "no store outside this process"),
        (("stats", "redis://user:hush@127.0.0.1:1/0"), "Redis: ConnectionError"),
        (("stats", "redis+cluster://user:hush@127.0.0.1:1"), "Redis: RedisClusterException"),
        (("stats", "redis+sentinel://user:hush@127.0.0.1:1/service"), "Redis: MasterNotFoundError"),
        (("stats", "redis+cluster://localhost/1"), "and no database"),
        (("stats", "postgresql://user:hush@127.0.0.1:1/db"), "PostgreSQL: OperationalError"),
        (("stats", "nonsense"), "no store for a URL of no scheme"),
        (("stats", "redis://user:hush@127.0.0.1:1/0"), "redis://127.0.0.1:1/0: "),
        (("clear", "memory://", "--yes"), "lives in the process"),
        (("clear", "sqlite:///no-such-file.db", "--yes"), "there is no file"),
        (("clear", "redis://user:hush@127.0.0.1:1/0", "--yes"), "Redis"),
        (("clear", "sqlite:///x.db", "--yes", "--secret-from", "NOT_SET_ANYWHERE"), "the environment has no"),
    ],
)
def test_what_cannot_be_done_is_one_line(prefixcache, arguments, message):
    done = prefixcache(*arguments)

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert message in done.err
    assert "hush" not in done.err


def test_a_file_that_is_no_store_is_one_line(prefixcache, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no database" * 100)

    done = prefixcache("stats", f"sqlite:///{path}")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_what_processes_have_added_up_is_shown(prefixcache, shared_redis):
    url = shared_redis.url(database=3)
    sums = SharedSums(url, book="shop", flush_seconds=3600)
    usage = Usage(input_tokens=4_000, cache_read_tokens=3_000, cache_write_tokens=0, output_tokens=70)
    sums(UsageRecorded(model="gpt-4o", usage=usage, cost=Decimal("0.005"), seconds=2.5, labels=Labels(app="desk")))
    sums(AnswerTimed(seconds=0.0004, model="gpt-4o"))
    sums.close()

    table = prefixcache("stats", url, "--book", "shop").out
    found = prefixcache("stats", url + "?memory_ttl=5", "--book", "shop", "--json").json["sums"]["sums"]
    assert "gpt-4o" in table
    assert "75" in table
    assert found["account"]["totals"]["input_tokens"] == 4_000
    assert found["account"]["call_latency"]["p99"] == pytest.approx(2.5, rel=0.01)
    assert Decimal(found["by"]["app"]["desk"]["totals"]["cost"]) == Decimal("0.005")
    assert "2.5 s" in table
    assert "0.40 ms" in table
    assert prefixcache("stats", url, "--json").json["sums"] is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:SECRET@127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("redis://127.0.0.1:1/0?password=SECRET", "redis://127.0.0.1:1/0"),
        ("postgresql://127.0.0.1:1/db?password=SE@SECRET", "postgresql://…"),
        ("redis://user:SEC/SECRET@127.0.0.1:1/0", "redis://…"),
        ("redis://:SEC#SECRET@127.0.0.1:1/0", "redis://…"),
    ],
)
def test_the_address_of_a_store_is_shown_without_what_is_secret(url, shown):
    assert address(url) == shown


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (("stats",), "redis://u:SECRET@[::1/0"),
        (("stats",), "redis://127.0.0.1:1/0?password=SECRET"),
        (("clear", "--yes"), "redis://127.0.0.1:1/0?password=SECRET"),
    ],
)
def test_a_store_that_cannot_be_asked_is_one_line_without_secrets(prefixcache, command, url):
    done = prefixcache(*command, url)

    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "SECRET" not in done.err + done.out
