"""`serve` over real stores and both runners."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefixcache_integrations.canonical import Part, Response
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.flows.serve import Served, serve
from prefixcache_integrations.runner import arun, run
from prefixcache_integrations.store_io import StoreIO, async_io, new_flights
from prefixcache_integrations.stores import MemoryStore
from tests.stores.awaited import Waiting

TERMS = Terms(key=EntryKey("tenant", "digest"), model="model", patience=10)


class Text:
    """Answers that are text; an empty one is refused."""

    def read(self, entry):
        if entry.codec != "text/1":
            raise CorruptEntry("foreign")
        return entry.body.decode()

    def write(self, answer):
        return Entry(codec="text/1", body=answer.encode())

    def responses(self, answer):
        parts = (Part(kind="text", raw={}, text=answer),)
        return [Response(dialect="openai_chat", id="", model="", parts=parts, stop_reason="stop")]


class Calls:
    def __init__(self, seconds=0.0, answer="answer"):
        self.made = 0
        self.seconds = seconds
        self.answer = answer
        self._lock = threading.Lock()

    def begin(self):
        with self._lock:
            self.made += 1
        if isinstance(self.answer, Exception):
            raise self.answer

    def call(self):
        time.sleep(self.seconds)
        self.begin()
        return self.answer

    async def acall(self):
        await asyncio.sleep(self.seconds)
        self.begin()
        return self.answer


@pytest.fixture(params=["inline", "awaiting"])
def ios(request):
    """Return the blocking and the awaiting performer of one store, sharing their flights."""
    store = MemoryStore() if request.param == "inline" else Waiting(MemoryStore())
    flights = new_flights()
    return StoreIO(store, (), flights), async_io(store, (), flights)


def test_of_many_threads_one_calls_and_later_ones_hit(ios):
    calls = Calls(0.2)
    with ThreadPoolExecutor(30) as pool:
        served = list(pool.map(lambda _: run(serve(TERMS, calls.call, Text()), ios[0]), range(30)))
    outcomes = [each.outcome for each in served]
    assert calls.made == outcomes.count("miss") == 1
    assert outcomes.count("joined") >= 1  # how many come in time is the machine's affair
    assert {each.answer for each in served} == {"answer"}
    assert run(serve(TERMS, calls.call, Text()), ios[0]) == Served(answer="answer", outcome="hit")


async def test_of_many_tasks_one_calls_and_later_ones_hit(ios):
    calls = Calls(0.1)
    served = await asyncio.gather(*(arun(serve(TERMS, calls.acall, Text()), ios[1]) for _ in range(30)))
    assert calls.made == 1
    assert sorted(each.outcome for each in served) == ["joined"] * 29 + ["miss"]
    assert (await arun(serve(TERMS, calls.acall, Text()), ios[1])).outcome == "hit"


async def test_an_error_is_its_callers_alone_and_those_who_waited_call_at_once(ios):
    refused, called = Calls(0.05, ValueError("bad key")), Calls(0.1)
    asking = [arun(serve(TERMS, calls.acall, Text()), ios[1]) for calls in (refused, *[called] * 9)]
    start = time.monotonic()
    first, *others = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, ValueError)
    assert [each.answer for each in others] == ["answer"] * 9
    assert time.monotonic() - start < 0.8
    assert (await arun(serve(TERMS, called.acall, Text()), ios[1])).outcome == "hit"


def test_an_error_leaves_nothing_in_the_air(ios):
    with pytest.raises(ValueError, match="no"):
        run(serve(TERMS, Calls(answer=ValueError("no")).call, Text()), ios[0])
    assert run(serve(TERMS, Calls().call, Text()), ios[0]).outcome == "miss"


async def test_when_the_caller_is_cancelled_one_who_waited_calls(ios):
    calls = Calls(0.1)
    tasks = [asyncio.create_task(arun(serve(TERMS, calls.acall, Text()), ios[1])) for _ in range(4)]
    await asyncio.sleep(0.02)
    tasks[0].cancel()
    served = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(served[0], asyncio.CancelledError)
    assert sorted(each.outcome for each in served[1:]) == ["joined", "joined", "miss"]
    assert calls.made == 1


def test_an_answer_that_is_not_kept_is_called_for_by_everyone_at_once(ios):
    calls, start = Calls(0.2, ""), time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        served = list(pool.map(lambda _: run(serve(TERMS, calls.call, Text()), ios[0]), range(10)))
    assert [each.outcome for each in served] == ["miss"] * 10
    assert time.monotonic() - start < 1.5


def test_what_is_not_to_be_cached_is_called_each_time(ios):
    calls = Calls()
    for _ in range(2):
        bypassed = Terms(key=TERMS.key, bypass="reasons")
        assert run(serve(bypassed, calls.call, Text()), ios[0]).outcome == "bypass"
    assert calls.made == 2


def test_a_call_inside_a_call_of_the_same_does_not_wait_for_itself(ios):
    calls = Calls()

    def outer():
        return run(serve(TERMS, calls.call, Text()), ios[0]).answer + "!"

    assert run(serve(TERMS, outer, Text()), ios[0]) == Served(answer="answer!", outcome="miss")


async def test_who_waits_on_a_loop_that_ends_leaves_no_trace(ios, caplog):
    calls = Calls(0.3)
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(run, serve(TERMS, calls.call, Text()), ios[0])
        await asyncio.sleep(0.05)

        def impatient():
            async def wait():
                async with asyncio.timeout(0.05):
                    await arun(serve(TERMS, calls.acall, Text()), ios[1])

            with pytest.raises(TimeoutError):
                asyncio.run(wait())

        await asyncio.to_thread(impatient)
        assert leading.result().outcome == "miss"
    assert calls.made == 1
    assert caplog.records == []
