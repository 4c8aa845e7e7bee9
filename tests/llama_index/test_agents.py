"""Agents: what each step reads of the one before, and tool results in an order that does not depend on chance."""

import asyncio
from itertools import pairwise

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import TextBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic

from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.llama_index.messages import in_call_order
from prefixcache_integrations.server import Reply, Simulator, ToolUse
from prefixcache_integrations.testing import assert_prefix_kept

RULES = "Use the tools, one after the other, and name what each of them said. " * 100
NAMES = [f"look_up_{letter}" for letter in "fbdaceghijkl"]


def tools(delays=None):
    def made(name):
        async def look_up(thing: str) -> str:
            await asyncio.sleep((delays or {}).get(name, 0))
            return f"{name} says {thing}"

        return FunctionTool.from_defaults(async_fn=look_up, name=name, description=f"Look a thing up in {name}.")

    return [made(name) for name in NAMES]


def step_by_step(request):
    steps = sum(part.kind == "tool_result" for message in request.messages for part in message.parts)
    return Reply(tool_calls=[ToolUse(NAMES[steps], {"thing": "lamps"})]) if steps < 5 else Reply(text="All looked up.")


def all_at_once(request):
    done = any(part.kind == "tool_result" for message in request.messages for part in message.parts)
    return Reply(text="Done.") if done else Reply(tool_calls=[ToolUse(name, {"thing": "books"}) for name in NAMES[:4]])


def ask(llm, made, question="How long for lamps?"):
    agent = FunctionAgent(llm=llm, tools=made, system_prompt=RULES)

    async def run():
        return str(await agent.run(question, memory=Memory.from_defaults(token_limit=100_000)))

    return asyncio.run(run())


def claude(simulator):
    return Anthropic(
        model="claude-sonnet-4-5",
        api_key="k",
        base_url=simulator.base_url("anthropic"),
        max_retries=0,
        default_headers={"Connection": "close"},
    )


def test_every_step_reads_all_that_the_step_before_wrote():
    with Simulator(model=step_by_step) as simulator:
        assert ask(enable(claude(simulator)), tools()) == "All looked up."
    assert len(simulator.calls) == 6
    assert_prefix_kept(simulator.calls)
    usages = [call.usage for call in simulator.calls]
    for before, after in pairwise(usages):
        assert after.cache_read_tokens >= before.cache_read_tokens + before.cache_write_tokens > 1000


@pytest.mark.parametrize("slowest", NAMES[:4])
def test_parallel_results_stand_in_the_order_of_the_calls_and_are_found_again(slowest):
    with Simulator(model=all_at_once) as simulator:
        llm = enable(claude(simulator), cache="memory://")
        ask(llm, tools({slowest: 0.05}))
        ask(llm, tools())
        results = [
            part.call_id
            for message in simulator.calls[1].request.messages
            for part in message.parts
            if part.kind == "tool_result"
        ]
        calls = [
            part.call_id
            for message in simulator.calls[1].request.messages
            for part in message.parts
            if part.kind == "tool_call"
        ]
    assert results == calls
    assert len(simulator.calls) == 2


def test_results_of_other_calls_stay_where_they_are():
    called = ChatMessage(
        role="assistant",
        blocks=[TextBlock(text=""), *(ToolCallBlock(tool_call_id=each, tool_name="t") for each in "ab")],
    )
    results = [ChatMessage(role="tool", content=each, additional_kwargs={"tool_call_id": each}) for each in "bax"]
    assert in_call_order([called, *results[:2]])[1:] == [results[1], results[0]]
    assert in_call_order([called, *results])[1:] == results
    assert in_call_order(results) == results
    assert in_call_order([]) == []
