"""Layouts tell by themselves which request of a conversation loses what it could have read."""

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import dynamic_prompt
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from prefixcache_integrations.events import PrefixBroken
from prefixcache_integrations.langchain import CachedTokensHandler, PromptLayoutMiddleware, with_prompt_layout

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


def broken(events):
    return [event for event in events if isinstance(event, PrefixBroken)]


def talk(model, systems):
    """Yield the messages of a conversation, each to be answered before the next is asked for."""
    history = []
    for number, system in enumerate(systems):
        history.append(HumanMessage(f"Question {number}"))
        answer = yield [SystemMessage(system), *history]
        history.append(AIMessage(answer))


def converse(ask, systems):
    turns = talk(None, systems)
    messages = next(turns)
    while True:
        try:
            messages = turns.send(ask(messages))
        except StopIteration:
            return


async def aconverse(ask, systems):
    turns = talk(None, systems)
    messages = next(turns)
    while True:
        try:
            messages = turns.send(await ask(messages))
        except StopIteration:
            return


def streamed(model):
    return lambda messages: "".join(piece.text for piece in model.stream(messages))


def invoked(model):
    return lambda messages: model.invoke(messages).text


def ainvoked(model):
    async def ask(messages):
        return (await model.ainvoke(messages)).text

    return ask


def astreamed(model):
    async def ask(messages):
        return "".join([piece.text async for piece in model.astream(messages)])

    return ask


@pytest.mark.parametrize("way", [invoked, streamed])
@pytest.mark.parametrize("name", ["claude", "openai"])
def test_a_turn_that_loses_its_prefix_is_told_once_with_what_was_lost(simulator, models, events, name, way):
    model = with_prompt_layout(getattr(models, name)(), observers=[events.append])
    converse(way(model), [LONG, LONG, "Friday. " + LONG, "Friday. " + LONG])

    [found] = broken(events)
    before, after = simulator.calls[1].usage, simulator.calls[2].usage
    left = before.cache_read_tokens + (before.cache_write_tokens or 0) if name == "claude" else before.input_tokens
    assert found.reason == "system_changed"
    assert 0 < found.lost_tokens <= left - after.cache_read_tokens
    assert found.lost_cost > 0


@pytest.mark.parametrize("way", [ainvoked, astreamed])
async def test_awaited_turns_are_told_alike(simulator, models, events, way):
    model = with_prompt_layout(models.claude(), observers=[events.append])
    await aconverse(way(model), [LONG, "Friday. " + LONG])

    assert [event.reason for event in broken(events)] == ["system_changed"]


@pytest.mark.parametrize("way", [invoked, streamed])
def test_what_the_provider_drops_shows_in_the_bill(simulator, models, events, way):
    model = with_prompt_layout(models.claude(), observers=[events.append])

    def ask(messages):
        if len(messages) > 2:
            simulator.reset()
        return way(model)(messages)

    converse(ask, [LONG, LONG])

    assert [event.reason for event in broken(events)] == ["dropped_by_provider"]


def test_a_conversation_that_only_grows_raises_no_alarm(simulator, models, events):
    model = with_prompt_layout(models.claude(), observers=[events.append])
    converse(streamed(model), [LONG] * 4)

    assert broken(events) == []


def test_agents_are_watched_by_thread(simulator, models, events):
    day = ["Monday. "]

    @dynamic_prompt
    def prompt(_request):
        return day[0] + LONG

    agent = create_agent(models.claude(), middleware=[prompt, PromptLayoutMiddleware(observers=[events.append])])
    history = []
    for question in ("Where is it?", "And now?"):
        history.append(HumanMessage(question))
        config = {"configurable": {"thread_id": "customer 7"}}
        history = agent.invoke({"messages": history}, config)["messages"]
        day[0] = "Friday. "

    [found] = broken(events)
    assert found.reason == "system_changed"
    assert found.labels.session == "customer 7"


@pytest.mark.parametrize("diagnosing", [True, False])
def test_an_observer_that_a_handler_tells_is_told_once(simulator, models, events, diagnosing):
    handler = CachedTokensHandler(observers=[events.append], diagnose=diagnosing)
    model = with_prompt_layout(models.claude(), observers=[events.append]).with_config(callbacks=[handler])
    converse(streamed(model), [LONG, "Friday. " + LONG])

    assert [event.reason for event in broken(events)] == ["system_changed"]


def test_a_refused_request_leaves_nothing_to_compare_with(simulator, models, events):
    model = with_prompt_layout(models.claude(), observers=[events.append])
    with pytest.raises(Exception, match="max_tokens"):
        model.invoke([SystemMessage(LONG), HumanMessage("Question 0")], max_tokens=-1)
    converse(invoked(model), ["Friday. " + LONG, "Friday. " + LONG])

    assert broken(events) == []
