"""Prefixes that were sent, and how often their like come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.prompt import rates as module
from prefixcache_integrations.prompt.classes import MANY, Class, Likeness
from prefixcache_integrations.prompt.prefixes import Prefixes
from prefixcache_integrations.prompt.rates import Rates
from prefixcache_integrations.prompt.steps import Step

TURN = Likeness("turn")


def steps(text: str) -> list[Step]:
    return [Step(letter.encode(), TURN) for letter in text]


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=12), st.text("ab", max_size=6), st.data())
def test_a_path_that_is_known_in_part_is_the_path(sent: list[str], text: str, data: st.DataObject) -> None:
    prefixes = Prefixes(limit=data.draw(st.integers(1, 12)), horizon=100.0)
    keys, begun = [letter.encode() for letter in text], list[int]()
    for number, each in enumerate(sent):
        path = prefixes.observe(steps(each), None, float(number), float(number))
        if text.startswith(each):
            begun = path
    assert prefixes.path(keys, begun) == prefixes.path(keys)


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=12))
def test_what_is_told_of_a_path_teaches_nothing_else(sent: list[str]) -> None:
    told, alone = Prefixes(limit=100, horizon=100.0), Prefixes(limit=100, horizon=100.0)
    for number, each in enumerate(sent):
        known = told.path([letter.encode() for letter in each])
        told.observe(steps(each), None, float(number), float(number), sent=known)
        alone.observe(steps(each), None, float(number), float(number))
    for visits in range(1, MANY + 1):
        kind = Class(TURN, visits)
        assert told.rates.returns(kind).within(300.0) == alone.rates.returns(kind).within(300.0)


def test_prefixes_that_are_waited_for_together_return_one_by_one() -> None:
    together, apart = Rates(), Rates()
    for number in range(20):
        now = 2.0 * number
        together.returned(together.sent(Class(TURN, 1), 2, now), 1, now + 1.5)
        apart.returned(apart.sent(Class(TURN, 1), 1, now), 1, now + 1.5)
        apart.sent(Class(TURN, 1), 1, now)
    for rates in (together, apart):
        rates.grow_older(10_000.0)
    one, other = (rates.returns(Class(TURN, 1)).within(300.0)[0] for rates in (together, apart))
    assert abs(one - other) < 0.05
    assert 0.4 < other < 0.6


def test_after_a_pause_a_bounded_number_is_counted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", 5)
    rates = Rates()
    for _ in range(20):
        rates.sent(Class(TURN, 1), 1, 0.0)
    chances = list[float]()
    for _ in range(60):
        rates.grow_older(1000.0)
        chances.append(rates.returns(Class(TURN, 1)).within(300.0)[0])
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > chances[10] > chances[-2] == chances[-1]
