"""Requests that LangChain sends at once: one of them writes what all share, by the simulator's bills."""

import asyncio
from contextvars import Context
from types import SimpleNamespace

import pytest

from prefixcache_integrations import awaited
from prefixcache_integrations.langchain import model_view
from prefixcache_integrations.langchain.model_view import ModelLayout
from prefixcache_integrations.server import Simulator
from tests.bursts import RULES, Gate, read, written

COUNT = 5


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
    monkeypatch.setattr(model_view, "time", SimpleNamespace(time=lambda: 1_000_000.0))


@pytest.fixture(params=["claude", "gpt"])
def model(request, models):
    plain = models.claude(max_tokens=64) if request.param == "claude" else models.openai(model="gpt-5.6-luna")
    return ModelLayout().laid_out(plain)


def asked(question):
    return [("system", RULES), ("user", question)]


@pytest.mark.parametrize("awaiting", [False, True], ids=["batch", "abatch"])
def test_of_a_batch_one_request_writes_and_the_next_one_reads(simulator, gate, model, awaiting):
    gate.expect(COUNT)
    questions = [asked(f"burst {number}") for number in range(COUNT)]
    if awaiting:
        asyncio.run(model.abatch(questions))
    else:
        model.batch(questions, config={"max_concurrency": COUNT})
    assert sum(written(simulator)) == 1
    model.invoke(asked("and now?"))
    assert read(simulator)[-1]


def test_a_stream_that_has_begun_can_be_read_before_it_ends(simulator, model):
    pieces = model.stream(asked("tell me all"))
    next(pieces)
    Context().run(model.invoke, asked("and what of it?"))  # as another request: it is no part of this one
    list(pieces)
    assert read(simulator) == [False, True]


def test_a_stream_that_awaits_is_read_from_its_first_piece_on(simulator, model):
    async def follow():
        pieces = model.astream(asked("tell me all"))
        await anext(pieces)
        await asyncio.create_task(model.ainvoke(asked("and what of it?")), context=Context())
        async for _ in pieces:
            pass

    asyncio.run(follow())
    assert read(simulator) == [False, True]


def test_after_a_request_that_failed_the_next_one_writes(simulator, model):
    with pytest.raises(Exception, match="refused"):
        model.invoke(asked("fail now"))
    model.invoke(asked("why?"))
    assert written(simulator) == [False, True]


def test_a_request_that_nobody_waits_for_any_longer_may_have_no_answer(simulator, model, monkeypatch):
    answers, planned = [], asyncio.Event()

    def answer_to(*of):
        planned.set()
        answers.append(awaited.answer_to(*of))
        return answers[-1]

    async def leave():
        asking = asyncio.create_task(model.ainvoke(asked("tell me all")))
        await planned.wait()
        asking.cancel()
        await asyncio.wait([asking])

    monkeypatch.setattr(model_view, "answer_to", answer_to)
    asyncio.run(leave())
    assert [answer.lost for answer in answers] == [True]
