"""The response cache over a real Redis server, under load and without it."""

import asyncio
import time

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from prefixcache_integrations.events import CacheHit, StoreDegraded, StoreRestored, StoreSuspended
from prefixcache_integrations.langchain import ResponseCache


class Counted(BaseChatModel):
    """Answers every question with itself, and counts how often it was asked."""

    calls: int = 0

    @property
    def _llm_type(self):
        return "counted"

    @property
    def _identifying_params(self):
        return {"model": "counted"}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.calls += 1
        answer = AIMessage(f"answer to {messages[-1].content}", response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=answer)])


@pytest.fixture
def server(start_redis):
    return start_redis()


async def test_four_hundred_warm_questions_at_once_ask_no_provider(server, events):
    cache = ResponseCache.from_url(server.url() + "?timeout=2", observers=[events.append])
    model = Counted(cache=cache)
    questions = [f"question {number}" for number in range(400)]
    await asyncio.gather(*(model.ainvoke(question) for question in questions))
    assert model.calls == 400
    events.clear()
    answers = await asyncio.gather(*(model.ainvoke(question) for question in questions))
    assert [answer.content for answer in answers] == [f"answer to {question}" for question in questions]
    assert model.calls == 400
    assert {type(event) for event in events} == {CacheHit}
    await cache.aclose()


def test_a_server_that_hangs_and_comes_back_costs_no_answer(server, events):
    cache = ResponseCache.from_url(server.url(), observers=[events.append])
    model = Counted(cache=cache)
    model.invoke("question")
    server.pause()
    assert [model.invoke("question").content for _ in range(20)] == ["answer to question"] * 20
    server.resume()
    assert model.calls == 21
    deadline = time.monotonic() + 10
    while model.calls and not isinstance(events[-1], CacheHit) and time.monotonic() < deadline:
        time.sleep(0.05)
        model.invoke("question")
    assert isinstance(events[-1], CacheHit)
    kinds = [type(event) for event in events]
    assert kinds.count(StoreSuspended) == kinds.count(StoreRestored) == 1
    assert kinds.count(StoreDegraded) >= 40
    cache.close()


def test_tenants_share_a_server_and_nothing_else(server):
    caches = [ResponseCache.from_url(server.url() + "?timeout=1", namespace=name) for name in ("a", "b")]
    first, second = (Counted(cache=cache) for cache in caches)
    for model in (first, second, first, second):
        model.invoke("question")
    assert (first.calls, second.calls) == (1, 1)
    caches[0].clear()
    second.invoke("question")
    first.invoke("question")
    assert (first.calls, second.calls) == (2, 1)
    for cache in caches:
        cache.close()
