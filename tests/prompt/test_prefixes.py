"""Prefixes that were sent, and how often their like come back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.prompt import rates as module
from prefixcache_integrations.prompt.answers import Answer
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


def awaited(now: float) -> Answer:
    answer = Answer()
    answer.await_from(now)
    return answer


def test_what_is_written_anew_was_sent_before_and_what_is_new_was_not() -> None:
    prefixes = Prefixes(limit=10, horizon=10_000.0)
    path = prefixes.observe(steps("ab"), None, 1.0, 1.0)
    assert prefixes.observe(steps("ab"), None, 1000.0, 1000.0, answer=awaited(1000.0)) == path
    whole = prefixes.observe(steps("abc"), None, 1000.1, 1000.1, answer=awaited(1000.1))
    assert prefixes.sent_before(whole, 1000.2) == len(path)


def test_of_those_who_write_at_once_the_answer_of_the_first_counts() -> None:
    prefixes = Prefixes(limit=10, horizon=10_000.0)
    first, second = awaited(0.0), awaited(0.1)
    marked = [Step(b"a", TURN, writes=300.0)]
    (number,) = prefixes.observe(marked, None, 0.0, 0.0, answer=first)
    prefixes.observe(marked, None, 0.1, 0.1, answer=second)
    prefix = prefixes.get(number)
    assert prefix is not None
    assert not prefix.alive(0.2)
    first.begun()
    assert prefix.alive(0.2)


def test_whoever_writes_after_a_failure_has_the_answer_that_counts() -> None:
    prefixes = Prefixes(limit=10, horizon=10_000.0)
    first, second = awaited(0.0), awaited(0.1)
    (number,) = prefixes.observe(steps("a"), None, 0.0, 0.0, answer=first)
    first.failed()
    prefixes.observe(steps("a"), None, 0.1, 0.1, answer=second)
    prefix = prefixes.get(number)
    assert prefix is not None
    assert prefix.answer is second


def test_what_comes_while_it_is_written_anew_comes_as_late_as_the_one_who_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefixes, pauses = Prefixes(limit=10, horizon=10_000.0), list[object]()
    returned = prefixes.rates.returned

    def told(*of: Any, **more: Any) -> None:
        pauses.append(more.get("pause"))
        returned(*of, **more)

    monkeypatch.setattr(prefixes.rates, "returned", told)
    for now in (1.0, 1000.0, 1000.5):
        prefixes.observe(steps("a"), None, now, now, answer=awaited(now))
    assert pauses == [999.0, 999.5]
