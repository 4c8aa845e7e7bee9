"""The front door, over real stores and bodies as the providers send them."""

import asyncio
import contextvars
import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from prefixcache_integrations.body_codec import BodyCodec
from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import CacheSettings, caching
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT
from prefixcache_integrations.errors import AnswerNotCached, ConfigurationError, CorruptEntry, StoreUnavailable
from prefixcache_integrations.events import CacheMiss, EntryEvicted, EntryStored
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.postgres import PostgresStore

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def asking(text, model="gpt-4o-mini", **options):
    return OPENAI_CHAT.decode_request({"model": model, "messages": [{"role": "user", "content": text}], **options})


class Provider:
    def __init__(self, answer=ANSWER, seconds=0.0):
        self.calls = 0
        self.answer = answer
        self.seconds = seconds
        self._lock = threading.Lock()

    def call(self):
        with self._lock:
            self.calls += 1
        time.sleep(self.seconds)
        return self.answer

    async def acall(self):
        self.calls += 1
        await asyncio.sleep(self.seconds)
        return self.answer


@pytest.fixture(params=["memory://", "sqlite", "redis", "postgres"])
def url(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("start_redis")().url() + "?timeout=5"
    if request.param == "postgres":
        server = request.getfixturevalue("shared_postgres")
        PostgresStore(server.url()).clear("")
        return server.url(options="?timeout=5")
    return f"sqlite:///{tmp_path}/answers.db" if request.param == "sqlite" else request.param


@pytest.fixture(params=["blocking", "awaiting"])
def serve(request):
    """Serve either way."""
    if request.param == "blocking":
        return lambda cache, question, provider: cache.serve(question, provider.call)
    return lambda cache, question, provider: asyncio.run(cache.aserve(question, provider.acall))


@pytest.fixture
def cache():
    cache = PrefixCache(MemoryStore())
    yield cache
    cache.close()


def test_a_repeated_request_is_called_once_whatever_the_store(url, serve):
    cache, provider = PrefixCache.from_url(url), Provider()
    first, second, third = (serve(cache, asking("hi"), provider) for _ in range(3))
    assert provider.calls == 1
    assert (first.outcome, second.outcome, third.outcome) == ("miss", "hit", "hit")
    assert first.answer is ANSWER
    assert second.answer == {**ANSWER, "id": second.answer["id"]}
    assert len({first.answer["id"], second.answer["id"], third.answer["id"]}) == 3
    cache.close()


def test_a_secret_seals_what_is_stored(tmp_path, serve):
    url = f"sqlite:///{tmp_path}/answers.db"
    cache, provider = PrefixCache.from_url(url, secrets=[bytes(range(32))]), Provider()
    assert [serve(cache, asking("hi"), provider).outcome for _ in range(2)] == ["miss", "hit"]
    cache.close()
    assert b"Hello" not in (tmp_path / "answers.db").read_bytes()
    assert serve(PrefixCache.from_url(url), asking("hi"), provider).outcome == "miss"


def test_what_names_no_store_is_refused():
    with pytest.raises(ConfigurationError):
        PrefixCache.from_url("answers.db")


@pytest.mark.parametrize(
    "wrong",
    [
        {"patience": float("nan")},
        {"patience": -1},
        {"patience": "1"},
        {"secret": "x"},
        {"secrets": ["x" * 40]},
        {"secrets": b"x" * 32},
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        PrefixCache.from_url("memory://", **wrong)


def test_many_who_ask_at_once_make_one_call_and_are_counted(cache):
    provider = Provider(seconds=0.2)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: cache.serve(asking("hi"), provider.call).answer, range(20)))
    assert provider.calls == 1
    assert len({answer["id"] for answer in answers}) == 20
    stats = cache.stats()
    assert (stats.misses, stats.hits + stats.joined) == (1, 19)
    assert stats.joined_latency.p50 > 0
    assert stats.hit_rate == 0.95


def test_everything_that_comes_of_a_call_is_counted(serve):
    cache, provider = PrefixCache(MemoryStore(max_bytes=3000)), Provider()
    assert cache.stats().hit_rate is None
    for text in ("a", "a", "b", "c", "d"):
        serve(cache, asking(text), provider)
    serve(cache, asking("e"), Provider({**ANSWER, "choices": []}))
    serve(cache, asking("f", conversation="conv_1"), provider)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.joined, stats.bypassed, stats.errors) == (1, 5, 0, 1, 0)
    assert (stats.stored, stats.rejected) == (4, 2)
    assert stats.stored_bytes > 4 * len("Hello")
    assert stats.evicted >= 1
    assert (stats.hit_latency.count, stats.miss_latency.count, stats.joined_latency) == (1, 6, None)


def test_a_store_that_fails_costs_events_that_are_counted_and_one_line_in_the_log(serve, caplog):
    class Down(MemoryStore):
        def get(self, key):
            raise StoreUnavailable("down")

        put = delete = get

    cache, provider = PrefixCache(Down()), Provider()
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Down, "put", lambda *_: Down.get(None, None))
        assert [serve(cache, asking("hi"), provider).outcome for _ in range(2)] == ["miss", "miss"]
    assert (cache.stats().errors, len(caplog.records)) == (4, 1)


def test_what_is_pushed_out_is_told_per_sweep(serve):
    events = []
    cache = PrefixCache(MemoryStore(max_bytes=3000), observers=[events.append])
    for text in "abcdef":
        serve(cache, asking(text), Provider())
    told = [event.count for event in events if isinstance(event, EntryEvicted)]
    assert sum(told) == cache.stats().evicted > 0
    assert 0 not in told


def test_an_error_of_the_provider_comes_out_and_nothing_is_left(serve, cache):
    class Failing(Provider):
        def call(self):
            raise ConnectionError

        async def acall(self):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        serve(cache, asking("hi"), Failing())
    assert serve(cache, asking("hi"), Provider()).outcome == "miss"


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": "none"}, {**ANSWER, "choices": [{**ANSWER["choices"][0], "finish_reason": "length"}]}, {"a": 1j}],
)
def test_an_answer_that_is_none_is_handed_over_and_not_kept(serve, cache, answer):
    provider = Provider(answer)
    for _ in range(2):
        assert serve(cache, asking("hi"), provider).answer is answer
    assert provider.calls == 2


def test_what_callers_do_to_an_answer_changes_no_later_one(cache):
    cache.serve(asking("hi"), Provider().call)
    for _ in range(2):
        answer = cache.serve(asking("hi"), Provider().call).answer
        assert answer["choices"][0]["message"]["content"] == "Hello"
        answer["choices"][0]["message"]["content"] = "changed"


def test_a_request_that_cannot_be_written_down_is_passed_by(serve, cache):
    provider = Provider()
    for _ in range(2):
        assert serve(cache, asking("hi", temperature=float("nan")), provider).outcome == "bypass"
    assert provider.calls == 2


def test_single_calls_are_cached_otherwise(serve, cache):
    provider = Provider()
    with caching(mode="only"), pytest.raises(AnswerNotCached):
        serve(cache, asking("hi"), provider)
    with caching(mode="skip"):
        assert serve(cache, asking("hi"), provider).outcome == "bypass"
    assert serve(cache, asking("hi"), provider).outcome == "miss"
    with caching(namespace="tenant"):
        assert serve(cache, asking("hi"), provider).outcome == "miss"
    with caching(mode="refresh"):
        assert serve(cache, asking("hi"), provider).outcome == "miss"
    with caching(mode="only"):
        assert serve(cache, asking("hi"), provider).outcome == "hit"


def test_a_namespace_can_be_required():
    cache, provider = PrefixCache(MemoryStore(), require_namespace=True), Provider()
    assert cache.serve(asking("hi"), provider.call).outcome == "bypass"
    with caching(namespace="tenant"):
        assert [cache.serve(asking("hi"), provider.call).outcome for _ in range(2)] == ["miss", "hit"]


async def test_tags_models_and_namespaces_are_deleted_alone():
    cache, provider = PrefixCache(MemoryStore(), CacheSettings(namespace="own", tags=("all",))), Provider()

    def outcome(model="gpt-4o-mini"):
        return cache.serve(asking("hi", model), provider.call).outcome

    for delete in (
        lambda: cache.invalidate(model="gpt-4o-mini"),
        lambda: cache.invalidate(tag="all"),
        cache.clear,
        lambda: cache.clear("own"),
    ):
        assert (outcome(), outcome("gpt-4o"), outcome()) in [("miss", "miss", "hit"), ("miss", "hit", "hit")]
        delete()
        cache.clear("other")
    assert outcome() == "miss"
    await cache.ainvalidate(tag="all", model="gpt-4o")
    assert outcome() == "miss"
    await cache.aclear()
    assert outcome() == "miss"
    await cache.aclose()


def test_a_predicate_over_what_is_known_of_entries_deletes_alone(url):
    cache, provider = PrefixCache.from_url(url, CacheSettings(namespace="own")), Provider()

    def outcomes():
        return [
            cache.serve(asking("hi"), provider.call).outcome,
            cache.serve(asking("hi", "gpt-4o"), provider.call).outcome,
        ]

    cache.clear()
    assert outcomes() == ["miss", "miss"]
    seen = []
    cache.invalidate(where=seen.append)
    assert {entry.namespace for entry in seen} == {"own"}
    assert outcomes() == ["hit", "hit"]
    cache.invalidate(where=lambda entry: entry.answered_by("gpt-4o"))
    assert outcomes() == ["hit", "miss"]
    asyncio.run(cache.ainvalidate(where=lambda entry: entry.size > 10 and entry.age < 3600, namespace="other"))
    assert outcomes() == ["hit", "hit"]
    asyncio.run(cache.ainvalidate(where=lambda entry: entry.size > 10 and entry.age < 3600))
    assert outcomes() == ["miss", "miss"]
    cache.close()


@pytest.mark.parametrize("awaited", [False, True])
async def test_what_is_stored_without_being_asked_for_is_counted_and_piles_up_nowhere(awaited):
    cache = PrefixCache(MemoryStore(max_bytes=10_000))
    terms, codec = cache.terms(asking("hi")), BodyCodec(asking("hi"))
    answer = codec.responses(ANSWER), partial(codec.write, ANSWER), None
    for _ in range(1000):
        await cache.asettle(terms, *answer) if awaited else cache.settle(terms, *answer)

    assert len(cache._counters._uncounted) < 300
    assert cache.stats().stored == 1000


def test_invalidating_by_nothing_is_refused(cache):
    with pytest.raises(ConfigurationError, match="clear"):
        cache.invalidate(namespace="tenant")


def test_what_a_predicate_raises_comes_out_and_nothing_is_deleted(cache):
    provider = Provider()
    cache.serve(asking("hi"), provider.call)
    with pytest.raises(ZeroDivisionError):
        cache.invalidate(where=lambda entry: entry.size / 0)
    assert cache.serve(asking("hi"), provider.call).outcome == "hit"
    assert cache.stats().errors == 0


def test_closing_lets_nobody_wait():
    cache = PrefixCache(MemoryStore(), patience=30)
    opened = cache.open(cache.terms(asking("hi")), lambda entry: entry)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.serve, asking("hi"), Provider().call)
        time.sleep(0.05)
        cache.close()
        assert waiting.result(2).outcome == "miss"
    assert opened.flight.landed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_waits_for_no_call_of_its_parent():
    cache = PrefixCache(MemoryStore(), patience=3600)
    opened = contextvars.Context().run(cache.open, cache.terms(asking("hi")), lambda entry: entry)
    child = os.fork()
    if child == 0:
        done = False
        try:
            signal.alarm(10)  # ends a child that waits
            done = cache.serve(asking("hi"), Provider().call).outcome == "miss"
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not opened.flight.landed
    opened.flight.land("released")


def test_adapters_may_share_one(cache):
    seen = []
    shared = PrefixCache(MemoryStore(), CacheSettings(namespace="tenant"), observers=[seen.append])
    adapter = ResponseCache(shared)
    assert adapter.lookup("prompt", "llm") is None
    assert [type(event) for event in seen] == [CacheMiss]
    assert adapter.stats() == shared.stats()
    assert shared.stats().misses == 1
    shared.serve(asking("hi"), Provider().call)
    assert isinstance(seen[-1], EntryStored)
    adapter.clear()
    assert shared.serve(asking("hi"), Provider().call).outcome == "miss"


@pytest.mark.parametrize(
    "given",
    [
        {"namespace": "tenant"}, {"ttl": 60}, {"exact": True}, {"tags": ["a"]}, {"secret": b"x"}, {"patience": 1},
        {"require_namespace": True}, {"observers": [print]},
    ],
)  # fmt: skip
def test_settings_beside_a_shared_cache_are_refused_not_passed_over(cache, given):
    with pytest.raises(ConfigurationError, match="PrefixCache"):
        ResponseCache(cache, **given)


def test_a_body_of_another_format_or_none_is_corrupt():
    codec = BodyCodec(asking("hi"), lambda: "new")
    entry = codec.write(ANSWER)
    assert codec.read(entry) == {**ANSWER, "id": "new"}
    foreign = ANTHROPIC_MESSAGES.decode_request(
        {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    )
    for damaged in (
        BodyCodec(foreign, str).write(ANSWER),
        Entry(codec=entry.codec, body=b"[1]"),
        Entry(codec="x", body=b""),
    ):
        with pytest.raises(CorruptEntry):
            codec.read(damaged)


def test_it_plans_and_explains_what_the_provider_caches(cache):
    first, second = (asking(f"{word} " + "and so on " * 2000) for word in ("one", "two"))
    assert cache.plan(first).prompt_tokens > 2000
    explanation = cache.explain(first, second)
    assert explanation.readable_tokens == 0
    assert explanation.reason is not None
