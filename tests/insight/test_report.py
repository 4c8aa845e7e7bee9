from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.recording import Break
from prefixcache_integrations.insight.report import SLICES, report, totals_of
from tests.insight.report_calls import call, many, run


def only_row(made):
    [talk] = report([made]).talks
    [row] = talk.rows
    return row


def pieces(made):
    return [(piece.group, piece.state, round(piece.tokens)) for piece in only_row(made).pieces]


def test_a_prompt_is_cut_where_what_was_read_and_written_ends():
    made = call(
        prompt=(run("system", 1_000, ""), run("history", 500), run("question", 100, "")),
        read=1_200,
        written=350,
        uncached=50,
    )

    assert pieces(made) == [
        ("system", "read", 1_000),
        ("history", "read", 200),
        ("history", "written", 300),
        ("question", "written", 50),
        ("question", "uncached", 50),
    ]
    assert only_row(made).marks == (1_000, 1_600)


def test_our_counts_are_stretched_to_what_was_billed():
    made = call(prompt=(run("system", 1_000, ""), run("question", 100)), read=2_000, uncached=200)

    assert pieces(made) == [("system", "read", 2_000), ("question", "uncached", 200)]
    assert only_row(made).marks == (2_000,)


@pytest.mark.parametrize("outcome", ["abandoned", "failed", "response_cache"])
def test_what_no_provider_billed_is_unknown_and_as_long_as_we_counted(outcome):
    made = call(outcome=outcome, usage=Usage())

    assert pieces(made) == [("system", "unknown", 1_000), ("question", "unknown", 100)]
    assert only_row(made).tokens == 1_100


def test_a_prompt_of_which_nothing_is_known_is_one_bar():
    assert pieces(call(prompt=(), read=300, uncached=100)) == [(None, "read", 300), (None, "uncached", 100)]


def test_nothing_at_all_has_no_bar():
    assert pieces(call(prompt=(), usage=Usage())) == []


def test_calls_are_sorted_into_conversations_in_the_order_they_began():
    found = report([call(2, conversation="b"), call(1, conversation="a"), call(3, conversation="a")])

    assert [(talk.name, [row.call.at % 10 for row in talk.rows]) for talk in found.talks] == [
        ("a", [1, 3]),
        ("b", [2]),
    ]


def test_losses_are_added_up_by_reason_the_dearest_first():
    def lost(reason, cost):
        return call(broken=Break(reason=reason, lost_tokens=100, lost_cost=cost, remedy="do"))

    found = report(
        [
            lost("ttl_expired", None),
            lost("system_changed", Decimal("0.1")),
            lost("tool_order_changed", Decimal("0.3")),
            lost("system_changed", Decimal("0.4")),
        ]
    ).losses

    assert [(loss.reason, loss.count, loss.tokens, loss.cost) for loss in found] == [
        ("system_changed", 2, 200, Decimal("0.5")),
        ("tool_order_changed", 1, 100, Decimal("0.3")),
        ("ttl_expired", 1, 100, 0),
    ]


def test_an_empty_recording_is_an_empty_report():
    found = report([])

    assert (found.talks, found.slices, found.totals) == ((), (), Totals())


@given(st.integers(1, 60), st.integers(0, 5))
def test_every_call_is_in_one_conversation_one_slice_and_one_model(count, seed):
    calls = many(count, seed)
    found = report(calls)
    whole = sum(map(totals_of, calls), Totals())

    assert found.totals == whole
    assert sum((talk.totals for talk in found.talks), Totals()) == whole
    assert sum((part.totals for part in found.slices), Totals()) == whole
    assert sum((totals for _, totals in found.models), Totals()) == whole
    assert len(found.slices) <= SLICES
    for talk in found.talks:
        for row in talk.rows:
            assert sum(piece.tokens for piece in row.pieces) == pytest.approx(row.tokens)
