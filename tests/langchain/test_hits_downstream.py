"""What becomes of hits where they go: graphs that stream messages, sums of usage, applications with several API keys."""

import asyncio
from functools import reduce
from operator import add

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.stores import MemoryStore

USAGE = {"input_tokens": 1200, "output_tokens": 7, "total_tokens": 1207, "input_token_details": {"cache_read": 1024}}


class Model(ChatOpenAI):
    """ChatOpenAI whose provider answers with usage, or without."""

    billed: bool = True

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        metadata = {"finish_reason": "stop", "model_name": "gpt-4o-mini"}
        answer = AIMessage("yes", id="msg_1", response_metadata=metadata)
        answer.usage_metadata = USAGE if self.billed else None
        return ChatResult(generations=[ChatGeneration(message=answer)])


@pytest.fixture
def store():
    return MemoryStore()


def model(store, namespace="", **settings):
    return Model(
        **{"model": "gpt-4o-mini", "api_key": "k", "cache": ResponseCache(store, namespace=namespace)} | settings
    )


def graph_of_two(asked):
    def node(state):
        return {"messages": [asked.invoke("hi")]}

    async def awaited_node(state):
        return {"messages": [await asked.ainvoke("hi")]}

    def built(node):
        graph = StateGraph(MessagesState)
        graph.add_node("one", node)
        graph.add_node("two", node)
        graph.add_edge(START, "one")
        graph.add_edge("one", "two")
        graph.add_edge("two", END)
        return graph.compile()

    return built(node), built(awaited_node)


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("door", ["cache", "view"])
def test_a_graph_that_streams_messages_tells_of_every_hit(store, way, door):
    asked = model(store) if door == "cache" else with_response_cache(model(store, cache=None), ResponseCache(store))
    asked.invoke("hi")
    graph, awaited = graph_of_two(asked)
    question = {"messages": [HumanMessage("hi")]}

    async def collected():
        return [told async for told in awaited.astream(question, stream_mode="messages")]

    told = list(graph.stream(question, stream_mode="messages")) if way == "stream" else asyncio.run(collected())
    pieces = {name: [message for message, where in told if where["langgraph_node"] == name] for name in ("one", "two")}
    assert ["".join(message.content for message in messages) for messages in pieces.values()] == ["yes", "yes"]
    ids = [{message.id for message in messages} for messages in pieces.values()]
    assert [len(each) for each in ids] == [1, 1]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("billed", [True, False])
def test_usage_of_hits_adds_up_to_that_of_the_calls(store, billed):
    asked = model(store, billed=billed)
    with get_usage_metadata_callback() as counted:
        answers = [asked.invoke("hi") for _ in range(4)]
    assert sum(usage["total_tokens"] for usage in counted.usage_metadata.values()) == (1207 if billed else 0)
    chunks = [AIMessageChunk(content="", usage_metadata=answer.usage_metadata) for answer in answers[1:]]
    assert reduce(add, chunks).usage_metadata["total_tokens"] == 0


def test_api_keys_do_not_count_and_namespaces_do(store):
    def is_hit(**settings):
        return "prefixcache" in model(store, **settings).invoke("hi").response_metadata

    assert not is_hit(api_key="sk-one")
    assert is_hit(api_key="sk-two")
    assert not is_hit(api_key="sk-two", namespace="two")
    assert is_hit(api_key="sk-three", namespace="two")
