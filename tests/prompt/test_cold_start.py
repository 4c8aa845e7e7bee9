"""What the first requests of an application cost, by the simulator's bill, before it is known how often what returns.

Beside no cache at all, and beside markers after the tools, the instructions and the latest message, as a plan without
a memory has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest

from prefixcache_integrations.canonical import Level
from tests.prompt.bills import Sent, billed, share


def body(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 9, "messages": list(messages), **more}


def said(what: str, words: int) -> dict[str, Any]:
    return {"role": "user", "content": f"{what} " + "word " * words}


def tool(number: int, words: int = 60) -> dict[str, Any]:
    return {"name": f"tool_{number}", "description": "does it " * words, "input_schema": {"type": "object"}}


def questions(count: int = 40, pause: float = 5.0, **more: Any) -> Iterator[Sent]:
    for number in range(count):
        yield Sent(number * pause, body([said(f"question {number}", 1500)], **more))


def written_out() -> Iterator[Sent]:
    """One tool that has to be called: the form that the answer is to have."""
    yield from questions(tools=[tool(0)], tool_choice={"type": "tool", "name": "tool_0"})


def instructed_anew() -> Iterator[Sent]:
    for number in range(40):
        yield Sent(number * 5.0, body([said("why", 100)], system=f"for user {number} " + "be brief " * 700))


def with_tools_of_the_call(turns: int = 5) -> Iterator[Sent]:
    """Conversations whose every request has other tools."""
    chance = Random(5)  # noqa: S311 - a seeded run
    for talk in range(10):
        messages = [said(f"task {talk}", 30)]
        for turn in range(turns):
            tools = [tool(number) for number in chance.sample(range(20), 8)]
            yield Sent(talk * 100.0 + turn * 5.0, body(messages, tools=tools, system="be brief " * 600))
            messages += [{"role": "assistant", "content": f"done {turn}"}, said(f"and {turn}", 150)]


def talks(turns: int, pause: float, apart: float, count: int = 30, **more: Any) -> Iterator[Sent]:
    for talk in range(count):
        messages = [said(f"talk {talk}", 900)]
        for turn in range(turns):
            yield Sent(talk * apart + turn * pause, body(messages, **more))
            messages += [{"role": "assistant", "content": "so " * 50}, said(f"and {turn}", 100)]


def with_more_tools() -> Iterator[Sent]:
    """A conversation that gets another tool with every turn."""
    for number, sent in enumerate(talks(20, 3.0, 0.0, count=1, system="be brief " * 400)):
        yield Sent(sent.at, {**sent.body, "tools": [tool(each) for each in range(5 + number)]})


def cost(requests: Iterable[Sent], level: Level = "canonical", *, learning: bool = True) -> float:
    """Return the bill as a share of what the same requests cost without a cache."""
    return share(billed(requests, level, learning=learning))


@pytest.mark.parametrize("requests", [questions, written_out, instructed_anew, with_tools_of_the_call])
def test_what_never_comes_again_is_soon_not_written_any_more(requests: Callable[[], Iterator[Sent]]) -> None:
    assert cost(requests(), learning=False) > 1.2
    assert cost(requests()) < 1.07


TALKS: dict[str, Callable[[], Iterator[Sent]]] = {
    "agents": lambda: talks(6, 20.0, 1.0, tools=[tool(0), tool(1)]),
    "people who take a minute": lambda: talks(4, 60.0, 5.0),
    "people one after the other": lambda: talks(3, 40.0, 130.0),
    "two questions each": lambda: talks(2, 15.0, 20.0, system="be brief " * 600),
}


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
def test_conversations_are_written_from_the_start(requests: Callable[[], Iterator[Sent]]) -> None:
    """Some were taken for questions that nobody goes on with, while none was old enough to know."""
    assert cost(requests()) < 1.06 * cost(requests(), learning=False)


def test_a_list_of_tools_that_grows_is_written_and_what_comes_after_it_is_not() -> None:
    assert cost(with_more_tools()) < 0.9 * cost(with_more_tools(), learning=False)


def sampled(seed: int, count: int, words: int) -> Iterator[Sent]:
    """Single questions, each with some of many tools: those that were chosen for it."""
    chance = Random(seed)  # noqa: S311 - a seeded run
    for number in range(count):
        tools = [tool(each, words) for each in chance.sample(range(20), 8)]
        yield Sent(number * 5.0, body([said(f"task {number}", 30)], tools=tools, system="be brief " * 600))


@pytest.mark.parametrize("count", [10, 20, 30])
def test_tools_in_an_order_that_was_sent_never_cost_more_than_in_their_own(count: int) -> None:
    """Lists that begin alike say nothing of how prompts come back, and too little of them to be read."""
    assert cost(with_tools_of_the_call(), "canonical") <= cost(with_tools_of_the_call(), "mark")
    for seed in range(3):
        assert cost(sampled(seed, count, 60), "canonical") <= cost(sampled(seed, count, 60), "mark")


def test_of_lists_of_tools_that_begin_alike_the_beginning_is_written_and_not_the_end() -> None:
    for seed in range(2):
        assert cost(sampled(seed, 60, 200), "canonical") < cost(sampled(seed, 60, 200), "mark")
