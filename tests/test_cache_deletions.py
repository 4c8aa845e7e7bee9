"""Deleting while calls are in flight: what they answer was asked for before, and is not kept after."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
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


class Deleting(GenericFakeChatModel):
    """A model during whose first answer its cache is emptied."""

    messages: object = iter(())
    answers: list[str] = Field(default_factory=list)
    delete: object = None

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.answers.append(f"answer {len(self.answers)}")
        if len(self.answers) == 1:
            self.delete()
        self.messages = iter([AIMessage(self.answers[-1], response_metadata={"finish_reason": "stop"})])
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.mark.parametrize("mode", ["use", "refresh"])
@pytest.mark.parametrize("awaiting", [False, True])
def test_langchain_keeps_no_answer_from_before_either(mode, awaiting):
    cache = ResponseCache(MemoryStore())
    set_llm_cache(cache)
    model = Deleting(delete=cache.clear)

    def ask():
        return asyncio.run(model.ainvoke("hi")).content if awaiting else model.invoke("hi").content

    try:
        with caching(mode=mode):
            first = ask()
        assert [first, ask(), ask()] == ["answer 0", "answer 1", "answer 1"]
    finally:
        set_llm_cache(None)


def test_a_stream_from_before_is_not_kept():
    cache = ResponseCache(MemoryStore())
    model = with_response_cache(Deleting(delete=cache.clear), cache)
    streams = ["".join(chunk.content for chunk in model.stream("hi")) for _ in range(3)]
    assert streams == ["answer 0", "answer 1", "answer 1"]
