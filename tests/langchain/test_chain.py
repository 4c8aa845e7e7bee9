import copy
from itertools import pairwise

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import (
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from pydantic import BaseModel

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import PassedThrough
from prefixcache_integrations.langchain import CachedTokensHandler, with_prompt_layout
from prefixcache_integrations.server import Reply, Simulator, ToolUse
from tests.sent import markers, names, reads, text

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return order


@tool
def cancel(order: str) -> str:
    """Cancel an order that has not been sent."""
    return order


class Verdict(BaseModel):
    """What became of a parcel."""

    state: str


PROMPT = ChatPromptTemplate([("system", LONG), MessagesPlaceholder("history", optional=True), ("human", "{question}")])
QUESTIONS = [{"question": "Where is my parcel?"}, {"question": "And the other one?"}]


def test_the_chain_that_was_given_goes_on_as_it_is(simulator, models):
    model = models.claude()
    chain = PROMPT | model | StrOutputParser()
    before = copy.copy(PROMPT.messages)

    with_prompt_layout(chain, level="arrange").invoke(QUESTIONS[0])
    chain.invoke(QUESTIONS[0])

    assert [markers(call.body) > 0 for call in simulator.calls] == [True, False]
    assert chain.first is PROMPT
    assert chain.middle == [model]
    assert PROMPT.messages == before


def test_a_model_alone_is_a_chain(simulator, models):
    model = with_prompt_layout(models.claude())

    model.invoke([("system", LONG), ("human", "Where is it?")])

    assert markers(simulator.calls[0].body) > 0


def test_a_model_chosen_at_run_time_is_laid_out(simulator, models):
    model = init_chat_model(configurable_fields=("model", "model_provider"), api_key="k", base_url="http://x")
    chain = with_prompt_layout(PROMPT | model)

    url = simulator.base_url("anthropic")
    chosen = {"model": "claude-sonnet-4-6", "model_provider": "anthropic"}
    laid_out = with_prompt_layout(
        PROMPT | init_chat_model(configurable_fields=("model", "model_provider"), api_key="k", base_url=url)
    )
    laid_out.invoke(QUESTIONS[0], config={"configurable": chosen})

    assert chain is not laid_out
    assert markers(simulator.calls[0].body) > 0


def test_tools_in_another_order_are_read(simulator, models):
    for tools in ([track, cancel], [cancel, track]):
        with_prompt_layout(PROMPT | models.openai().bind_tools(tools)).invoke(QUESTIONS[0])

    assert [names(call.body) for call in simulator.calls] == [["cancel", "track"]] * 2
    assert reads(simulator)[1] > 1_024


# Structured output


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("kind", ["claude", "openai"])
@pytest.mark.parametrize("level", ["canonical", "arrange"])
def test_structured_answers_come_back_parsed(kind, method, level):
    def model(request):
        if method == "function_calling":
            return Reply(tool_calls=[ToolUse("Verdict", {"state": "found"})])
        return Reply(json={"state": "found"})

    with Simulator(model=model) as simulator:
        provider, name = {"claude": ("anthropic", "claude-sonnet-4-6"), "openai": ("openai", "gpt-4o-mini")}[kind]
        chat = init_chat_model(
            name, model_provider=provider, api_key="k", base_url=simulator.base_url(provider), max_retries=0
        )
        chain = with_prompt_layout(PROMPT | chat.with_structured_output(Verdict, method=method), level=level)
        raw = with_prompt_layout(PROMPT | chat.with_structured_output(Verdict, method=method, include_raw=True))

        assert [chain.invoke(question) for question in QUESTIONS] == [Verdict(state="found")] * 2
        assert raw.invoke(QUESTIONS[0])["parsed"] == Verdict(state="found")
        assert min(reads(simulator)[1:]) > 1_024


# Ways to call


async def test_every_way_to_call_answers_as_before_and_is_laid_out(simulator, models):
    plain = PROMPT | models.claude() | StrOutputParser()
    chain = with_prompt_layout(plain, level="arrange")
    one = QUESTIONS[0]

    expected = plain.invoke(one)
    simulator.reset()

    assert chain.invoke(one) == expected
    assert chain.batch([one, one]) == [expected] * 2
    assert "".join(chain.stream(one)) == expected
    assert await chain.ainvoke(one) == expected
    assert await chain.abatch([one, one]) == [expected] * 2
    assert "".join([piece async for piece in chain.astream(one)]) == expected
    streamed = [event async for event in chain.astream_events(one, version="v2")]
    assert streamed[-1]["data"]["output"] == expected
    assert len(simulator.calls) == 9
    assert all(markers(call.body) for call in simulator.calls)


def test_configuration_reaches_every_step(models):
    handler, seen = CachedTokensHandler(), []

    def note(text, config):
        seen.append((config["tags"], config["metadata"].get("who")))
        return text

    chain = with_prompt_layout(PROMPT | models.claude() | StrOutputParser() | note)
    chain.invoke(QUESTIONS[0], config={"callbacks": [handler], "tags": ["blue"], "metadata": {"who": "me"}})

    assert len(handler.calls) == 1
    assert seen == [(["blue"], "me")]


async def test_events_of_a_chain_are_named_as_before(models):
    plain = (PROMPT | models.claude() | StrOutputParser()).with_config(run_name="parcels")

    async def told(chain):
        events = [event async for event in chain.astream_events(QUESTIONS[0], version="v2")]
        return [(event["event"], event["name"], event["tags"]) for event in events]

    assert await told(with_prompt_layout(plain, level="arrange")) == await told(plain)


# Conversations


@pytest.mark.parametrize("level", ["mark", "canonical", "arrange"])
def test_a_conversation_is_read_as_far_as_it_was_sent(simulator, models, level):
    chain = with_prompt_layout(PROMPT | models.claude(), level=level)
    history = []
    for number in range(4):
        question = f"Where is parcel {number}? " * 20
        answer = chain.invoke({"question": question, "history": history})
        history += [HumanMessage(question), AIMessage(answer.content)]

    usages = [call.usage for call in simulator.calls]
    for before, after in pairwise(usages):
        assert after.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens
    said = [text(message["content"]) for message in simulator.calls[-1].body["messages"]]
    assert said[:-1] == [message.content for message in history[:-2]]


# What is left alone


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(lambda: PROMPT | RunnableLambda(lambda prompt: prompt.to_string()), id="no model"),
        pytest.param(lambda: PROMPT | FakeListChatModel(responses=["x"]), id="a model of no provider we know"),
    ],
)
def test_what_cannot_be_laid_out_goes_on_as_it_is_and_is_told(events, chain):
    plain = chain()
    laid_out = with_prompt_layout(plain, observers=[events.append])

    assert laid_out is plain
    assert [type(event) for event in events] == [PassedThrough]


def test_a_function_that_calls_a_model_is_told(simulator, models, events):
    model = models.claude()

    def ask(prompt):
        return model.invoke(prompt)

    chain = PROMPT | RunnableLambda(ask)

    with_prompt_layout(chain, observers=[events.append]).invoke(QUESTIONS[0])

    assert [type(event) for event in events] == [PassedThrough]
    assert "function" in events[0].reason
    assert markers(simulator.calls[0].body) == 0


def test_a_function_that_calls_itself_does_no_harm(events):
    def again(given):
        return {"chain": chain}

    chain = RunnableLambda(again) | RunnablePassthrough()

    assert with_prompt_layout(chain, observers=[events.append]) is chain


@pytest.mark.parametrize("level", ["canonical", "arrange"])
def test_a_prompt_of_plain_text_says_what_it_said(simulator, models, level):
    chain = with_prompt_layout(PromptTemplate.from_template(LONG + "{question}") | models.claude(), level=level)

    chain.invoke(QUESTIONS[0])

    assert text(simulator.calls[0].body["messages"][0]["content"]) == LONG + QUESTIONS[0]["question"]


def test_what_is_no_chain_is_refused():
    with pytest.raises(ConfigurationError, match="not on a dict"):
        with_prompt_layout({"question": PROMPT})
