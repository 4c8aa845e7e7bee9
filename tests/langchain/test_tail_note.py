"""What changes in an agent's instructions and goes to the end of the prompt: what the provider gets, reads and is told."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from prefixcache_integrations.events import PromptPlanned
from prefixcache_integrations.insight.recording import read
from prefixcache_integrations.langchain import CachedTokensHandler, PromptLayoutMiddleware
from prefixcache_integrations.server import Reply, Simulator, ToolUse

RULES = "".join(f"{number}. Look every order up before you say anything about it.\n" for number in range(150))
LATE = {"claude": "system", "older claude": None, "chat": "system", "responses": "developer"}
"""Who says the note, on which kind of model; the last block of the user's message where it is nobody."""


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return f"Parcel {order} is in the van."


def clerk(request):
    """Track two parcels for each question, then answer."""
    said = [message for message in request.messages if message.role not in {"system", "developer"}]
    if not request.tools or said[-1].role == "tool" or any(part.kind == "tool_result" for part in said[-1].parts):
        return Reply(text="Both are in the van.")
    return Reply(text="Let me see.", tool_calls=[ToolUse("track", {"order": f"A-{number}"}) for number in (1, 2)])


@pytest.fixture(scope="module")
def server():
    with Simulator(model=clerk) as running:
        yield running


@pytest.fixture(params=LATE)
def kind(request):
    return request.param


def model_of(kind, simulator):
    common = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}
    if "claude" in kind:
        name = "claude-opus-4-8" if kind == "claude" else "claude-sonnet-4-6"
        return ChatAnthropic(model=name, base_url=simulator.base_url("anthropic"), **common)
    name, responses = ("gpt-5.6-luna", True) if kind == "responses" else ("gpt-4.1-mini", False)
    return ChatOpenAI(model=name, base_url=simulator.base_url("openai"), use_responses_api=responses, **common)


def prompts(times):
    return [f"Current time: 2026-01-05 08:{10 + number}:23.\n{RULES}" for number in range(times)]


def converse(model, layout, all_prompts, ask=None):
    """Hold one conversation, a question for each of the prompts, and return its messages."""
    ask = ask or (lambda agent, state: agent.invoke(state))
    messages = []
    for number, prompt in enumerate(all_prompts):
        agent = create_agent(model, [track], system_prompt=prompt, middleware=[layout] if layout else [])
        messages = ask(agent, {"messages": [*messages, HumanMessage(f"Where are they? {number}")]})["messages"]
    return messages


def blocks(message):
    content = message.get("content", message.get("output"))
    if not isinstance(content, list):
        return [content]
    return [block.get("text", block) for block in content]


def items(body):
    """Return what is said in a request after its instructions, without markers."""
    said = body.get("messages") or body["input"]
    said = said if "system" in body else said[1:]
    plain = re.sub(r', "(cache_control|prompt_cache_breakpoint)": \{[^{}]*\}', "", json.dumps(said))
    return json.loads(plain)


def instructions(body):
    said = body.get("system") or (body.get("messages") or body["input"])[0]["content"]
    return said if isinstance(said, str) else "".join(block["text"] for block in said)


def without_note(kind, body):
    """Return what a request says, and the note at its end."""
    *before, last = items(body)
    if LATE[kind] is not None:
        assert last["role"] == LATE[kind]
        assert len(blocks(last)) == 1
        return before, blocks(last)[0]
    assert last["role"] == "user"
    return [*before, {**last, "content": last["content"][:-1]}], blocks(last)[-1]


def in_one_form(said):
    """Return messages with every text as blocks: marking one makes a string a block."""
    texts = [
        [{"type": "text", "text": each} if isinstance(each, str) else each for each in blocks(one)] for one in said
    ]
    return [(one.get("role"), one.get("type"), text) for one, text in zip(said, texts, strict=True)]


def test_each_request_adds_to_the_last_and_only_the_latest_time_is_said(simulator, kind):
    events = []
    layout = PromptLayoutMiddleware("arrange", observers=[events.append])
    messages = converse(model_of(kind, simulator), layout, prompts(3))

    bodies = [call.body for call in simulator.calls]
    assert len({instructions(body) for body in bodies}) == 1
    assert instructions(bodies[0]).startswith("Current time: [value1: stated at the end].\n0.")
    said = [without_note(kind, body) for body in bodies]
    assert [note for _, note in said] == [f"[value1] 2026-01-05 08:{minute}:23" for minute in (10, 10, 11, 11, 12, 12)]
    for (before, _), (after, _) in pairwise(said):
        assert in_one_form(after)[: len(before)] == in_one_form(before)
    assert not any("value1" in str(message.content) for message in messages)
    assert [event for event in events if type(event) is not PromptPlanned] == [], "nothing is reported or lost"


def test_a_note_is_no_part_of_the_conversation_that_is_recorded_and_diagnosed(simulator, kind, tmp_path):
    file = tmp_path / "run.jsonl"
    handler = CachedTokensHandler(record=file, record_content=True, diagnose=True)
    model = model_of(kind, simulator)
    model.callbacks = [handler]
    converse(model, PromptLayoutMiddleware("arrange"), prompts(3))

    calls = list(read(file.read_bytes().splitlines()))
    assert {call.conversation for call in calls} == {"conversation 1"}
    assert [call.broken for call in calls] == [None] * 6
    assert [without_note(kind, call.request)[1] for call in calls] == [
        without_note(kind, call.body)[1] for call in simulator.calls
    ], "the content is as it was sent"


def test_each_request_reads_what_the_one_before_left(simulator, kind):
    converse(model_of(kind, simulator), PromptLayoutMiddleware("arrange"), prompts(3))

    for before, after in pairwise(call.usage for call in simulator.calls):
        if kind == "chat":  # in steps of 128 tokens
            assert after.cache_read_tokens >= before.input_tokens - 128 - 30
        else:
            assert after.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens > 1024


def test_the_conversation_goes_as_it_does_without(simulator, kind):
    plain = converse(model_of(kind, simulator), None, prompts(2))
    ours = converse(model_of(kind, simulator), PromptLayoutMiddleware("arrange"), prompts(2))

    assert [(type(message), message.text) for message in ours] == [(type(message), message.text) for message in plain]
    calls = [[call["args"] for call in getattr(message, "tool_calls", [])] for message in plain]
    assert [[call["args"] for call in getattr(message, "tool_calls", [])] for message in ours] == calls


def test_streamed_and_awaited_requests_are_the_same(simulator, kind):
    def stream(agent, state):
        return list(agent.stream(state, stream_mode=["values", "messages"]))[-1][1]

    def run(agent, state):
        return asyncio.run(agent.ainvoke(state))

    sent = []
    for ask in (None, stream, run):
        simulator.reset()
        converse(model_of(kind, simulator), PromptLayoutMiddleware("arrange"), prompts(2), ask)
        assert {call.status for call in simulator.calls} == {200}
        sent.append([(instructions(call.body), without_note(kind, call.body)[1]) for call in simulator.calls])
    assert sent[0] == sent[1] == sent[2]


VALUES = [
    "Ann",
    "",
    "Ann Ann",
    "[value1: stated at the end]",
    "{name} {{0}}",
    "two\nlines\n\nof it",
    "é 🙂 李",
    "x " * 2000,
]
FORMS = ["{}\n" + RULES, "So: {}. " + RULES, RULES + "{}", RULES + "Twice: {0}, and {0}.\n" + RULES.upper()]


@pytest.mark.parametrize("form", FORMS, ids=["first of all", "inside", "last of all", "twice"])
def test_every_word_of_the_instructions_is_said_whatever_a_value_is(simulator, kind, form):
    layout, model = PromptLayoutMiddleware("arrange"), model_of(kind, simulator)
    for number, value in enumerate([*VALUES, "Bob", "Ann"]):
        prompt = f"Now: 2026-01-05 08:17:{10 + number}. " + form.format(value)
        create_agent(model, [], system_prompt=prompt, middleware=[layout]).invoke({"messages": [HumanMessage("Hi")]})

        call = simulator.calls[-1]
        assert call.status == 200
        told = "\n".join(str(block) for item in items(call.body)[1:] for block in blocks(item))
        if LATE[kind] is None:
            told = "\n".join(blocks(items(call.body)[-1])[1:])
        values = dict(re.findall(r"\[value(\d+)\] ((?:.|\n(?!\[value\d+\] ))*)", told))
        assert put_back(instructions(call.body), values) in (prompt, prompt.strip())
        assert values or "[value1" in value, "the clock at least"


def put_back(text, values):
    return re.sub(r"\[value(\d+): stated at the end\]", lambda at: values.get(at[1], at[0]), text)
