import copy
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelFallbackMiddleware,
    TodoListMiddleware,
    dynamic_prompt,
    wrap_model_call,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from prefixcache_integrations.events import PassedThrough, PromptPlanned
from prefixcache_integrations.insight.simulator import CacheSettings
from prefixcache_integrations.langchain import CachedTokensHandler, PromptLayoutMiddleware
from prefixcache_integrations.server import Reply, Simulator, ToolUse
from tests.sent import markers, names, reads

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return f"Parcel {order} is in the van."


@tool
def cancel(order: str) -> str:
    """Cancel an order that has not been sent."""
    return f"Order {order} is cancelled."


@tool
def address(order: str, street: str, city: str) -> str:
    """Change where an order is sent to."""
    return f"Order {order} goes to {street}, {city}."


TOOLS = [track, cancel, address]


class Verdict(BaseModel):
    """What became of a parcel."""

    state: str


def agent(model, *middleware, tools=TOOLS, prompt=LONG, **settings):
    return create_agent(model, tools=tools, system_prompt=prompt, middleware=list(middleware), **settings)


def ask(agent, text="Where is my parcel?", **config):
    return agent.invoke({"messages": [HumanMessage(text)]}, config=config)


# Tools in another order


@pytest.mark.parametrize("kind", ["openai", "claude"])
def test_tools_in_another_order_miss_as_they_are_and_hit_when_laid_out(simulator, models, kind):
    model = getattr(models, kind)()
    runs = {"as it is": [], "mark": [PromptLayoutMiddleware("mark")], "canonical": [PromptLayoutMiddleware()]}
    read = {}
    for run, middleware in runs.items():
        simulator.reset()
        for tools in (TOOLS, TOOLS[::-1], [cancel, track, address]):
            ask(agent(model, *middleware, tools=tools))
        read[run] = reads(simulator)

    assert read["as it is"] == [0, 0, 0]
    assert read["mark"] == [0, 0, 0]
    assert read["canonical"][0] == 0
    assert min(read["canonical"][1:]) > 1_024


# Long agents on Claude


def busy(turns, most_calls, seed=5):
    """Return a model that calls up to ``most_calls`` tools at once on every turn but the last."""
    sizes = random.Random(seed)  # noqa: S311 - the same agent in every run
    calls = [sizes.choice([1, 2, most_calls, sizes.randint(1, most_calls)]) for _ in range(turns - 1)]
    calls[turns // 2 : turns // 2 + 3] = [most_calls] * 3

    def model(request):
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn >= len(calls):
            return Reply(text="Done.")
        uses = [ToolUse("track", {"order": f"{turn}-{number}"}) for number in range(calls[turn])]
        return Reply(text="Let me see." if turn % 3 else "", tool_calls=uses)

    return model


@pytest.mark.parametrize("runs_are_one_position", [True, False], ids=["by position", "by block"])
async def test_a_long_claude_agent_reads_on_every_turn_what_it_read_and_wrote_before(runs_are_one_position):
    settings = CacheSettings(tool_runs_are_one_position=runs_are_one_position)
    with Simulator(model=busy(30, 25), settings=settings) as simulator:
        model = ChatAnthropic(
            model="claude-sonnet-4-6", api_key="k", base_url=simulator.base_url("anthropic"), max_retries=0
        )
        ask(agent(model, PromptLayoutMiddleware()), recursion_limit=100)

        usages = [call.usage for call in simulator.calls]

        assert [call.status for call in simulator.calls] == [200] * 30
        assert usages[0].cache_write_tokens > 1_024
        for before, after in pairwise(usages):
            assert after.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens
            assert after.uncached_tokens == 0, "the tail of every turn is written"
        assert max(markers(call.body) for call in simulator.calls) <= 4


# Newer OpenAI models


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_static_instructions_are_read_whoever_asks(simulator, models, responses):
    model = models.openai(model="gpt-5.6-luna", use_responses_api=responses)
    questions = ["Where is my parcel?", "Please cancel my order, I found a used one.", "Which city?"]

    for question in questions:
        ask(agent(model), question)
    assert reads(simulator) == [0, 0, 0]

    simulator.reset()
    for question in questions:
        ask(agent(model, PromptLayoutMiddleware()), question)
    first, *others = simulator.calls
    static = first.usage.cache_write_tokens
    for call in others:
        assert call.usage.cache_read_tokens > 1_024
        assert static - call.usage.cache_read_tokens < 50
        assert call.usage.input_tokens - call.usage.cache_read_tokens < 50


# The place of the middleware, and its neighbours


def out_of_order(kind):
    return {
        "first": lambda ours, other: [ours, other],
        "last": lambda ours, other: [other, ours],
    }[kind]


@pytest.fixture(params=["first", "last"])
def order(request):
    return out_of_order(request.param)


def unreachable():
    return ChatOpenAI(model="gpt-4o-mini", api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0)


async def test_the_model_of_a_fallback_is_laid_out_as_what_it_is(simulator, models, order):
    planned = []
    ours = PromptLayoutMiddleware(observers=[planned.append])
    middleware = order(ours, ModelFallbackMiddleware(models.claude()))

    for _ in range(2):
        await agent(unreachable(), *middleware).ainvoke({"messages": [HumanMessage("Where is it?")]})
        ask(agent(unreachable(), *middleware, tools=TOOLS[::-1]))

    assert [call.path for call in simulator.calls] == ["/v1/messages"] * 4
    assert [names(call.body) for call in simulator.calls] == [["address", "cancel", "track"]] * 4
    assert reads(simulator)[0] == 0
    assert min(reads(simulator)[1:]) > 1_024
    assert [event.plan.profile for event in planned[:2]] != [planned[0].plan.profile] * 2


def test_what_other_middleware_changes_is_laid_out(simulator, models, order):
    @wrap_model_call
    def swap(request, handler):
        return handler(request.override(model=models.openai(model="gpt-4.1-mini"), tools=request.tools[::-1]))

    ask(agent(models.openai(), *order(PromptLayoutMiddleware(), swap)))

    assert simulator.calls[0].body["model"] == "gpt-4.1-mini"
    assert names(simulator.calls[0].body) == ["address", "cancel", "track"]


def test_prompts_and_tools_added_by_middleware_are_sent(simulator, models, order):
    @dynamic_prompt
    def prompt(request):
        return LONG + "Be brief."

    ask(agent(models.claude(), *order(PromptLayoutMiddleware(), TodoListMiddleware()), prompt=None))
    ask(agent(models.claude(), *order(PromptLayoutMiddleware(), prompt), prompt=None))

    todo, dynamic = (call.body for call in simulator.calls)
    assert "write_todos" in names(todo)
    assert "Be brief." in str(dynamic["system"])
    assert 1 <= markers(dynamic) <= 4


def tagged(text, **more):
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", **more}}


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(LONG, id="plain"),
        pytest.param(SystemMessage([tagged(LONG), tagged("b"), tagged("c")]), id="three markers of the app's"),
        pytest.param(SystemMessage([tagged(LONG, ttl="1h")]), id="one hour after five minutes"),
    ],
)
def test_anthropics_own_middleware_beside_ours_never_draws_a_400(simulator, models, order, prompt):
    middleware = order(PromptLayoutMiddleware(), AnthropicPromptCachingMiddleware())

    state = ask(agent(models.claude(), *middleware, prompt=prompt))
    agent(models.claude(), *middleware, prompt=prompt).invoke(state)

    assert [call.status for call in simulator.calls] == [200, 200]
    assert max(markers(call.body) for call in simulator.calls) <= 4
    assert simulator.calls[1].usage.cache_read_tokens > 1_024


def test_a_system_prompt_ending_in_a_plain_string_keeps_it(simulator, models):
    prompt = SystemMessage([{"type": "text", "text": LONG}, "and be kind"], id="s1", name="boss")

    ask(agent(models.claude(), PromptLayoutMiddleware(), prompt=prompt))

    assert simulator.calls[0].body["system"][-1]["text"] == "and be kind"
    assert (prompt.id, prompt.name, prompt.content[-1]) == ("s1", "boss", "and be kind")


# Structured output


@pytest.mark.parametrize("kind", ["openai", "responses", "claude"])
@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_structured_answers_come_back_parsed(kind, strategy):
    def model(request):
        if strategy is ToolStrategy:
            return Reply(tool_calls=[ToolUse("Verdict", {"state": "found"})])
        return Reply(json={"state": "found"})

    with Simulator(model=model) as simulator:
        openai = {"api_key": "k", "base_url": simulator.base_url("openai"), "max_retries": 0}
        chat_model = {
            "openai": lambda: ChatOpenAI(model="gpt-4o-mini", **openai),
            "responses": lambda: ChatOpenAI(model="gpt-5.6-luna", use_responses_api=True, **openai),
            "claude": lambda: ChatAnthropic(
                model="claude-sonnet-4-6", api_key="k", base_url=simulator.base_url("anthropic")
            ),
        }[kind]()
        answers = [
            ask(agent(chat_model, PromptLayoutMiddleware(), tools=tools, response_format=strategy(Verdict)))
            for tools in (TOOLS, TOOLS[::-1])
        ]

        assert [answer["structured_response"] for answer in answers] == [Verdict(state="found")] * 2
        assert names(simulator.calls[0].body) == sorted(names(simulator.calls[0].body))
        assert simulator.calls[1].usage.cache_read_tokens > 1_024


# Streams


def test_a_streamed_agent_reports_its_usage(simulator, models):
    handler = CachedTokensHandler()
    streamed = agent(models.openai(), PromptLayoutMiddleware())

    for _ in range(2):
        config = {"callbacks": [handler]}
        list(streamed.stream({"messages": [HumanMessage("Where is it?")]}, config=config, stream_mode="messages"))

    assert [call.body["stream"] for call in simulator.calls] == [True, True]
    assert [call.usage.cache_read_tokens for call in handler.calls] == reads(simulator)
    assert handler.calls[1].usage.cache_read_tokens > 1_024


async def test_an_awaited_streamed_agent_reports_its_usage(simulator, models):
    handler = CachedTokensHandler()
    streamed = agent(models.claude(), PromptLayoutMiddleware())

    for _ in range(2):
        config = {"callbacks": [handler]}
        given = {"messages": [HumanMessage("Where is it?")]}
        async for _part in streamed.astream(given, config=config, stream_mode="messages"):
            pass

    assert [call.usage.cache_read_tokens for call in handler.calls] == reads(simulator)
    assert handler.calls[1].usage.cache_read_tokens > 1_024


# What is left alone


@pytest.mark.parametrize("kind", ["openai", "claude", "azure"])
def test_messages_tools_and_state_are_as_they_were(models, kind):
    system = SystemMessage([{"type": "text", "text": LONG}])
    tools = list(TOOLS)
    given = {
        "messages": [
            HumanMessage([{"type": "text", "text": "Where is A-1?"}], id="1"),
            AIMessage("", tool_calls=[{"name": "track", "args": {"order": "A-1"}, "id": "call_1"}], id="2"),
            ToolMessage("In Bonn", tool_call_id="call_1", id="3"),
            HumanMessage("And now?", id="4"),
        ]
    }
    schemas = [each.tool_call_schema.model_json_schema() for each in tools]
    before = copy.deepcopy((system, given))

    state = agent(getattr(models, kind)(), PromptLayoutMiddleware(), tools=tools, prompt=system).invoke(given)

    assert (system, given) == before
    assert state["messages"][:4] == before[1]["messages"]
    assert tools == TOOLS
    assert [each.tool_call_schema.model_json_schema() for each in tools] == schemas
    assert markers([message.model_dump() for message in state["messages"]]) == 0


def test_a_model_that_cannot_be_laid_out_goes_on_as_it_is():
    events = []
    middleware = PromptLayoutMiddleware(observers=[events.append])
    for _ in range(2):
        state = ask(agent(FakeListChatModel(responses=["x"]), middleware, tools=[]))

    assert state["messages"][-1].content == "x"
    assert [type(event) for event in events] == [PassedThrough]


def test_each_request_is_told_with_its_plan(models):
    events = []
    ask(agent(models.claude(), PromptLayoutMiddleware(observers=[events.append])))

    assert [type(event) for event in events] == [PromptPlanned]
    assert events[0].plan.level == "canonical"
    assert events[0].plan.exact


def test_the_tokenizer_given_is_the_one_used(models):
    events = []
    estimate = SimpleNamespace(
        name="estimate", exact=False, encode=lambda text: list(range(len(text) // 4)), count=lambda text: len(text) // 4
    )
    ask(agent(models.claude(), PromptLayoutMiddleware(observers=[events.append], tokenizer=estimate)))

    assert not events[0].plan.exact
