"""Requests sent at once through the SDKs' clients: one of them writes what all share, by the simulator's bills."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import SimpleNamespace

import anthropic
import openai
import pytest

from prefixcache_integrations import awaited, sdk_hooks
from prefixcache_integrations.events import PromptPlanned
from prefixcache_integrations.prompt.answers import BEGINS
from prefixcache_integrations.prompt.stability import PromptMemory
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


@pytest.fixture(autouse=True)
def _in_a_context_of_its_own(monkeypatch):
    """Calls that a test leaves under way are no other's."""
    monkeypatch.setattr(awaited, "_CALL", ContextVar("call", default=None))


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


def test_a_request_that_failed_has_no_answer_and_others_have_one(ask, monkeypatch):
    answers = []
    monkeypatch.setattr(sdk_hooks, "answer_to", lambda *of: answers.append(awaited.answer_to(*of)) or answers[-1])
    with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)):
        ask("fail now")
    ask("why?")
    assert [answer.lost for answer in answers] == [True, False]
    assert not any(answer.awaited(1_000_000.0) for answer in answers)


def planned(answer):
    """Plan an attempt that has this ``answer`` at ten o'clock; return whether it was awaited meanwhile."""
    with answer.attempted(10.0):
        return answer.awaited(10.0)


def test_an_attempt_after_one_that_failed_waits_for_the_same_answer():
    memory, call = PromptMemory(), awaited.begin()
    first = awaited.answer_to(memory, 10.0)
    assert not planned(first)
    assert not first.readable(10.0)
    second = awaited.answer_to(memory, 10.0 + BEGINS / 2)
    assert second is first
    assert not second.readable(10.0 + BEGINS)
    call.begun()
    call.failed()
    assert first.readable(10.0)


def test_while_a_layer_plans_what_another_one_planned_is_awaited_still():
    """It is another memory's, by which others may be planning."""
    outer = awaited.begin()
    first = awaited.answer_to(PromptMemory(), 10.0)
    planned(first)
    for _ in range(2):
        inner = awaited.begin()
        second = awaited.answer_to(PromptMemory(), 10.0 + BEGINS)
        assert second is not first
        assert not planned(second)
        assert not first.readable(10.0 + BEGINS)
        inner.failed()
    outer.failed()
    assert not first.readable(20.0)


def test_layers_that_plan_by_one_memory_wait_for_one_answer():
    memory = PromptMemory()
    awaited.begin()
    first = awaited.answer_to(memory, 10.0)
    planned(first)
    awaited.begin()
    assert awaited.answer_to(memory, 10.0) is first


def test_what_nobody_follows_is_not_awaited():
    awaited.begin().begun()
    assert awaited.answer_to(PromptMemory(), 10.0) is None


def test_a_layer_that_has_ended_is_awaited_no_more():
    outer = awaited.begin()
    first = awaited.answer_to(PromptMemory(), 10.0)
    awaited.begin()
    outer.begun()
    awaited.answer_to(PromptMemory(), 10.0)
    assert first.readable(10.0)


def test_a_call_goes_on_when_another_one_has_ended_within_it():
    """An observer, or a tool, may ask a model too."""
    memory = PromptMemory()
    awaited.begin()
    first = awaited.answer_to(memory, 10.0)
    awaited.begin().begun()
    assert awaited.answer_to(memory, 10.0) is first


def test_a_call_that_has_ended_keeps_no_memory_alive():
    memory, call = PromptMemory(), awaited.begin()
    awaited.answer_to(memory, 10.0)
    kept = weakref.ref(memory)
    call.begun()
    del memory
    gc.collect()
    assert kept() is None


def test_what_takes_long_to_be_told_of_a_plan_lets_nobody_else_write(simulator, gate):
    """Until it is sent, nobody knows but the memory."""
    told = threading.Barrier(COUNT, timeout=30)
    client = anthropic.Anthropic(base_url=simulator.base_url("anthropic"), **SETTINGS)
    view = lay_out_client(client, observers=[lambda event: type(event) is PromptPlanned and told.wait()])
    gate.expect(COUNT)
    with client, ThreadPoolExecutor(COUNT) as pool:
        asked = ([{"role": "user", "content": f"burst {number}"}] for number in range(COUNT))
        model = {"model": "claude-sonnet-4-6", "max_tokens": 64, "system": RULES}
        list(pool.map(lambda each: view.messages.create(messages=each, **model), asked))
    assert sum(written(simulator)) == 1
