"""Callers who ask the same at the same time: one of them calls."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI

from prefixcache_integrations.caching import caching
from prefixcache_integrations.errors import AnswerNotCached
from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.server import Reply, Simulator

ASK = [ChatMessage(content="How long for lamps, and what do they cost in the end?")]
CALLERS = 6


@pytest.fixture
def slow():
    """Yield a simulator that takes a moment for each answer, and an enabled LLM on it."""

    def model(_):
        threading.Event().wait(0.2)
        return Reply(text="Thirty days, and nothing at all.")

    with Simulator(model=model) as simulator:
        url = simulator.base_url("openai")
        llm = OpenAI(
            model="gpt-4o-mini", api_key="k", api_base=url, max_retries=0, default_headers={"Connection": "close"}
        )
        yield simulator, enable(llm, cache="memory://")


def test_threads_share_one_call(slow):
    simulator, llm = slow
    with ThreadPoolExecutor(CALLERS) as pool:
        texts = list(pool.map(lambda _: llm.chat(ASK).message.content, range(CALLERS)))
    assert set(texts) == {"Thirty days, and nothing at all."}
    assert len(simulator.calls) == 1


def test_threads_share_one_stream(slow):
    simulator, llm = slow
    with ThreadPoolExecutor(CALLERS) as pool:
        texts = list(pool.map(lambda _: "".join(piece.delta for piece in llm.stream_chat(ASK)), range(CALLERS)))
    assert set(texts) == {"Thirty days, and nothing at all."}
    assert len(simulator.calls) == 1


async def test_tasks_share_one_call(slow):
    simulator, llm = slow
    answers = await asyncio.gather(*(llm.achat(ASK) for _ in range(CALLERS)))
    assert {answer.message.content for answer in answers} == {"Thirty days, and nothing at all."}
    assert len(simulator.calls) == 1


async def test_tasks_share_one_stream(slow):
    simulator, llm = slow

    async def read():
        return "".join([piece.delta async for piece in await llm.astream_chat(ASK)])

    assert set(await asyncio.gather(*(read() for _ in range(CALLERS)))) == {"Thirty days, and nothing at all."}
    assert len(simulator.calls) == 1


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_who_leaves_a_stream_keeps_nobody_waiting(slow, leave):
    simulator, llm = slow
    stream = llm.stream_chat(ASK)
    if leave == "close":
        next(stream)
        stream.close()
    del stream
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(llm.chat, ASK).result(timeout=5).message.content
    assert len(simulator.calls) == 1 + (leave == "close")


def test_two_streams_of_the_same_in_one_thread_do_not_wait_for_each_other(slow):
    simulator, llm = slow
    streams = [llm.stream_chat(ASK), llm.stream_chat(ASK)]
    texts = ["".join(piece.delta for piece in stream) for stream in streams]
    assert texts[0] == texts[1]
    assert len(simulator.calls) == 2


def test_caching_overrides_settings_for_a_while(slow):
    simulator, llm = slow
    with caching(mode="only"), pytest.raises(AnswerNotCached):
        llm.chat(ASK)
    llm.chat(ASK)
    with caching(mode="skip"):
        llm.chat(ASK)
    with caching(mode="refresh"):
        llm.chat(ASK)
    llm.chat(ASK)
    assert len(simulator.calls) == 3
