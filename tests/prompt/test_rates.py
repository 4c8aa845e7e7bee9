"""How often prefixes return, whatever was seen of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefixcache_integrations.prompt.classes import MANY, Class, Likeness
from prefixcache_integrations.prompt.rates import Rates

_LIKENESSES = [Likeness("opening", last=True), Likeness("turn"), Likeness("document", after_documents=True)]
_CLASSES = st.builds(
    Class, st.sampled_from(_LIKENESSES), st.integers(1, 2), st.sampled_from([0, MANY + 1]), marked=st.booleans()
)
_FIRST = Class(Likeness("opening", last=True), 1, 0)
_STEPS = st.tuples(
    st.sampled_from(["sent", "returned", "elsewhere", "later"]), st.integers(0, 7), st.floats(0, 4000), _CLASSES
)


@example([("sent", 0, 0, _FIRST), ("elsewhere", 0, 1, _FIRST), ("returned", 0, 1, _FIRST)] * 9, _FIRST, 300.0)
@given(st.lists(_STEPS, max_size=60), _CLASSES, st.sampled_from([300.0, 1800.0, 1e9]))
def test_chances_are_chances_and_longer_ones_are_no_lower(steps: list[Any], kind: Class, lifetime: float) -> None:
    rates, waits, now = Rates(), [], 0.0
    for what, number, pause, each in steps:
        now += pause
        rates.grow_older(now)
        if what == "sent":
            waits.append(rates.sent(each, number + 1, now))
        elif what == "elsewhere":
            rates.returned_elsewhere(each.likeness, now)
        elif what == "returned" and waits:
            rates.returned(waits[number % len(waits)], number + 1, now)

    chances = rates.returns(kind).within(lifetime)
    assert all(0 <= chance <= 1 for chance in chances)
    assert all(early <= late for early, late in zip(rates.returns(kind).within(300.0), chances, strict=True))


@pytest.mark.parametrize("likeness", _LIKENESSES, ids=str)
def test_what_was_marked_and_did_not_come_back_counts_for_what_is_marked(likeness: Likeness) -> None:
    rates, now = Rates(), 0.0
    plain, marked = Class(likeness, 1), Class(likeness, 1, marked=True)
    for _ in range(20):
        now += 400
        rates.grow_older(now)
        come_back = rates.sent(plain, 1, now)
        rates.sent(marked, 1, now)
        rates.returned(come_back, 1, now + 30)

    assert rates.returns(marked).within(300.0)[0] < 0.25
    assert rates.returns(plain).within(300.0)[0] > 0.45
