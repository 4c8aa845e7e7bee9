"""An agent's workload sent by real LangChain agents to the simulator: with no caching, LangChain's middleware, ours.

Here nothing is re-imagined: `create_agent` builds each request, the middlewares that ship mark it, the Anthropic SDK
sends it, and the simulator bills it by the documented rules, in counts of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool

from benchmarks.layout.hindsight import READ
from benchmarks.layout.regimes import CLAUDE
from benchmarks.layout.workload import Block, Workload
from prefixcache_integrations.langchain import PromptLayoutMiddleware
from prefixcache_integrations.server import Call as Answered
from prefixcache_integrations.server import Reply, Simulator

CALLS = 300
"""How many calls are sent: LangChain takes far longer to build a request than any of the policies to mark it."""

AGENTS: Mapping[str, type[AgentMiddleware] | None] = {
    "no middleware": None,
    "LangChain's AnthropicPromptCachingMiddleware": AnthropicPromptCachingMiddleware,
    "our PromptLayoutMiddleware": PromptLayoutMiddleware,
}


def report(workloads: Iterable[Workload]) -> None:
    """Print what the first workload with tools and instructions costs, sent by each agent."""
    workload = next((each for each in workloads if _is_agent(each)), None)
    if workload is None:
        return
    with Simulator(model=lambda _: Reply(text="Done.")) as simulator:
        counting = f"counts by {simulator.tokenizer.name}" + ("" if simulator.tokenizer.exact else ", estimated")
        print(f"\n{workload.name}: its first {CALLS} calls, sent by LangChain agents to the simulator ({counting})\n")
        for name, middleware in AGENTS.items():
            simulator.reset()
            _send(workload, [] if middleware is None else [middleware()], simulator)
            print(f"    {name:46}{_line(simulator.calls)}")


def _is_agent(workload: Workload) -> bool:
    return {"tool", "system"} <= {block.kind for block in workload.blocks.values()}


def _send(workload: Workload, middleware: Sequence[AgentMiddleware], simulator: Simulator) -> None:
    model = ChatAnthropic(
        model="claude-sonnet-4-5",
        api_key="k",
        base_url=simulator.base_url("anthropic"),
        max_retries=0,
        default_headers={"Connection": "close"},
    )
    tools = {block.id: _tool(block) for block in workload.blocks.values() if block.kind == "tool"}
    for call in islice(workload.calls, CALLS):
        blocks = [workload.blocks[part] for part in call.parts]
        agent = create_agent(
            model,
            tools=[tools[block.id] for block in blocks if block.kind == "tool"],
            system_prompt="\n\n".join(block.text for block in blocks if block.kind == "system"),
            middleware=list(middleware),
        )
        agent.invoke({"messages": _messages(blocks)})


def _tool(block: Block) -> BaseTool:
    """Return a tool with the block's schema, or with its text as description where it is none."""
    try:
        function = json.loads(block.text)["function"]
        description, schema = function["description"], function["parameters"]
    except (ValueError, KeyError, TypeError):
        description, schema = block.text, {"type": "object", "properties": {}}
    return StructuredTool(name=block.name, description=description, args_schema=schema, func=_unused)


def _unused(**_: object) -> str:
    return ""


def _messages(blocks: Sequence[Block]) -> list[AnyMessage]:
    """Return the conversation; the model's messages before results of tools call these."""
    said = [block for block in blocks if block.kind not in {"tool", "system"}]
    messages: list[AnyMessage] = []
    for block, following in zip(said, [*said[1:], None], strict=True):
        if block.role == "assistant":
            calls = following is not None and following.role == "tool"
            called = [{"name": "call", "args": {}, "id": f"call_{following.id}"}] if following and calls else []
            messages.append(AIMessage(block.text, tool_calls=called))
        elif block.role == "tool" and messages and isinstance(messages[-1], AIMessage):
            messages.append(ToolMessage(block.text, tool_call_id=f"call_{block.id}"))
        else:
            messages.append(HumanMessage(block.text))
    return messages


def _line(calls: Sequence[Answered]) -> str:
    usages = [call.usage for call in calls if call.usage is not None]
    tokens = sum(usage.input_tokens or 0 for usage in usages)
    read = sum(usage.cache_read_tokens or 0 for usage in usages)
    written = sum(usage.cache_write_tokens or 0 for usage in usages)
    cost = (tokens - (1 - READ) * read + (CLAUDE.write - 1) * written) / tokens
    refused = f"   refused {len(calls) - len(usages)}" if len(calls) > len(usages) else ""
    return f"cost {cost:.4f}   hit {read / tokens:.4f}   written {written / tokens:.4f}{refused}"
