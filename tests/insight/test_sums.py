from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import (
    AnswerTimed,
    CacheHit,
    EntryEvicted,
    Labels,
    PassedThrough,
    PrefixBroken,
    UsageRecorded,
)
from prefixcache_integrations.insight.accounting import total
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.insight.sums import SHARED, Sums, accounts_of, merged

NAMES = st.sampled_from(["a", "b b", "", "ü", "c@-9", None])
COUNTS = st.none() | st.integers(0, 10**12)
MONEY = st.none() | st.decimals(-(10**9), 10**9, allow_nan=False, places=12)
SECONDS = st.none() | st.floats(0, 1e3)
LABELS = st.builds(Labels, app=NAMES, namespace=NAMES, session=NAMES)
USAGE = st.builds(
    Usage,
    input_tokens=COUNTS,
    cache_read_tokens=COUNTS,
    cache_write_tokens=COUNTS,
    cache_write_by_ttl=st.none() | st.fixed_dictionaries({"5m": st.integers(0, 99)}),
    output_tokens=COUNTS,
)
EVENTS = st.lists(
    st.one_of(
        st.builds(
            UsageRecorded,
            model=NAMES,
            usage=USAGE,
            cost=MONEY,
            uncached_cost=MONEY,
            seconds=SECONDS,
            first_token_seconds=SECONDS,
            labels=LABELS,
        ),
        st.builds(AnswerTimed, seconds=st.floats(-1, 1e7), model=NAMES, labels=LABELS),
        st.builds(PrefixBroken, model=st.just("a"), reason=st.just("ttl_expired"), lost_tokens=st.integers(0, 99)),
        st.builds(CacheHit, key=st.just("k"), model=NAMES, labels=LABELS),
        st.builds(EntryEvicted, count=st.integers(1, 9)),
    ),
    max_size=12,
)


def added(events, max_names=100):
    sums = Sums(max_names)
    for event in events:
        sums.add(event)
    return sums.fields()


@given(EVENTS, EVENTS)
def test_what_two_processes_add_is_what_one_would_have_added_to_the_last_digit(first, second):
    found = accounts_of(merged([added(first), added(second)]))

    assert found.totals == total([*first, *second])
    for name, account in found.by["model"].items():
        assert account.totals == total(event for event in [*first, *second] if getattr(event, "model", None) == name)


@given(EVENTS, EVENTS)
def test_latencies_of_two_processes_are_those_that_one_would_have_counted(first, second):
    found = accounts_of(merged([added(first), added(second)]))
    ledger = Ledger(clock=lambda: 0)
    for event in [*first, *second]:
        ledger(event)

    assert found.account == ledger.account()
    for dimension in SHARED:
        assert found.by[dimension] == ledger.by(dimension)


def test_all_further_names_are_one():
    events = [CacheHit(key="k", model=name) for name in ("a", "b", "c", "a", "d")]
    found = accounts_of(added(events, max_names=2)).by["model"]

    assert {name: account.totals.hits for name, account in found.items()} == {"a": 2, "b": 1, None: 2}


def test_sessions_and_what_is_about_no_call_are_not_kept():
    assert added([PassedThrough(reason="r")]) == {}
    assert "s" not in " ".join(added([CacheHit(key="k", labels=Labels(session="s"))])).split()


def test_money_is_exact_beyond_what_a_decimal_adds_up():
    costs = (Decimal("1e-30"), Decimal(10**9))
    fields = added([UsageRecorded(model=None, usage=Usage(), cost=cost) for cost in costs])

    assert str(accounts_of(fields).totals.cost) == "1000000000." + 29 * "0" + "1" + 6 * "0"


def test_money_is_whole_numbers_of_at_most_nine_digits():
    cost = Decimal("12345678901.1234567890123456789")
    fields = added([UsageRecorded(model=None, usage=Usage(), cost=cost)])
    limbs = [number for name, number in fields.items() if name.startswith("all cost")]

    assert len(limbs) == 5
    assert all(0 < limb < 10**9 for limb in limbs)
