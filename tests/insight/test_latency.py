from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.insight.latency import Durations

durations = st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=200)


def counted(seconds):
    counter = Durations()
    for each in seconds:
        counter.add(each)
    return counter


def nearest_rank(seconds, share):
    return sorted(seconds)[ceil(share * len(seconds)) - 1]


@given(durations)
def test_quantiles_are_within_one_percent_of_the_nearest_rank(seconds):
    summary = counted(seconds).summary()

    assert summary.count == len(seconds)
    assert summary.p50 == pytest.approx(nearest_rank(seconds, 0.5), rel=0.0101)
    assert summary.p99 == pytest.approx(nearest_rank(seconds, 0.99), rel=0.0101)
    assert summary.mean == pytest.approx(sum(seconds) / len(seconds), rel=1e-3)


@given(durations, durations)
def test_merging_is_counting_both(left, right):
    merged = counted(left)
    merged.merge(counted(right))

    assert merged.summary() == counted(left + right).summary()


def test_nothing_has_no_summary():
    assert Durations().summary() is None


def test_a_clock_put_back_counts_as_no_time_at_all():
    summary = counted([-5.0]).summary()

    assert (summary.count, summary.mean) == (1, 0)
    assert summary.p50 < 2e-6


def test_no_length_of_time_is_longer_than_a_million_seconds():
    durations = Durations()
    for seconds in (1e300, float("inf")):
        durations.add(seconds)

    assert durations.summary().mean == 1e6


def test_extremes_stay_bounded_in_memory():
    counter = counted([10.0**exponent for exponent in range(-300, 300)])

    assert len(counter._counts) < 1_500
    assert counter.summary().p99 == pytest.approx(1e6, rel=0.02)
