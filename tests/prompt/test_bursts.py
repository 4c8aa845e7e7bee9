"""Requests sent at once that share a prompt: one of them writes it, as nobody reads it before an answer has begun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.answers import BEGINS, Answer
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bills import FORMATS, Sent, billed, body, share
from tests.prompt.words import WORDS

COUNT = 20
CLAUDE = "claude-sonnet-5"
every_model = pytest.mark.parametrize("model", FORMATS)


def bursts(
    model: str, *, own: bool, apart: float = 600.0, rounds: int = 1, alike: bool = False, times: int = 6
) -> Iterator[Sent]:
    """Bursts of requests with instructions of their ``own``, or those of all; each goes on for so many rounds."""
    for burst in range(times):
        for number in range(COUNT):
            messages: list[dict[str, Any]] = [{"role": "user", "content": f"q {burst} {0 if alike else number} now"}]
            for each in range(rounds):
                instructions = f"job {burst if own else 0} " + "be brief " * 700
                yield Sent(burst * apart + number * 0.01 + each * 20.0, body(model, instructions, messages))
                messages += [{"role": "assistant", "content": "so " * 30}, {"role": "user", "content": "and " * 40}]


@every_model
@pytest.mark.parametrize("alike", [False, True], ids=["questions", "one question"])
def test_of_a_burst_one_request_writes_and_soon_none_does(model: str, *, alike: bool) -> None:
    """Nobody comes back after a burst: no cache at all costs 1."""
    bills = billed(bursts(model, own=True, alike=alike), answers=5.0)
    assert share(bills) < 1.01
    assert sum(bill.cost > bill.tokens for bill in bills) <= 4
    assert share(billed(bursts(model, own=True, alike=alike), answers=5.0, learning=False)) > 1.2


def test_what_a_burst_has_written_the_next_one_reads_altogether() -> None:
    first, *others = by_burst(billed(bursts(CLAUDE, own=False, apart=60.0), answers=5.0))
    assert share(first) < 1.02
    assert max(map(share, others)) < 0.14


def test_bursts_minutes_apart_are_written_for_an_hour_by_one_request() -> None:
    """Each of the second burst would have read what the first one had written for so long."""
    *before, last = map(share, by_burst(billed(bursts(CLAUDE, own=False), answers=5.0)))
    assert max(before) < 1.06
    assert last < 0.14


@pytest.mark.parametrize("own", [True, False])
def test_agents_that_begin_at_once_and_go_on_cost_less_than_if_all_had_written(*, own: bool) -> None:
    requests = list(bursts(CLAUDE, own=own, rounds=4, apart=300.0))
    assert share(billed(requests, answers=5.0)) < 0.95 * share(billed(requests, answers=5.0, learning=False))


@every_model
def test_who_comes_after_the_answer_has_begun_pays_what_he_would_if_nobody_had_told(model: str) -> None:
    requests = [sent._replace(at=number * 2.0) for number, sent in enumerate(bursts(model, own=True, rounds=3))]
    assert billed(requests, answers=0.5) == billed(requests)


def by_burst(bills: list[Any]) -> list[Any]:
    return [bills[start : start + COUNT] for start in range(0, len(bills), COUNT)]


class Burst:
    """Requests of one prompt, one by one."""

    def __init__(self, model: str) -> None:
        self.memory, self.model, self.count = PromptMemory(), model, 0

    def send(self, now: float) -> tuple[bool, Answer]:
        """Send the next one; return whether it is marked, and its answer, which is awaited."""
        self.count += 1
        said = [{"role": "user", "content": f"question {self.count} " + "word " * 20}]
        request = FORMATS[self.model].decode_request(body(self.model, "be brief " * 700, said))
        made = decide(request, resolve(self.model), WORDS, snapshot=self.memory.snapshot(now))
        assert made.sighting is not None
        answer = Answer()
        self.memory.observe(made.sighting, now, answer=answer)
        answer.await_from(now)
        return bool(made.plan.breakpoints), answer


@every_model
def test_when_the_answer_has_begun_others_read(model: str) -> None:
    burst = Burst(model)
    marked, answer = burst.send(0.0)
    assert marked
    assert not burst.send(0.1)[0]
    answer.begun()
    assert burst.send(0.2)[0]


@every_model
def test_when_the_request_has_failed_the_next_one_writes_alone(model: str) -> None:
    burst = Burst(model)
    _, answer = burst.send(0.0)
    answer.failed()
    assert [burst.send(0.1)[0], burst.send(0.2)[0]] == [True, False]


@every_model
def test_nobody_waits_for_an_answer_that_is_never_heard_of(model: str) -> None:
    burst = Burst(model)
    assert [burst.send(now)[0] for now in (0.0, BEGINS - 0.01, BEGINS)] == [True, False, True]
