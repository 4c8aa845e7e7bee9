"""LangChain's chat models against the simulator: what an app sees."""

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from prefixcache_integrations.server import Reply, Simulator, ToolUse, script

MARK = {"type": "ephemeral"}


@tool
def order_status(order: int) -> str:
    """Look up an order."""
    return f"order {order} is on its way"


def chat_models(simulator):
    openai = {"base_url": simulator.base_url("openai"), "api_key": "key"}
    return {
        "chat": ChatOpenAI(model="gpt-4o-mini", **openai),
        "responses": ChatOpenAI(model="gpt-4o-mini", use_responses_api=True, **openai),
        "azure": AzureChatOpenAI(
            azure_endpoint=simulator.base_url("azure"),
            azure_deployment="gpt-4o-mini",
            api_key="key",
            api_version="2024-10-21",
        ),
        "claude": ChatAnthropic(
            model="claude-sonnet-4-6", base_url=simulator.base_url("anthropic"), api_key="key", max_tokens=50
        ),
    }


def prompt(text):
    return [SystemMessage([{"type": "text", "text": text, "cache_control": MARK}]), HumanMessage("hello")]


READS = {"chat": 1920, "responses": 1920, "azure": 1920, "claude": 2000}


def messages_for(name, text):
    plain = [SystemMessage(text), HumanMessage("hello")]
    return prompt(text) if name == "claude" else plain


@pytest.fixture
def simulator(tokenizer):
    """Return a simulator on a port of its own: LangChain keeps its HTTP clients per URL, also after they are closed."""
    with Simulator(tokenizer=tokenizer) as running:
        yield running


async def close(model):
    """Close the async client, which LangChain leaves to the garbage collector."""
    client = model.root_async_client if isinstance(model, ChatOpenAI | AzureChatOpenAI) else model._async_client
    await client.close()


@pytest.mark.parametrize("name", READS)
def test_a_second_call_reads_from_the_cache(simulator, text_of, name):
    model = chat_models(simulator)[name]
    answers = [model.invoke(messages_for(name, text_of(2000))) for _ in range(2)]
    assert [answer.usage_metadata["input_token_details"]["cache_read"] for answer in answers] == [0, READS[name]]
    assert answers[0].text == "hello"
    assert answers[0].id != answers[1].id


@pytest.mark.parametrize("name", READS)
async def test_a_stream_reads_from_the_cache(simulator, text_of, name):
    model = chat_models(simulator)[name]
    if name in ("chat", "azure"):
        model.stream_usage = True
    messages = messages_for(name, text_of(2000))
    try:
        await model.ainvoke(messages)
        chunks = [chunk async for chunk in model.astream(messages)]
    finally:
        await close(model)
    whole = sum(chunks[1:], chunks[0])
    assert whole.usage_metadata["input_token_details"]["cache_read"] == READS[name]
    assert whole.text == "hello"


@pytest.mark.parametrize("name", READS)
def test_a_tool_conversation_goes_through(tokenizer, name):
    calls = [ToolUse("order_status", {"order": number}) for number in (7, 8)]
    with Simulator(
        tokenizer=tokenizer, model=script([Reply(tool_calls=calls), Reply(text="On its way.")])
    ) as simulator:
        model = chat_models(simulator)[name].bind_tools([order_status])
        history = [HumanMessage("Where are my orders?")]
        asked = model.invoke(history)
        assert [call["args"] for call in asked.tool_calls] == [{"order": 7}, {"order": 8}]
        history += [asked, *(order_status.invoke(call) for call in asked.tool_calls)]
        assert model.invoke(history).text == "On its way."
