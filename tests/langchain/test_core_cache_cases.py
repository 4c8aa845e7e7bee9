"""What langchain-core asks of caches in its own tests: which cache is asked, what a hit must not cost, what is no key."""

import asyncio
import itertools

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import PrivateAttr

from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.stores import MemoryStore


class Chat(BaseChatModel):
    """A chat model that answers ``answer 1``, ``answer 2``, …"""

    _numbers: itertools.count = PrivateAttr(default_factory=lambda: itertools.count(1))

    @property
    def _llm_type(self):
        return "counting"

    @property
    def _identifying_params(self):
        return {"model": "counting"}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = AIMessage(f"answer {next(self._numbers)}", id=f"msg_{id(messages)}")
        answer.usage_metadata = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(0)
        return self._generate(messages, stop, run_manager, **kwargs)


class Completion(BaseLLM):
    """The same for completions."""

    _numbers: itertools.count = PrivateAttr(default_factory=lambda: itertools.count(1))

    @property
    def _llm_type(self):
        return "counting"

    @property
    def _identifying_params(self):
        return {"model": "counting"}

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        return LLMResult(generations=[[Generation(text=f"answer {next(self._numbers)}")] for _ in prompts])


class Limiter(BaseRateLimiter):
    """Counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def acquire(self, *, blocking=True):
        self.asked += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire(blocking=blocking)


@pytest.fixture
def cache():
    return ResponseCache(MemoryStore())


@pytest.fixture
def other_cache():
    cache = ResponseCache(MemoryStore())
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


@pytest.fixture(params=[Chat, Completion])
def kind(request):
    return request.param


def said(answer):
    return getattr(answer, "content", answer)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    if request.param == "sync":
        return lambda model, question, **call: said(model.invoke(question, **call))
    return lambda model, question, **call: said(asyncio.run(model.ainvoke(question, **call)))


@pytest.fixture(params=["sync", "async"])
def ask_all(request):
    if request.param == "sync":
        return lambda model, questions: list(map(said, model.batch(questions)))
    return lambda model, questions: list(map(said, asyncio.run(model.abatch(questions))))


def test_a_models_own_cache_is_asked_and_not_the_global_one(kind, ask, cache, other_cache):
    model = kind(cache=cache)
    assert ask(model, "hi") == ask(model, "hi") == "answer 1"
    assert cache.stats().stored == 1
    assert other_cache.stats().stored == other_cache.stats().misses == 0


def test_a_model_with_none_of_its_own_asks_the_global_one(kind, ask, other_cache):
    for model in (kind(), kind(cache=True)):
        assert ask(model, "hi") == ask(model, "hi") == "answer 1"
    assert other_cache.stats().hits == 3


def test_a_model_that_wants_none_asks_none(kind, ask, other_cache):
    model = kind(cache=False)
    assert [ask(model, "hi"), ask(model, "hi")] == ["answer 1", "answer 2"]
    assert other_cache.stats().misses == 0


def test_a_stop_sequence_is_another_question(kind, ask, cache):
    model = kind(cache=cache)
    assert ask(model, "hi") == "answer 1"
    assert ask(model, "hi", stop=["x"]) == "answer 2"
    assert ask(model, "hi", stop=["x"]) == "answer 2"


@pytest.mark.parametrize("place", ["own", "global"])
def test_a_batch_is_answered_question_by_question(kind, ask_all, cache, other_cache, place):
    model = kind(cache=cache if place == "own" else None)
    first = ask_all(model, ["how", "are", "you"])
    assert len(set(first)) == 3
    assert ask_all(model, ["you", "are", "new", "how"])[:2] == [first[2], first[1]]
    assert (cache if place == "own" else other_cache).stats().hits == 3


def test_the_same_twice_in_a_batch_is_one_call(ask_all, cache):
    assert ask_all(Chat(cache=cache), ["hi"] * 4) == ["answer 1"] * 4


def test_a_hit_is_not_charged_to_the_rate_limiter(ask, cache):
    limiter = Limiter()
    model = Chat(cache=cache, rate_limiter=limiter)
    for question in ("hi", "hi", "hi", "you", "hi"):
        ask(model, question)
    assert limiter.asked == 2


def test_neither_ids_nor_usage_nor_the_cost_that_a_hit_is_marked_with_are_part_of_the_question(ask, cache):
    model = Chat(cache=cache)
    plain = [HumanMessage("one"), AIMessage("answer 1"), HumanMessage("two")]
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "total_cost": 0}
    told = AIMessage("answer 1", id="lc_run--7")
    told.usage_metadata = usage
    again = [HumanMessage("one", id="1"), told, HumanMessage("two", id="2")]
    assert ask(model, plain) == ask(model, again) == "answer 1"


def test_both_caches_of_the_same_process_know_nothing_of_each_other(ask, cache):
    core = InMemoryCache()
    assert ask(Chat(cache=cache), "hi") == ask(Chat(cache=core), "hi") == "answer 1"
    (generation,) = core.lookup(dumps([HumanMessage("hi")]), Chat()._get_llm_string())
    assert "prefixcache" not in generation.message.response_metadata
