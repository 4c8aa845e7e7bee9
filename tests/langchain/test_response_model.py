"""`with_response_cache` on the real LangChain classes over the real SDKs, against the simulator."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.tools import tool
from pydantic import BaseModel

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import caching
from prefixcache_integrations.errors import AnswerNotCached, ConfigurationError
from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.langchain.pieces import pieces
from prefixcache_integrations.stores import MemoryStore

MESSAGES = [SystemMessage("You help."), HumanMessage("Where is my order, and when will it be here, do you think?")]


@pytest.fixture
def front():
    return PrefixCache(MemoryStore())


@pytest.fixture(params=["openai", "claude"])
def model(request, models, front):
    return with_response_cache(getattr(models, request.param)(max_tokens=500), front)


def added(chunks):
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


async def collected(stream):
    return [item async for item in stream]


def invoke(model):
    return model.invoke(MESSAGES)


def stream(model):
    return added(list(model.stream(MESSAGES)))


def ainvoke(model):
    return asyncio.run(model.ainvoke(MESSAGES))


def astream(model):
    return added(asyncio.run(collected(model.astream(MESSAGES))))


def events(model):
    seen = asyncio.run(collected(model.astream_events(MESSAGES, version="v2")))
    return added([event["data"]["chunk"] for event in seen if event["event"] == "on_chat_model_stream"])


def v3_events(model):
    return model.stream_events(MESSAGES, version="v3").output


WAYS = [invoke, stream, ainvoke, astream, events, v3_events]


@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_whichever_way_asks_first_the_others_hit(model, simulator, first, second):
    told = first(model)
    again = second(model)
    assert len(simulator.calls) == 1
    assert told.text == again.text != ""
    assert told.id != again.id
    assert again.response_metadata["prefixcache"]["hit"] is True
    assert again.usage_metadata["total_tokens"] == 0


@pytest.mark.parametrize("ask", WAYS)
def test_a_hit_is_whole(model, ask):
    first = invoke(model)
    again = ask(model)
    assert again.text == first.text
    said = {name: value for name, value in again.response_metadata.items() if name != "prefixcache"}
    assert {"model_name", "model_provider"} <= said.keys()
    assert all(first.response_metadata.get(name) == value for name, value in said.items() if name != "output_version")


def test_a_hit_is_streamed_in_pieces(model):
    invoke(model)
    chunks = list(model.stream(MESSAGES))
    assert len([chunk for chunk in chunks if chunk.text]) > 2
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert [chunk.chunk_position for chunk in chunks][-1] == "last"
    assert len({chunk.id for chunk in chunks}) == 1


def test_both_doors_share_their_answers(models, simulator, front):
    with_response_cache(models.openai(), front).invoke(MESSAGES)
    behind = models.openai()
    behind.cache = ResponseCache(front)
    assert behind.invoke(MESSAGES).response_metadata["prefixcache"]["hit"]
    assert len(simulator.calls) == 1


def test_a_stream_that_is_left_is_not_kept(model, simulator):
    for chunk in model.stream(MESSAGES):
        if chunk.text:
            break
    stream(model)
    assert len(simulator.calls) == 2
    stream(model)
    assert len(simulator.calls) == 2


def test_an_awaited_stream_that_is_left_is_not_kept(model, simulator):
    async def leave():
        chunks = model.astream(MESSAGES)
        async for chunk in chunks:
            if chunk.text:
                break
        await chunks.aclose()

    asyncio.run(leave())
    astream(model)
    assert len(simulator.calls) == 2


class Cut(GenericFakeChatModel):
    """A model whose stream breaks off, once."""

    failures: int = 1

    def _stream(self, *args, **kwargs):
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            if number == 1 and self.failures:
                self.failures -= 1
                raise ConnectionError("cut")
            yield chunk


def test_a_stream_that_breaks_is_not_kept_and_tells_its_error(front):
    model = with_response_cache(Cut(messages=iter([AIMessage("one two three"), AIMessage("four five")])), front)
    with pytest.raises(ConnectionError):
        list(model.stream("hi"))
    assert added(list(model.stream("hi"))).content == "four five"
    assert added(list(model.stream("hi"))).content == "four five"


class Silent(GenericFakeChatModel):
    """A model whose stream ends as one does that was cut on the way: without saying why."""

    def _stream(self, *args, **kwargs):
        for chunk in super()._stream(*args, **kwargs):
            chunk.message.response_metadata = {"model_provider": "openai"}
            yield chunk


def test_a_stream_that_ends_without_a_word_is_not_kept(front):
    model = with_response_cache(Silent(messages=iter([AIMessage("one two"), AIMessage("four five")])), front)
    assert added(list(model.stream("hi"))).content == "one two"
    assert added(list(model.stream("hi"))).content == "four five"


def test_identical_streams_at_once_call_once(model, simulator):
    async def many():
        return await asyncio.gather(*(collected(model.astream(MESSAGES)) for _ in range(8)))

    answers = [added(chunks).text for chunks in asyncio.run(many())]
    assert len(set(answers)) == 1
    assert len(simulator.calls) == 1


class Tokens(BaseCallbackHandler):
    """Hears the tokens of a model that streams to whoever listens."""

    def __init__(self):
        self.heard = []

    def on_llm_new_token(self, token, **kwargs):
        self.heard.append(token)


def test_who_listens_to_tokens_hears_those_of_a_hit(models, front):
    model = with_response_cache(models.openai(streaming=True), front)
    first, second = Tokens(), Tokens()
    answer = model.invoke(MESSAGES, config={"callbacks": [first]})
    model.invoke(MESSAGES, config={"callbacks": [second]})
    assert "".join(first.heard) == "".join(second.heard) == answer.content
    assert len(second.heard) > 2


@tool
def get_order(order_id: str) -> str:
    """Get an order."""
    return "shipped"


def test_bound_tools_count_and_bindings_are_kept(models, simulator, front):
    inside = with_response_cache(models.openai(), front).bind_tools([get_order])
    around = with_response_cache(models.openai().bind_tools([get_order]), front)
    inside.invoke(MESSAGES)
    assert around.invoke(MESSAGES).response_metadata["prefixcache"]["hit"]
    with_response_cache(models.openai(), front).invoke(MESSAGES)
    assert len(simulator.calls) == 2


class Joke(BaseModel):
    """A joke."""

    text: str


class Telling(FakeListChatModel):
    """A model that answers with JSON."""

    def with_structured_output(self, schema, **kwargs):
        return self | (lambda message: schema.model_validate_json(message.content))


def test_structured_output_is_asked_of_the_view(front):
    model = with_response_cache(Telling(responses=['{"text": "one"}', '{"text": "two"}']), front)
    structured = model.with_structured_output(Joke)
    assert structured.invoke("hi") == structured.invoke("hi") == Joke(text="one")


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "messages"])
def test_agents_hit_step_by_step(models, simulator, front, way):
    def run():
        agent = create_agent(with_response_cache(models.openai(), front), [get_order], system_prompt="You help.")
        asked = {"messages": [HumanMessage("hi")]}
        if way == "invoke":
            return agent.invoke(asked)["messages"][-1].text
        if way == "ainvoke":
            return asyncio.run(agent.ainvoke(asked))["messages"][-1].text
        if way == "stream":
            return list(agent.stream(asked, stream_mode="values"))[-1]["messages"][-1].text
        return "".join(chunk.text for chunk, _ in agent.stream(asked, stream_mode="messages"))

    first = run()
    calls = len(simulator.calls)
    assert run() == first != ""
    assert len(simulator.calls) == calls


def test_the_model_itself_goes_on_as_it_was(models, simulator, front):
    plain = models.openai()
    view = with_response_cache(plain, front)
    assert type(view).__name__ == type(plain).__name__
    assert isinstance(view, type(plain))
    assert plain.cache is None
    assert with_response_cache(view, front) is view
    plain.temperature = 1.0
    assert view.temperature is None
    view.invoke(MESSAGES)
    plain.invoke(MESSAGES)
    assert len(simulator.calls) == 2


def test_a_setting_changed_on_the_view_asks_anew(model, simulator):
    invoke(model)
    model.temperature = 0.3
    invoke(model)
    assert len(simulator.calls) == 2


def test_calls_are_controlled_one_by_one(model, simulator):
    with caching(mode="only"), pytest.raises(AnswerNotCached):
        invoke(model)
    with caching(mode="skip"):
        stream(model)
        stream(model)
    assert len(simulator.calls) == 2
    invoke(model)
    with caching(mode="refresh"):
        stream(model)
    assert len(simulator.calls) == 4
    with caching(mode="only"):
        assert stream(model).response_metadata["prefixcache"]["hit"]
    assert len(simulator.calls) == 4


def test_only_chat_models_take_a_cache_and_only_a_cache(front, models):
    with pytest.raises(ConfigurationError):
        with_response_cache(get_order, front)
    with pytest.raises(ConfigurationError, match="not by int"):
        with_response_cache(models.openai(), 123)


ANSWERS = {
    "text": AIMessage("One two  three\nfour five six.", usage_metadata=None),
    "calls": AIMessage(
        "",
        tool_calls=[
            {"name": "get_order", "args": {"order_id": "7 and a long note " * 9}, "id": "call_1"},
            {"name": "cancel", "args": {}, "id": "call_2"},
        ],
    ),
    "nothing": AIMessage("", response_metadata={"finish_reason": "stop"}),
    "metadata": AIMessage(
        "hi",
        additional_kwargs={"reasoning": {"id": "rs_1"}},
        response_metadata={"model_provider": "openai", "model_name": "m", "finish_reason": "stop"},
        usage_metadata={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_token_details": {"audio": 0}},
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_pieces_add_up_to_the_answer(answer):
    answer.id = "lc_run--1"
    chunks = [chunk.message for chunk in pieces(ChatGeneration(message=answer))]
    total = added(chunks)
    for name in ("content", "tool_calls", "response_metadata", "usage_metadata", "additional_kwargs", "id"):
        assert getattr(total, name) == getattr(answer, name), name


def test_pieces_of_blocks_add_up_to_the_blocks():
    blocks = [
        {"type": "thinking", "thinking": "hm hm", "signature": "abc"},
        {"type": "text", "text": "Let me see what there is to be seen.", "citations": []},
        {"type": "tool_use", "id": "toolu_1", "name": "get_order", "input": {"order_id": "7"}},
    ]
    call = {"name": "get_order", "args": {"order_id": "7"}, "id": "toolu_1"}
    answer = AIMessage(blocks, tool_calls=[call], response_metadata={"model_provider": "anthropic"})
    total = added([chunk.message for chunk in pieces(ChatGeneration(message=answer))])
    assert [{**block, "index": None} for block in total.content] == [{**block, "index": None} for block in blocks]
    assert total.tool_calls == answer.tool_calls
