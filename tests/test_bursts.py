"""Requests sent at once through the SDKs' clients: one of them writes what all share, by the simulator's bills."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import anthropic
import openai
import pytest

from prefixcache_integrations import awaited, sdk_hooks
from prefixcache_integrations.flows.prepare import Prepared
from prefixcache_integrations.prompt.answers import BEGINS, Answer
from prefixcache_integrations.sdk_hooks import lay_out_client
from prefixcache_integrations.server import Simulator
from tests.bursts import RULES, Gate, read, written

COUNT = 5
SETTINGS = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}


@pytest.fixture(scope="module")
def gate():
    return Gate()


@pytest.fixture(scope="module")
def server(gate):
    with Simulator(model=gate) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_one_time(monkeypatch):
    """However slow the machine is, no answer is given up."""
    monkeypatch.setattr(sdk_hooks, "time", SimpleNamespace(time=lambda: 1_000_000.0))


@pytest.fixture(params=["claude", "gpt"])
def kind(request):
    return request.param


@pytest.fixture
def ask(simulator, kind):
    """Return a function that asks a laid out client a question, as a stream if told to."""
    if kind == "claude":
        claude = lay_out_client(anthropic.Anthropic(base_url=simulator.base_url("anthropic"), **SETTINGS))
        model = {"model": "claude-sonnet-4-6", "max_tokens": 64, "system": RULES}
        yield lambda said, **more: claude.messages.create(messages=[{"role": "user", "content": said}], **model, **more)
        claude.close()
    else:
        gpt = lay_out_client(openai.OpenAI(base_url=simulator.base_url("openai"), **SETTINGS))
        head = {"role": "system", "content": RULES}
        yield lambda said, **more: gpt.chat.completions.create(
            model="gpt-5.6-luna", messages=[head, {"role": "user", "content": said}], **more
        )
        gpt.close()


def test_of_requests_at_once_one_writes_and_the_next_one_reads(simulator, gate, ask):
    gate.expect(COUNT)
    with ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(ask, (f"burst {number}" for number in range(COUNT))))
    assert sum(written(simulator)) == 1
    ask("and now?")
    assert read(simulator)[-1]


def test_awaiting_clients_write_once_too(simulator, gate):
    client = lay_out_client(anthropic.AsyncAnthropic(base_url=simulator.base_url("anthropic"), **SETTINGS))
    model = {"model": "claude-sonnet-4-6", "max_tokens": 64, "system": RULES}

    async def burst():
        gate.expect(COUNT)
        asked = ([{"role": "user", "content": f"burst {number}"}] for number in range(COUNT))
        async with client:
            await asyncio.gather(*(client.messages.create(messages=each, **model) for each in asked))

    asyncio.run(burst())
    assert sum(written(simulator)) == 1


def test_a_stream_that_has_begun_can_be_read_before_it_ends(simulator, ask):
    with ask("tell me all", stream=True) as stream:
        next(iter(stream))
        ask("and what of it?")
    assert read(simulator) == [False, True]


def test_after_a_request_that_failed_the_next_one_writes(simulator, ask):
    with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)):
        ask("fail now")
    ask("why?")
    assert written(simulator) == [False, True]


def test_an_attempt_after_one_that_failed_waits_for_the_same_answer():
    first, second = Answer(), Answer()
    call = awaited.begin()
    for answer in (first, second):
        made = awaited.planned(lambda answer=answer: Prepared(body={}, answer=answer), 10.0)
        assert made.answer is answer
    assert [first.awaited(10.0), second.awaited(10.0 + BEGINS / 2)] == [True, True]
    call.begun()
    call.failed()
    assert [first.readable(10.0), second.readable(10.0)] == [True, True]


def test_while_an_attempt_is_planned_nothing_is_taken_to_be_on_its_way():
    """It may write what the one before it wrote, and so may another layer of the same call."""
    first, seen = Answer(), []
    outer = awaited.begin()
    awaited.planned(lambda: Prepared(body={}, answer=first), 10.0)
    awaited.begin()
    awaited.planned(lambda: seen.append(first.awaited(10.0)) or Prepared(body={}, answer=Answer()), 10.0)
    assert [*seen, first.awaited(10.0)] == [False, True]
    outer.failed()
    assert not first.readable(20.0)


def test_what_nobody_follows_is_not_awaited():
    awaited.begin().begun()
    answer = Answer()
    awaited.planned(lambda: Prepared(body={}, answer=answer), 10.0)
    assert answer.readable(10.0)
