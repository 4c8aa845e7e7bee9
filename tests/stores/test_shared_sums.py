import multiprocessing
import os
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest
from redis import Redis

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.events import CacheHit, Labels, StoreDegraded, UsageRecorded
from prefixcache_integrations.insight.accounting import total
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.stores.shared_sums import SharedSums, read_sums

HOUR = 3600


@pytest.fixture
def admin(shared_redis):
    client = Redis.from_url(shared_redis.url())
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def url(shared_redis, admin):
    return shared_redis.url()


def bill(number, calls=50):
    """Return what process ``number`` is told of its calls: three models, two apps, costs of many digits."""
    return [
        UsageRecorded(
            model=f"model {call % 3}",
            usage=Usage(
                input_tokens=1_000 * number + call,
                cache_read_tokens=call,
                cache_write_tokens=None if call % 7 == 0 else 3,
                output_tokens=number,
            ),
            cost=None if call % 5 == 0 else Decimal(number * 1_000 + call).scaleb(-13),
            uncached_cost=Decimal("0.0000000123456789123"),
            seconds=0.5 * number + call / 7,
            first_token_seconds=None if call % 2 else 0.01 * (number + 1),
            labels=Labels(app="shop" if call % 2 else "desk", namespace="eu"),
        )
        for call in range(calls)
    ]


def work(url, number, ready):
    sums = SharedSums(url, flush_seconds=0.01)
    ready.wait()
    for event in bill(number):
        sums(event)
    sums.close()


def test_eight_processes_add_up_to_the_bill(url):
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(8)
    workers = [context.Process(target=work, args=(url, number, ready)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0

    everything = [event for number in range(8) for event in bill(number)]
    found = read_sums(url).sums
    assert found.totals == total(everything)
    assert _totals(found, "model") == {
        name: total(event for event in everything if event.model == name) for name in ("model 0", "model 1", "model 2")
    }
    assert found.by["app"]["shop"].totals == total(event for event in everything if event.labels.app == "shop")
    assert found.by["namespace"] == {"eu": found.account}
    ledger = Ledger(clock=lambda: 0)
    for event in everything:
        ledger(event)
    assert found.account.call_latency == ledger.account().call_latency
    assert found.account.first_token == ledger.account().first_token
    assert found.account.first_token.keys() == {"nothing", "under half", "nine tenths or more", "unknown"}


def _totals(found, dimension):
    return {name: account.totals for name, account in found.by[dimension].items()}


def test_what_is_not_sent_yet_is_sent_when_the_process_ends(url):
    code = (
        "import sys\n"
        "from prefixcache_integrations.events import CacheHit\n"
        "from prefixcache_integrations.stores.shared_sums import SharedSums\n"
        "SharedSums(sys.argv[1], flush_seconds=3600)(CacheHit(key='k', model='m'))\n"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)  # noqa: S603 - as written above

    assert read_sums(url).sums.by["model"]["m"].totals.hits == 1


def test_a_forked_child_sends_nothing_of_its_parents(url):
    sums = SharedSums(url, flush_seconds=3600)
    sums(CacheHit(key="k", model="parent"))
    child = os.fork()
    if child == 0:
        sums(CacheHit(key="k", model="child"))
        os._exit(0 if sums.flush() else 1)
    assert os.waitpid(child, 0)[1] == 0
    sums.close()

    assert {name: found.totals.hits for name, found in read_sums(url).sums.by["model"].items()} == {
        "parent": 1,
        "child": 1,
    }


def test_windows_are_told_apart_and_leave_in_time(url, admin):
    start = time.time() // HOUR * HOUR
    now = [start]
    sums = SharedSums(url, keep_seconds=2 * HOUR, flush_seconds=3600, clock=lambda: now[0])
    for _ in range(2):
        sums(CacheHit(key="k"))
        now[0] += HOUR
    sums.close()

    book = read_sums(url)
    assert [(window.start, window.seconds, window.sums.totals.hits) for window in book.windows] == [
        (int(start), HOUR, 1),
        (int(start) + HOUR, HOUR, 1),
    ]
    assert book.sums.totals.hits == 2
    assert all(0 < admin.ttl(key) <= 86_400 for key in admin.keys("*"))
    assert all(admin.ttl(key) <= 4 * HOUR for key in admin.keys(f"*:{HOUR}"))


def test_what_is_older_than_is_kept_is_forgotten(url):
    now = [time.time()]
    sums = SharedSums(url, keep_seconds=HOUR, flush_seconds=3600, clock=lambda: now[0])
    sums(CacheHit(key="k", model="old"))
    now[0] += 10 * HOUR
    sums(CacheHit(key="k", model="new"))
    sums.close()

    assert read_sums(url).sums.by["model"].keys() == {"new"}


def test_books_are_kept_apart(url):
    for book in ("a", "b"):
        sums = SharedSums(url, book=book, flush_seconds=3600)
        sums(CacheHit(key="k", model=book))
        sums.close()

    assert read_sums(url, book="a").sums.by["model"].keys() == {"a"}
    assert read_sums(url).sums.totals.hits == 0


def test_a_server_that_is_away_costs_an_event_and_nothing_is_lost_or_added_twice(start_redis):
    server, events = start_redis(), []
    sums = SharedSums(server.url(), flush_seconds=3600, timeout=0.2, observers=[events.append])
    sums(CacheHit(key="k"))
    server.pause()
    assert not sums.flush()  # it arrives all the same, and the reply is lost
    sums(CacheHit(key="k"))
    server.resume()
    assert sums.flush()

    assert [(type(event), event.operation) for event in events] == [(StoreDegraded, "add")]
    assert read_sums(server.url()).sums.totals.hits == 2
    server.kill()
    sums(CacheHit(key="k"))
    assert not sums.flush()
    server.start()
    assert sums.flush()
    sums.close()
    assert read_sums(server.url()).sums.totals.hits == 1


def test_threads_add_up(url):
    sums = SharedSums(url, flush_seconds=0.001)

    def add():
        for _ in range(200):
            sums(CacheHit(key="k", model="m"))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums.close()

    assert read_sums(url).sums.totals.hits == 1600


def test_a_url_that_names_no_server_is_refused():
    with pytest.raises(ConfigurationError):
        SharedSums("nonsense://")
    with pytest.raises(StoreUnavailable):
        read_sums("redis://127.0.0.1:1/0", timeout=0.2)
