"""The loose policy through every way LangChain has to a cache: what may differ between requests that share an answer."""

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from prefixcache_integrations.caching import caching
from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.prompt.keys import KeyPolicy
from prefixcache_integrations.stores import MemoryStore


class Model(ChatOpenAI):
    """ChatOpenAI whose provider always answers the same."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = AIMessage("yes", response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=answer)])


def new_model(**settings):
    return Model(model="gpt-4o-mini", api_key="k", **settings)


def tools_bound(model, tools):
    return model.bind_tools(tools) if tools else model


def through_a_global_cache(cache, model, tools, messages):
    set_llm_cache(cache)
    return tools_bound(model, tools).invoke(messages)


def through_a_view(cache, model, tools, messages):
    return tools_bound(with_response_cache(model, cache), tools).invoke(messages)


def through_a_block(cache, model, tools, messages):
    set_llm_cache(cache)
    with caching(temperature_tolerance=0.1):
        return tools_bound(model, tools).invoke(messages)


def through_a_request(cache, model, tools, messages):
    set_llm_cache(cache)
    chain = RunnableLambda(lambda question: question) | tools_bound(model, tools)
    return chain.invoke(messages, {"configurable": {"x_cache_control": {"temperature_tolerance": 0.1}}})


def through_a_strategy(cache, model, tools, messages):
    set_llm_cache(cache)
    chain = RunnableLambda(lambda question: question) | tools_bound(model, tools)
    return chain.invoke(messages, {"configurable": {"x_cache_control": {"strategy": "loose"}}})


LOOSE = KeyPolicy.loose(0.1)
DOORS = {
    "set_llm_cache": (through_a_global_cache, LOOSE),
    "with_response_cache": (through_a_view, LOOSE),
    "caching": (through_a_block, KeyPolicy()),
    "x_cache_control": (through_a_request, KeyPolicy()),
    "strategy": (through_a_strategy, KeyPolicy()),
}


@pytest.fixture
def store():
    yield MemoryStore()
    set_llm_cache(None)


@pytest.fixture(params=DOORS)
def hits(request, store):
    """Ask loosely; say whether the answer came from the cache."""
    door, policy = DOORS[request.param]
    cache = ResponseCache(store, policy=policy)

    def ask(messages="hi", tools=(), **settings):
        return "prefixcache" in door(cache, new_model(**settings), tools, messages).response_metadata

    return ask


@pytest.fixture
def hits_strictly(store):
    cache = ResponseCache(store)

    def ask(messages="hi", tools=(), **settings):
        answer = through_a_global_cache(cache, new_model(**settings), tools, messages)
        return "prefixcache" in answer.response_metadata

    return ask


def search(query: str) -> str:
    """Search."""
    return query


def order(number: int) -> str:
    """Look an order up."""
    return str(number)


def called(*names, numbers=(1, 2), results=None):
    """A turn of parallel calls, in the order of ``names``, with a result each, in that order."""
    ids = {name: f"call_{number}" for name, number in zip(names, numbers, strict=True)}
    calls = [{"name": name, "args": {"about": name}, "id": ids[name]} for name in names]
    results = results or {name: f"found {name}" for name in names}
    answered = [ToolMessage(results[name], tool_call_id=ids[name]) for name in names]
    return [HumanMessage("both?"), AIMessage("", tool_calls=calls), *answered]


@pytest.mark.parametrize("field", ["temperature", "top_p"])
@pytest.mark.parametrize(
    ("one", "other"), [(0.5, 0.5), (0.46, 0.54), (0.54, 0.46), (0.5, 0.52), (0.0, 0.05), (0.3, 0.1 + 0.2), (1, 1.0)]
)
def test_what_rounds_to_the_same_multiple_shares_an_answer(hits, field, one, other):
    assert not hits(**{field: one})
    assert hits(**{field: other})


@pytest.mark.parametrize("field", ["temperature", "top_p"])
@pytest.mark.parametrize(("one", "other"), [(0.54, 0.56), (0.45, 0.46), (0.349, 0.351), (0.5, 0.6), (0.0, 0.06)])
def test_neighbours_across_the_edge_of_a_bucket_do_not(hits, field, one, other):
    assert not hits(**{field: one})
    assert not hits(**{field: other})


def test_a_temperature_is_not_the_default_one_nor_a_top_p(hits):
    assert not hits()
    assert not hits(temperature=1)
    assert not hits(top_p=1)


@pytest.mark.parametrize(
    "settings",
    [{"seed": 7}, {"max_tokens": 9}, {"stop": ["x"]}, {"frequency_penalty": 0.01}],
    ids=str,
)
def test_everything_else_still_counts(hits, settings):
    assert not hits(temperature=0.5)
    assert not hits(temperature=0.5, **settings)


def test_the_order_of_tools_does_not_count(hits):
    assert not hits(tools=[search, order])
    assert hits(tools=[order, search])
    assert not hits(tools=[order])


def test_the_order_of_parallel_calls_does_not_count(hits):
    assert not hits(called("search", "order"))
    assert hits(called("order", "search"))
    assert hits(called("order", "search", numbers=(8, 9)))


def test_which_call_a_result_belongs_to_does_count(hits):
    assert not hits(called("search", "order"))
    swapped = {"search": "found order", "order": "found search"}
    assert not hits(called("search", "order", results=swapped))
    assert not hits(called("order", "search", results={"search": "found search", "order": "found none"}))


def test_the_order_of_turns_and_of_parts_always_counts(hits):
    turns = [HumanMessage("a"), AIMessage("b"), HumanMessage("c")]
    assert not hits(turns)
    assert not hits([turns[2], turns[1], turns[0]])
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert not hits([HumanMessage(parts)])
    assert not hits([HumanMessage(parts[::-1])])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 0.5}, {"temperature": 0.52}),
        ({"tools": [search, order]}, {"tools": [order, search]}),
        ({"messages": called("search", "order")}, {"messages": called("order", "search")}),
    ],
    ids=["temperature", "tools", "calls"],
)
def test_a_strict_cache_tells_all_of_it_apart(hits_strictly, one, other):
    assert not hits_strictly(**one)
    assert not hits_strictly(**other)
    assert hits_strictly(**one)


def test_what_is_asked_loosely_and_strictly_is_not_shared(hits, hits_strictly):
    assert not hits(temperature=0.5)
    assert not hits_strictly(temperature=0.5)
    assert hits(temperature=0.5)


def test_a_tolerance_of_a_request_wins_over_that_of_its_cache(store):
    cache = ResponseCache(store, policy=LOOSE)

    def hits(temperature, tolerance):
        with caching(temperature_tolerance=tolerance):
            answer = through_a_global_cache(cache, new_model(temperature=temperature), (), "hi")
        return "prefixcache" in answer.response_metadata

    assert not hits(0.5, 0.5)
    assert hits(0.7, 0.5)
    assert not hits(0.7, 0.1)
    assert not hits(0.7, 0.0)
    assert hits(0.7, 0.0)
