import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import (
    AnswerTimed,
    CacheHit,
    CacheMiss,
    CallFailed,
    CallJoined,
    EntryRejected,
    EntryStored,
    Labels,
    PassedThrough,
    PrefixBroken,
    StoreDegraded,
    UsageRecorded,
)
from prefixcache_integrations.insight.accounting import Totals, total
from prefixcache_integrations.insight.ledger import Ledger, cached_share

WARM = Usage(input_tokens=2_000, cache_read_tokens=1_500, cache_write_tokens=400, output_tokens=50)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return Ledger(clock=clock, window_seconds=60, max_windows=3, max_names=3)


def call(model="m", usage=WARM, **fields):
    return UsageRecorded(model=model, usage=usage, **fields)


def test_each_kind_of_event_is_counted(ledger):
    for event in (
        call(cost=Decimal("0.01"), uncached_cost=Decimal("0.04")),
        CallFailed(error="RateLimitError"),
        CacheHit(key="k"),
        CallJoined(key="k"),
        CacheMiss(key="k"),
        CacheMiss(key="l"),
        EntryStored(key="k", size=120),
        EntryRejected(key="l", reason="a refusal"),
        StoreDegraded(operation="get", error="StoreUnavailable"),
        PrefixBroken(model="m", reason="system_changed", lost_tokens=900, lost_cost=Decimal("0.002")),
        PassedThrough(reason="no body"),
    ):
        ledger(event)

    totals = ledger.totals
    assert (totals.calls, totals.failed, totals.hits, totals.joined, totals.misses) == (1, 1, 1, 1, 2)
    assert (totals.stored, totals.stored_bytes, totals.rejected, totals.store_errors) == (1, 120, 1, 1)
    assert (totals.breaks, totals.lost_tokens, totals.lost_cost) == (1, 900, Decimal("0.002"))
    assert (totals.cost, totals.perfect_cost, totals.savings) == (Decimal("0.01"), Decimal("0.008"), Decimal("0.03"))
    assert totals.hit_share == 0.5


def test_calls_are_booked_to_everyone_they_are_for(ledger):
    labels = Labels(app="shop", session="s1", namespace="eu", tags=("beta", "vip", "beta"))
    ledger(call(labels=labels))
    ledger(call("n", labels=Labels(app="shop")))

    assert {name: account.totals.calls for name, account in ledger.by("app").items()} == {"shop": 2}
    assert {name: account.totals.calls for name, account in ledger.by("model").items()} == {"m": 1, "n": 1}
    assert {name: account.totals.calls for name, account in ledger.by("tag").items()} == {"beta": 1, "vip": 1}
    assert list(ledger.by("session")) == ["s1"]
    assert list(ledger.by("namespace")) == ["eu"]


def test_who_was_not_heard_of_longest_is_added_to_the_others(ledger):
    for session in ("a", "b", "c", "a", "d", "e"):
        ledger(call(seconds=1.0, first_token_seconds=0.5, labels=Labels(session=session)))

    sessions = ledger.by("session")

    assert {name: account.totals.calls for name, account in sessions.items()} == {None: 2, "a": 2, "d": 1, "e": 1}
    assert sessions[None].call_latency.count == 2
    assert sessions[None].first_token["half or more"].count == 2
    assert sum((account.totals for account in sessions.values()), Totals()) == ledger.totals


def test_only_the_latest_windows_are_kept(ledger, clock):
    for clock.now in (30, 59, 60, 150, 200, 260):
        ledger(call())

    assert [(window.start, window.account.totals.calls) for window in ledger.windows()] == [
        (120, 1),
        (180, 1),
        (240, 1),
    ]
    assert ledger.totals.calls == 6


def test_latencies_of_hits_and_calls_are_apart_and_first_tokens_go_by_what_was_cached(ledger):
    ledger(AnswerTimed(seconds=0.002, model="m"))
    ledger(call(seconds=2.0, first_token_seconds=0.2))
    ledger(call(seconds=4.0, usage=Usage(input_tokens=10, cache_read_tokens=0), first_token_seconds=0.9))
    ledger(call(usage=Usage()))

    account = ledger.account()

    assert account.hit_latency.p50 == pytest.approx(0.002, rel=0.01)
    assert account.call_latency.mean == 3.0
    assert {share: latency.count for share, latency in account.first_token.items()} == {"half or more": 1, "nothing": 1}
    assert account.totals.hits == 0


@pytest.mark.parametrize("seconds", [float("inf"), float("nan")])
def test_what_is_no_length_of_time_is_left_out_and_the_rest_is_booked(ledger, seconds):
    ledger(UsageRecorded(model="m", usage=Usage(input_tokens=5), seconds=seconds, first_token_seconds=seconds))
    ledger(AnswerTimed(seconds=seconds))

    assert ledger.totals.input_tokens == 5
    assert ledger.account().call_latency is ledger.account().hit_latency is None


@pytest.mark.parametrize(
    ("read", "size", "share"),
    [
        (0, 100, "nothing"),
        (49, 100, "under half"),
        (50, 100, "half or more"),
        (89, 100, "half or more"),
        (90, 100, "nine tenths or more"),
        (None, 100, "unknown"),
        (5, None, "unknown"),
    ],
)
def test_shares_are_named_by_their_lower_end(read, size, share):
    assert cached_share(Usage(input_tokens=size, cache_read_tokens=read)) == share


def test_threads_lose_nothing(ledger):
    start = threading.Barrier(8)

    def tell(number):
        start.wait()
        for _ in range(500):
            ledger(call(labels=Labels(session=str(number % 3)), cost=Decimal("0.001")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))

    assert (ledger.totals.calls, ledger.totals.input_tokens, ledger.totals.cost) == (4_000, 8_000_000, Decimal("4.000"))
    assert sum(account.totals.calls for account in ledger.by("session").values()) == 4_000


maybe = st.none() | st.integers(0, 10_000)
money = st.none() | st.decimals(0, 1, places=6)
events = st.lists(
    st.builds(
        UsageRecorded,
        model=st.sampled_from(["m", "n"]),
        usage=st.builds(
            Usage,
            input_tokens=maybe,
            cache_read_tokens=maybe,
            cache_write_by_ttl=st.none() | st.dictionaries(st.sampled_from(["5m", "1h"]), st.integers(0, 9)),
        ),
        cost=money,
        uncached_cost=money,
    )
    | st.builds(CacheHit, key=st.just("k"), model=st.sampled_from(["m", "n"]))
)


@given(events)
def test_the_ledger_adds_up_as_events_do(told):
    ledger = Ledger(clock=lambda: 0)
    for event in told:
        ledger(event)

    assert ledger.totals == total(told)
    assert sum((account.totals for account in ledger.by("model").values()), Totals()) == total(told)
