"""Conversations whose turns are minutes or hours apart: for how long they are written, by the simulator's bill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.prompt.bills import Sent, billed, share

TURNS = 6


def talks(pause: Callable[[], float], system: int = 600, turns: int = TURNS, talks: int = 4) -> Iterator[Sent]:
    """Conversations one after the other, with a pause after each turn."""
    now = 0.0
    for talk in range(talks):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"talk {talk} " + "word " * 900}]
        for turn in range(turns):
            head = {"system": "be brief " * system} if system else {}
            yield Sent(now, {"model": "claude-sonnet-5", "max_tokens": 9, "messages": list(messages), **head})
            messages += [
                {"role": "assistant", "content": f"done {turn} " + "so " * 50},
                {"role": "user", "content": f"and {turn} " + "word " * 150},
            ]
            now += pause()


def by_talk(requests: Iterator[Sent], turns: int = TURNS) -> list[float]:
    """Return what each conversation costs, as a share of what it does without a cache."""
    bills = billed(requests)
    return [share(bills[start : start + turns]) for start in range(0, len(bills), turns)]


@pytest.mark.parametrize("system", [0, 600])
@pytest.mark.parametrize("pause", [400.0, 1000.0, 3000.0])
def test_the_second_conversation_of_those_who_take_minutes_is_written_for_an_hour(pause: float, system: int) -> None:
    _, second, *others = by_talk(talks(lambda: pause, system))
    assert second <= 1.01 * min(others) < 0.65


def test_conversations_of_two_turns_that_take_minutes_are_written_for_an_hour_from_the_third_on() -> None:
    _, _, third, *others = by_talk(talks(lambda: 400.0, turns=2), turns=2)
    assert third <= 1.01 * min(others) < 0.65


@pytest.mark.parametrize("pause", [20.0, 290.0])
def test_conversations_within_minutes_are_written_for_minutes(pause: float) -> None:
    assert max(by_talk(talks(lambda: pause))) < 0.34


def test_conversations_that_go_on_after_hours_are_soon_not_written_at_all() -> None:
    first, *others = by_talk(talks(lambda: 7200.0))
    assert first < 1.2
    assert max(others) < 1.03


def test_now_and_then_a_pause_of_minutes_is_enough_to_write_for_an_hour() -> None:
    pauses = count()
    *_, last = by_talk(talks(lambda: 400.0 if next(pauses) % 3 == 0 else 20.0, talks=6))
    assert last < 0.33


@pytest.mark.parametrize("seed", range(3))
def test_who_answers_at_once_or_after_an_hour_is_written_for_neither_much_too_long_nor_too_short(seed: int) -> None:
    """Without a memory each turn is written for minutes, and each pause loses it."""
    chance = Random(seed)  # noqa: S311 - a seeded run
    requests = list(talks(lambda: chance.choice((5.0, 5.0, 5.0, 2000.0, 9000.0)), talks=12))
    assert share(billed(requests)) < 1.06 * share(billed(requests, learning=False))


def test_turns_in_two_modes_are_soon_written_though_each_comes_again_minutes_later() -> None:
    """What was sent twice is expected back when what was sent once is: it was not, until it had come."""
    requests = list[Sent]()
    for talk in range(12):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"talk {talk} " + "word " * 900}]
        for turn in range(10):
            mode = f"mode {turn % 2} " + "be brief " * 400
            sent = {"model": "claude-sonnet-5", "max_tokens": 9, "system": mode, "messages": list(messages)}
            requests.append(Sent(talk * 5.0 + turn * 90.0, sent))
            messages += [{"role": "assistant", "content": "so " * 50}, {"role": "user", "content": "and " * 150}]
    learned, plain = billed(requests), billed(requests, learning=False)
    assert share(learned[len(learned) // 2 :]) <= 1.01 * share(plain[len(plain) // 2 :])
