"""Deleting through another cache of the same store, as another process does, while a call is in flight."""

import asyncio

import pytest
from langchain_core.outputs import Generation

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import CacheSettings, caching
from prefixcache_integrations.dialects import OPENAI_CHAT
from prefixcache_integrations.errors import AnswerNotCached
from prefixcache_integrations.events import EntryRejected
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.stores import MemoryStore, open_store
from prefixcache_integrations.stores.postgres import PostgresStore

QUESTIONS = [
    OPENAI_CHAT.decode_request({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
    for text in ("hi", "ho", "he", "ha")
]
SECRET = b"s" * 32

DELETES = {
    "clear": lambda cache: cache.clear("tenant"),
    "tag": lambda cache: cache.invalidate(tag="cats", namespace="tenant"),
    "model": lambda cache: cache.invalidate(model="gpt-4o-mini", namespace="tenant"),
}
DELETES_OTHERS = {
    "clear": lambda cache: cache.clear("another"),
    "tag": lambda cache: cache.invalidate(tag="dogs", namespace="tenant"),
    "model": lambda cache: cache.invalidate(model="gpt-4o", namespace="tenant"),
}


def body(text):
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini", "choices": choices}


@pytest.fixture(params=["memory", "sqlite", "redis", "redis behind memory", "postgres"])
def open_again(request, tmp_path):
    """Return a function that opens one and the same store, as another process would; sealed, but for memory."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    if request.param == "postgres":
        server = request.getfixturevalue("shared_postgres")
        PostgresStore(server.url()).clear("tenant")
        url = server.url(options="?timeout=5")
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/answers.db"
    else:
        near = "&memory_ttl=600" if "memory" in request.param else ""
        url = f"{request.getfixturevalue('start_redis')().url()}?timeout=5{near}"
    return lambda: open_store(url, secrets=[SECRET])


@pytest.fixture
def seen():
    return []


@pytest.fixture
def caches(open_again, seen):
    """Two caches as two processes have them."""
    settings = CacheSettings(namespace="tenant", tags=("cats",))
    both = [PrefixCache(open_again(), settings, observers=observers) for observers in ([seen.append], [])]
    yield both
    for cache in both:
        cache.close()


@pytest.fixture(params=["blocking", "awaiting"])
def serve(request):
    """Serve a question with what ``call`` returns, either way."""
    if request.param == "blocking":
        return lambda cache, call, question=QUESTIONS[0]: cache.serve(question, call)

    def served(cache, call, question=QUESTIONS[0]):
        async def acall():
            return call()

        return asyncio.run(cache.aserve(question, acall))

    return served


@pytest.mark.parametrize("delete", DELETES.values(), ids=DELETES)
def test_an_answer_that_another_deletes_meanwhile_is_handed_over_and_not_kept(caches, serve, seen, delete):
    asking, deleting = caches

    def call():
        delete(deleting)
        return body("old")

    assert serve(asking, call).answer["choices"][0]["message"]["content"] == "old"
    assert any(isinstance(event, EntryRejected) for event in seen)
    for cache in caches:
        with caching(mode="only"), pytest.raises(AnswerNotCached):
            serve(cache, call)
    assert serve(asking, lambda: body("new")).outcome == "miss"
    assert serve(deleting, call).answer["choices"][0]["message"]["content"] == "new"


@pytest.mark.parametrize("delete", DELETES_OTHERS.values(), ids=DELETES_OTHERS)
def test_what_deletes_others_deletes_no_answer_in_flight(caches, serve, delete):
    asking, deleting = caches

    def call():
        delete(deleting)
        return body("kept")

    serve(asking, call)
    assert serve(deleting, call).outcome == "hit"


def test_what_was_deleted_before_it_was_asked_for_says_nothing(caches, serve):
    asking, deleting = caches
    for delete, question in zip(DELETES.values(), QUESTIONS[1:], strict=True):
        delete(deleting)
        serve(asking, lambda: body("kept"), question)
        assert serve(deleting, lambda: body("no"), question).outcome == "hit"


@pytest.mark.parametrize("delete", DELETES.values(), ids=DELETES)
def test_a_refreshed_answer_that_another_deletes_meanwhile_is_not_kept(caches, serve, delete):
    asking, deleting = caches
    serve(deleting, lambda: body("other"), QUESTIONS[1])

    def call():
        delete(deleting)
        return body("old")

    with caching(mode="refresh"):
        assert serve(asking, call).answer["choices"][0]["message"]["content"] == "old"
    for cache in caches:
        with caching(mode="only"), pytest.raises(AnswerNotCached):
            serve(cache, call)


def test_a_refreshed_answer_is_kept_whatever_was_deleted_since_the_store_was_read(caches, serve):
    asking, deleting = caches
    deleting.clear("tenant")
    with caching(mode="refresh"):
        serve(asking, lambda: body("fresh"))
    assert serve(deleting, lambda: body("no")).outcome == "hit"


def test_an_update_that_nobody_asked_for_before_is_kept(open_again):
    asking, deleting = (ResponseCache(open_again(), namespace="tenant") for _ in range(2))
    assert asking.lookup("prompt", "llm") is None
    deleting.clear()
    asking.update("prompt", "llm", [Generation(text="answer")])
    assert [generation.text for generation in deleting.lookup("prompt", "llm")] == ["answer"]
    for cache in (asking, deleting):
        cache.close()
