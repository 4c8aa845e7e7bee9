from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import CacheHit, CacheMiss, UsageRecorded
from prefixcache_integrations.insight.accounting import Totals, total

WARM = Usage(
    input_tokens=2_000,
    cache_read_tokens=1_500,
    cache_write_tokens=400,
    cache_write_by_ttl={"5m": 300, "1h": 100},
    output_tokens=50,
)
maybe = st.none() | st.integers(0, 10_000)
usages = st.builds(
    Usage,
    input_tokens=maybe,
    cache_read_tokens=maybe,
    cache_write_tokens=maybe,
    cache_write_by_ttl=st.none() | st.dictionaries(st.sampled_from(["5m", "1h", "30m"]), st.integers(0, 100)),
    output_tokens=maybe,
)
money = st.none() | st.decimals(0, 1, places=6)
totals = st.builds(Totals.of_call, usages, money, money) | st.just(Totals.of_hit())


def test_a_call_is_split_into_disjoint_parts_that_sum_to_its_input():
    one = Totals.of_call(WARM, Decimal("0.01"), Decimal("0.04"))

    assert (one.input_tokens, one.cache_read_tokens, one.cache_write_tokens, one.uncached_tokens) == (
        2_000,
        1_500,
        400,
        100,
    )
    assert one.cache_write_by_ttl == {"5m": 300, "1h": 100}
    assert one.savings == Decimal("0.03")
    assert one.read_share == 0.75
    assert one.unknown == {}


def test_unknown_counts_are_counted_apart_and_never_as_zero():
    both = Totals.of_call(WARM, Decimal("0.01"), Decimal("0.04")) + Totals.of_call(Usage(output_tokens=7))

    assert both.calls == 2
    assert both.input_tokens == 2_000
    assert both.output_tokens == 57
    assert both.unknown == {
        "cache_read_tokens": 1,
        "cache_write_tokens": 1,
        "cost": 1,
        "input_tokens": 1,
        "uncached_cost": 1,
        "uncached_tokens": 1,
    }


def test_savings_leave_out_calls_of_which_only_one_price_is_known():
    assert Totals.of_call(WARM, Decimal("0.01"), None).savings == 0
    assert (Totals.of_call(WARM, Decimal("0.05"), Decimal("0.04"))).savings == Decimal("-0.01")


def test_events_add_up_and_those_without_tokens_are_ignored():
    events = [
        UsageRecorded(model="m", usage=WARM, cost=Decimal("0.01"), uncached_cost=Decimal("0.04")),
        CacheMiss(key="k"),
        CacheHit(key="k"),
    ]

    result = total(events)

    assert (result.calls, result.hits, result.input_tokens, result.cost) == (1, 1, 2_000, Decimal("0.01"))


def test_nothing_has_no_read_share():
    assert Totals().read_share is None


@given(totals, totals, totals)
def test_totals_form_a_commutative_monoid(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Totals() == a


@given(st.lists(usages))
def test_every_call_is_either_in_a_sum_or_counted_as_unknown(calls):
    result = total(UsageRecorded(model=None, usage=usage) for usage in calls)

    assert result.calls == len(calls)
    assert result.input_tokens == sum(usage.input_tokens or 0 for usage in calls)
    assert result.unknown.get("input_tokens", 0) == sum(usage.input_tokens is None for usage in calls)
    assert result.unknown.get("cost", 0) == len(calls)


def test_totals_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        Totals().calls = 1
