"""Deleting while calls are in flight: what they answer was asked for before, and is not kept after."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from pydantic import Field

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import CacheSettings, caching
from prefixcache_integrations.dialects import OPENAI_CHAT
from prefixcache_integrations.events import EntryRejected
from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.stores import MemoryStore

QUESTION = OPENAI_CHAT.decode_request({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]})

WAYS = ["clear", "tag", "model", "where"]
ALL = [
    lambda cache: cache.clear(),
    lambda cache: cache.invalidate(tag="cats"),
    lambda cache: cache.invalidate(model="gpt-4o-mini"),
    lambda cache: cache.invalidate(where=lambda entry: True),
]
NONE = [
    lambda cache: cache.clear("another"),
    lambda cache: cache.invalidate(tag="dogs"),
    lambda cache: cache.invalidate(model="gpt-4o"),
    lambda cache: cache.invalidate(where=lambda entry: True, namespace="another"),
]


def body(text):
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini", "choices": choices}


def text(served):
    return served.answer["choices"][0]["message"]["content"]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def cache(seen):
    cache = PrefixCache(MemoryStore(), CacheSettings(tags=("cats",)), observers=[seen.append])
    yield cache
    cache.close()


@pytest.mark.parametrize("mode", ["use", "refresh"])
@pytest.mark.parametrize("delete", ALL, ids=WAYS)
def test_an_answer_to_a_call_in_flight_is_handed_over_and_not_kept(cache, seen, delete, mode):
    def call():
        delete(cache)
        return body("old")

    with caching(mode=mode):
        assert text(cache.serve(QUESTION, call)) == "old"
    assert [event.reason for event in seen if isinstance(event, EntryRejected)] == [
        "what is like it was deleted since it was asked for"
    ]
    assert text(cache.serve(QUESTION, lambda: body("new"))) == "new"
    assert cache.serve(QUESTION, call).outcome == "hit"


@pytest.mark.parametrize("delete", ALL, ids=WAYS)
async def test_so_it_is_awaited(cache, delete):
    async def call():
        delete(cache)
        return body("old")

    async def again():
        return body("new")

    assert text(await cache.aserve(QUESTION, call)) == "old"
    assert text(await cache.aserve(QUESTION, again)) == "new"


@pytest.mark.parametrize("delete", NONE, ids=WAYS)
def test_what_was_not_deleted_is_kept(cache, delete):
    def call():
        delete(cache)
        return body("old")

    cache.serve(QUESTION, call)
    assert cache.serve(QUESTION, call).outcome == "hit"


@pytest.mark.parametrize("delete", ALL, ids=WAYS)
def test_who_asks_after_the_deletion_does_not_get_the_answer_of_a_call_from_before(cache, delete):
    begun, go_on = threading.Event(), threading.Event()

    def old():
        begun.set()
        go_on.wait(10)
        return body("old")

    def new():
        go_on.set()
        return body("new")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.serve, QUESTION, old)
        assert begun.wait(10)
        delete(cache)
        second = pool.submit(cache.serve, QUESTION, new)
        threading.Timer(0.2, go_on.set).start()
        assert (text(first.result(10)), text(second.result(10))) == ("old", "new")
    assert text(cache.serve(QUESTION, old)) == "new"


def test_a_deletion_while_an_answer_is_being_written_deletes_it():
    class Slow(MemoryStore):
        def put(self, key, value, ttl, tags):
            if slow:
                slow.pop()
                cache.clear()
            return super().put(key, value, ttl, tags)

    slow, cache = [True], PrefixCache(Slow())
    cache.serve(QUESTION, lambda: body("old"))
    assert text(cache.serve(QUESTION, lambda: body("new"))) == "new"
    assert cache.serve(QUESTION, lambda: body("newer")).outcome == "hit"


ANSWERS = []
CACHES = []


class Deleting(BaseChatModel):
    """A model during whose first answer the cache is emptied; it holds no state, which would count in its keys."""

    @property
    def _llm_type(self):
        return "deleting"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        ANSWERS.append(f"answer {len(ANSWERS)}")
        if len(ANSWERS) == 1:
            CACHES[-1].clear()
        message = AIMessage(ANSWERS[-1], response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        text = self._generate(messages).generations[0].text
        yield ChatGenerationChunk(message=AIMessageChunk(text, response_metadata={"finish_reason": "stop"}))


@pytest.fixture
def model():
    ANSWERS.clear()
    CACHES.append(ResponseCache(MemoryStore()))
    set_llm_cache(CACHES[-1])
    yield Deleting()
    set_llm_cache(None)


@pytest.mark.parametrize("mode", ["use", "refresh"])
def test_langchain_keeps_no_answer_from_before_either(model, mode):
    with caching(mode=mode):
        first = model.invoke("hi").content
    assert [first, *(model.invoke("hi").content for _ in range(2))] == ["answer 0", "answer 1", "answer 1"]


@pytest.mark.parametrize("mode", ["use", "refresh"])
async def test_nor_awaiting(model, mode):
    with caching(mode=mode):
        first = (await model.ainvoke("hi")).content
    assert [first, *[(await model.ainvoke("hi")).content for _ in range(2)]] == ["answer 0", "answer 1", "answer 1"]


def test_a_stream_from_before_is_not_kept(model):
    model = with_response_cache(model, CACHES[-1])
    streams = ["".join(chunk.content for chunk in model.stream("hi")) for _ in range(3)]
    assert streams == ["answer 0", "answer 1", "answer 1"]


class Completion(BaseLLM):
    """Clears its cache while it answers, and counts what it was asked."""

    asked: list = Field(default_factory=list)
    _llm_type = "completion"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        self.asked.extend(prompts)
        self.cache.clear()
        return LLMResult(generations=[[Generation(text=prompt)] for prompt in prompts])


def test_of_a_completion_of_many_prompts_none_is_kept_that_was_deleted_meanwhile():
    model = Completion(cache=ResponseCache(MemoryStore()))
    prompts = [f"question {number}" for number in range(100)]
    for _ in range(2):
        model.generate(prompts)
    assert model.asked == 2 * prompts
