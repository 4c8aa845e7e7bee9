"""Single calls cached otherwise than their cache is set: by block, by middleware, by request."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from prefixcache_integrations.caching import caching
from prefixcache_integrations.errors import AnswerNotCached, ConfigurationError
from prefixcache_integrations.events import CacheHit, EntryStored, PassedThrough
from prefixcache_integrations.langchain import CachingMiddleware, ResponseCache
from prefixcache_integrations.stores import MemoryStore


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def cache(clock, seen):
    return ResponseCache(MemoryStore(clock=clock), ttl=100, observers=[seen.append])


@pytest.fixture
def model(models, cache):
    return models.openai(cache=cache)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    if request.param == "sync":
        return lambda model, question="hi", **config: model.invoke(question, **config)
    return lambda model, question="hi", **config: asyncio.run(model.ainvoke(question, **config))


def configured(**fields):
    return {"config": {"configurable": {"x_cache_control": fields}}}


@pytest.fixture
def chain(model):
    """The model inside a runnable: there LangChain passes ``configurable`` on."""
    return RunnableLambda(lambda question: question) | model


def test_skip_neither_reads_nor_stores(model, ask, simulator):
    ask(model)
    with caching(mode="skip"):
        ask(model)
        ask(model, "other")
    ask(model, "other")
    assert len(simulator.calls) == 4


def test_refresh_calls_and_stores(model, ask, simulator, seen):
    ask(model)
    with caching(mode="refresh"):
        ask(model)
    assert len(simulator.calls) == 2
    ask(model)
    assert len(simulator.calls) == 2
    assert [type(event) for event in seen].count(EntryStored) == 2


def test_only_never_calls(model, ask, simulator):
    with caching(mode="only"), pytest.raises(AnswerNotCached):
        ask(model)
    assert not simulator.calls
    ask(model)
    with caching(mode="only"):
        assert ask(model).response_metadata["prefixcache"]["hit"]
    assert len(simulator.calls) == 1


def test_only_holds_where_the_request_is_never_cached_too(models, cache, ask, simulator):
    model = models.openai(cache=cache, use_responses_api=True, use_previous_response_id=True)
    with caching(mode="only"), pytest.raises(AnswerNotCached):
        ask(model)
    assert not simulator.calls


def test_a_ttl_of_its_own(model, ask, simulator, clock):
    with caching(ttl=10):
        ask(model)
    clock.now += 50
    ask(model)
    clock.now += 50
    ask(model)
    assert len(simulator.calls) == 2


def test_a_namespace_of_its_own(model, ask, simulator, seen):
    with caching(namespace="acme"):
        ask(model)
        ask(model)
    ask(model)
    assert len(simulator.calls) == 2


def test_a_tolerance_of_its_own(models, cache, ask, simulator):
    with caching(temperature_tolerance=0.1):
        for temperature in (0.5, 0.52):
            ask(models.openai(cache=cache, temperature=temperature))
    assert len(simulator.calls) == 1
    ask(models.openai(cache=cache, temperature=0.5))
    assert len(simulator.calls) == 2


def test_what_carries_a_tag_or_a_model_is_invalidated(models, cache, ask, simulator):
    one, other = models.openai(cache=cache), models.openai("gpt-4.1-mini", cache=cache)
    with caching(tags="user:7"):
        ask(one)
    ask(one, "other")
    ask(other)
    cache.invalidate(tag="user:7")
    ask(one, "other")
    ask(other)
    assert len(simulator.calls) == 3
    asyncio.run(cache.ainvalidate(model="gpt-4.1-mini"))
    ask(one, "other")
    assert len(simulator.calls) == 3
    ask(other)
    ask(one)
    assert len(simulator.calls) == 5


def test_a_block_holds_in_batches_and_tasks(model, simulator):
    with caching(mode="skip"):
        model.batch(["a", "a"])
        asyncio.run(model.abatch(["a", "a"]))
    assert len(simulator.calls) == 4


def test_a_request_may_say_so_itself(chain, ask, simulator, clock):
    ask(chain, **configured(ttl_seconds=10))
    ask(chain, **configured(strategy="skip"))
    assert len(simulator.calls) == 2
    ask(chain, **configured(strategy="loose"))
    ask(chain, **configured(temperature_tolerance=0.1))
    assert len(simulator.calls) == 3
    clock.now += 50
    ask(chain)
    assert len(simulator.calls) == 4


def test_a_block_wins_over_the_request(chain, ask, simulator):
    ask(chain)
    with caching(mode="use"):
        ask(chain, **configured(strategy="skip"))
    assert len(simulator.calls) == 1


def test_a_request_that_is_not_understood_is_not_cached(chain, ask, simulator, seen):
    ask(chain)
    ask(chain, **configured(strategy="sometimes"))
    assert len(simulator.calls) == 2
    (passed,) = (event for event in seen if isinstance(event, PassedThrough))
    assert "sometimes" in passed.reason


def test_without_a_namespace_nothing_is_shared_where_one_is_required(models, ask, simulator, seen):
    cache = ResponseCache(MemoryStore(), require_namespace=True, observers=[seen.append])
    model = models.openai(cache=cache)
    ask(model)
    ask(model)
    assert len(simulator.calls) == 2
    assert {event.reason for event in seen if isinstance(event, PassedThrough)} == {"no namespace is named"}
    with caching(namespace="acme"):
        ask(model)
        ask(model)
    assert len(simulator.calls) == 3


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_an_agents_calls_are_controlled_by_middleware(models, cache, simulator, way):
    def run(**controls):
        agent = create_agent(models.openai(cache=cache), [], middleware=[CachingMiddleware(**controls)])
        asked = {"messages": [HumanMessage("hi")]}
        return agent.invoke(asked) if way == "invoke" else asyncio.run(agent.ainvoke(asked))

    run()
    run()
    assert len(simulator.calls) == 1
    run(mode="refresh")
    run(namespace="acme")
    run(namespace="acme")
    assert len(simulator.calls) == 3
    with caching(mode="skip"):
        run(mode="only")
    assert len(simulator.calls) == 4


def test_middleware_that_cannot_be_meant_is_refused():
    with pytest.raises(ConfigurationError):
        CachingMiddleware(ttl=-1)


def test_a_secret_changes_every_key(models, simulator, seen):
    store = MemoryStore()
    for secret in (b"", b"one", b"two", b"one"):
        models.openai(cache=ResponseCache(store, secret=secret, observers=[seen.append])).invoke("hi")
    assert len(simulator.calls) == 3
    assert [type(event) for event in seen].count(CacheHit) == 1


def test_controls_hold_for_a_global_cache_and_any_model(cache):
    set_llm_cache(cache)
    try:
        model = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]))
        assert model.invoke("hi").content == "one"
        assert model.invoke("hi").content == "one"
        with caching(mode="skip"):
            assert model.invoke("hi").content == "two"
    finally:
        set_llm_cache(None)
