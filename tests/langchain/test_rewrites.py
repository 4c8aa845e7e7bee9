"""LangChain's own middleware that changes what was cached: found, named and priced before the request is sent."""

import html
import itertools

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    LLMToolSelectorMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    dynamic_prompt,
    wrap_model_call,
)
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from prefixcache_integrations.events import PrefixBroken, PromptPlanned
from prefixcache_integrations.insight.recording import read
from prefixcache_integrations.insight.report import report
from prefixcache_integrations.insight.report_html import render
from prefixcache_integrations.langchain import CachedTokensHandler, PromptLayoutMiddleware
from prefixcache_integrations.server import Reply, Simulator, ToolUse

RULES = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
CHANGES = {
    "tools_changed",
    "system_changed",
    "history_cleared",
    "history_summarised",
    "history_shortened",
    "history_rewritten",
}
STEPS = 6


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return f"Parcel {order} was seen in Bonn, in Kassel and in Ulm, each time in another van. " * 30


@tool
def cancel(order: str) -> str:
    """Cancel an order that has not been sent."""
    return f"Order {order} is cancelled."


@tool
def refund(order: str) -> str:
    """Pay back what an order cost."""
    return f"Order {order} was paid back."


class Traveller:
    """A model that tracks a parcel on each of its first turns, chooses tools, others every time, and sums up."""

    def __init__(self):
        self.turns = itertools.count()
        self.summaries = itertools.count()
        self.chosen = itertools.cycle([["track"], ["track", "cancel"], ["track", "refund"]])

    def __call__(self, request):
        names = {each.name for each in request.tools}
        if "ToolSelectionResponse" in names:
            return Reply(tool_calls=[ToolUse("ToolSelectionResponse", {"tools": next(self.chosen)})])
        if not names:
            return Reply(text=f"A parcel was looked for, as said in summary {next(self.summaries)}.")
        turn = next(self.turns)
        return Reply(text="Done.") if turn >= STEPS else Reply(tool_calls=[ToolUse("track", {"order": f"A-{turn}"})])


@pytest.fixture
def simulator():
    with Simulator(model=Traveller()) as running:
        yield running


def claude(simulator, model="claude-sonnet-4-6"):
    return ChatAnthropic(model=model, api_key="k", base_url=simulator.base_url("anthropic"), max_retries=0)


def gpt(simulator, model="gpt-5.6-luna", *, responses=True):
    url = simulator.base_url("openai")
    return ChatOpenAI(model=model, api_key="k", base_url=url, max_retries=0, use_responses_api=responses)


def run(model, *middleware, prompt=RULES, thread="1", tools=(track, cancel, refund), handler=None):
    """Run an agent of several steps, and return for each of its requests what was found changed."""
    events = []
    ours = PromptLayoutMiddleware(observers=[events.append])
    agent = create_agent(
        model, tools=list(tools), system_prompt=prompt, middleware=[*middleware, ours], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": thread}, "callbacks": [handler] if handler else []}
    agent.invoke({"messages": [HumanMessage("Where is my parcel?")]}, config=config)
    plans = [event.plan for event in events if isinstance(event, PromptPlanned)]
    found = [[finding for finding in plan.findings if finding.code in CHANGES] for plan in plans]
    broken = [event.lost_tokens for event in events if isinstance(event, PrefixBroken)]
    assert broken == pytest.approx([finding.tokens for each in found for finding in each], rel=0.05), "as it was billed"
    return found


def codes(found):
    return [[finding.code for finding in each] for each in found]


@pytest.mark.parametrize("make", [claude, gpt, lambda simulator: gpt(simulator, "gpt-4.1-mini", responses=False)])
def test_an_agent_that_only_adds_is_told_nothing(simulator, make):
    assert codes(run(make(simulator), TodoListMiddleware())) == [[]] * (STEPS + 1)


@pytest.mark.parametrize("make", [claude, gpt, lambda simulator: gpt(simulator, "gpt-4.1-mini", responses=False)])
def test_context_editing_is_found_on_every_turn_that_clears_one_more_result(simulator, make):
    clearing = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1000, keep=2)])

    found = run(make(simulator), clearing)

    assert codes(found)[:3] == [[], [], []]
    assert codes(found)[4:] == [["history_cleared"]] * (STEPS - 3)
    lost = found[-1][0]
    assert 0 < lost.cost <= 1.15 * lost.tokens
    assert "ClearToolUsesEdit(clear_at_least=…)" in lost.remedies[0]


def test_summarization_is_found_when_it_takes_the_place_of_the_history(simulator):
    model = claude(simulator)
    summing = SummarizationMiddleware(model, trigger=("messages", 8), keep=("messages", 4))

    found = run(model, summing)

    assert [each for each in codes(found) if each] == [["history_summarised"]] * 2
    (lost,) = next(each for each in found if each)
    assert lost.at.section == "messages"
    assert "SummarizationMiddleware(" in lost.remedies[0]


def test_a_tool_selector_is_found_with_the_tools_that_came_and_went(simulator):
    model = claude(simulator, "claude-opus-4-8")
    selecting = LLMToolSelectorMiddleware(model=claude(simulator, "claude-haiku-4-5"))

    found = run(model, selecting)

    assert codes(found)[1:] == [["tools_changed"]] * STEPS
    assert "added: cancel" in found[1][0].message
    assert "removed: cancel, added: refund" in found[2][0].message
    assert ["ProviderToolSearchMiddleware" in each for each in found[1][0].remedies] == [True, False, False]
    assert "tool_addition" in found[1][0].remedies[1]


def test_a_dynamic_prompt_is_found_where_it_changes(simulator):
    numbers = itertools.count()

    @dynamic_prompt
    def prompt(request):
        return f"{RULES} It is {next(numbers)} o'clock."

    found = run(claude(simulator, "claude-opus-4-8"), prompt, prompt=None)

    assert codes(found)[1:] == [["system_changed"]] * STEPS
    assert "message of role system at the end" in found[1][0].remedies[0]
    assert not any("o'clock" in finding.message for each in found for finding in each)


def server_tools(steps):
    """Return a middleware like an MCP client whose server offers other tools from time to time."""
    offered = iter(steps)

    @wrap_model_call
    def listing(request, handler):
        return handler(request.override(tools=next(offered)))

    return listing


COMES_AND_GOES = [[track], [track], [track, cancel], [cancel, track], [track, refund], [track, refund], [track]]


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")  # older SDKs name an end of life
@pytest.mark.parametrize(
    ("make", "ways"),
    [
        pytest.param(claude, ["tool_search_tool_bm25"], id="claude"),
        pytest.param(lambda s: claude(s, "claude-opus-4-1"), [], id="an older claude"),
        pytest.param(gpt, ["allowed_tools", "tool_search", "additional_tools"], id="responses"),
        pytest.param(lambda s: gpt(s, "gpt-4.1-mini"), ["allowed_tools", "additional_tools"], id="an older gpt"),
        pytest.param(lambda s: gpt(s, "gpt-4.1-mini", responses=False), ["allowed_tools"], id="chat completions"),
    ],
)
def test_a_servers_changing_tools_are_reported_with_what_the_model_has_instead(simulator, make, ways):
    found = run(make(simulator), server_tools(COMES_AND_GOES))

    assert codes(found) == [[], [], ["tools_changed"], [], ["tools_changed"], [], ["tools_changed"]]
    assert ["added: cancel" in found[2][0].message, "removed: refund" in found[6][0].message] == [True, True]
    *proposed, always = found[4][0].remedies
    assert len(proposed) == len(ways)
    assert all(way in text for way, text in zip(ways, proposed, strict=True))
    assert "tool_choice" in always


def test_looking_back_changes_nothing_of_what_is_sent():
    sent = []
    for observers in ([], [print]):
        with Simulator(model=Traveller()) as simulator:
            middleware = [server_tools(COMES_AND_GOES), PromptLayoutMiddleware(observers=observers)]
            agent = create_agent(
                claude(simulator), tools=[track, cancel, refund], system_prompt=RULES, middleware=middleware
            )
            agent.invoke({"messages": [HumanMessage("Where is my parcel?")]})
            sent.append([call.body for call in simulator.calls])
    assert sent[0] == sent[1]


def clearing():
    return ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1000, keep=2)])


def summing(simulator):
    return SummarizationMiddleware(claude(simulator), trigger=("messages", 8), keep=("messages", 4))


def selecting(simulator):
    return LLMToolSelectorMiddleware(model=claude(simulator, "claude-haiku-4-5"))


def speaking():
    numbers = itertools.count()
    return dynamic_prompt(lambda request: f"{RULES} It is {next(numbers)} o'clock.")


@pytest.mark.parametrize(
    ("middleware", "what", "prompt"),
    [
        pytest.param(lambda _: clearing(), "history cleared", RULES, id="context editing"),
        pytest.param(summing, "history summarised", RULES, id="summarization"),
        pytest.param(selecting, "tools changed", RULES, id="tool selector"),
        pytest.param(lambda _: speaking(), "system changed", None, id="dynamic prompt"),
        pytest.param(lambda _: server_tools(COMES_AND_GOES), "tools changed", RULES, id="changing server"),
    ],
)
def test_the_reports_have_a_line_for_each_rewrite_with_its_price(simulator, tmp_path, middleware, what, prompt):
    file = tmp_path / "run.jsonl"
    handler = CachedTokensHandler(diagnose=True, record=file)

    found = [
        finding
        for each in run(claude(simulator), middleware(simulator), prompt=prompt, handler=handler)
        for finding in each
    ]
    assert found

    calls = list(read(file.read_bytes().splitlines()))
    made = report(calls)
    (row,) = [change for change in made.changes if change.what == what]
    assert row.count == len(found)
    assert row.tokens == sum(finding.tokens for finding in found)
    assert row.cost == pytest.approx(sum(finding.cost for finding in found))
    assert row.remedy == found[0].remedies[0]
    for text in (handler.report(), html.unescape(render(made))):
        told = " ".join(text.split())
        assert all(finding.message in told for finding in found)
    assert what in html.unescape(render(made))
