"""Values that change from call to call in an agent's instructions and tools: told, priced, and said at the end."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from prefixcache_integrations.events import VolatileFound
from prefixcache_integrations.langchain import PromptLayoutMiddleware

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return f"Parcel {order} is in the van."


@pytest.fixture
def found():
    return []


def listening(found, **settings):
    return PromptLayoutMiddleware(
        observers=[lambda event: isinstance(event, VolatileFound) and found.append(event)], **settings
    )


def test_a_clock_in_the_head_is_told_once_by_every_agent_made_with_one_layout(models, found):
    model, layout = models.claude(model="claude-opus-4-8"), listening(found)
    for second in range(10, 14):
        prompt = f"It is 2026-01-05 08:17:{second}. {LONG}"
        create_agent(model, [track], system_prompt=prompt, middleware=[layout]).invoke(
            {"messages": [HumanMessage("Hi")]}
        )

    assert [(event.model, event.finding.kind) for event in found] == [("claude-opus-4-8", "timestamp")]
    assert found[0].finding.tokens > 1000


def test_an_address_in_a_tool_and_a_date_are_told_once_each_over_a_conversation(models, found):
    find = tool(description=f"Track a parcel with {track.func}.")(lambda order: "In the van.")
    prompt = "Today is January 5, 2026. " + LONG
    made = create_agent(models.openai(), [track, find], system_prompt=prompt, middleware=[listening(found)])
    state = {"messages": []}
    for question in ("Hi", "Where is it?", "And now?"):
        state = made.invoke({"messages": [*state["messages"], HumanMessage(question)]})

    assert [event.finding.kind for event in found] == ["address", "date"]
