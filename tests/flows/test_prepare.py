from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.events import Event, PassedThrough, PromptPlanned
from prefixcache_integrations.flows.prepare import Prepared, prepare
from prefixcache_integrations.insight.simulator import CacheSettings, PromptCache, refusal
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.wire_rules import claude_faults, claude_markers
from tests.prompt.words import WORDS

FORMATS: list[tuple[Dialect, Any]] = [
    (AnthropicMessages(), CLAUDE_BODIES),
    (OpenAIChat(), CHAT_BODIES),
    (OpenAIResponses(), RESPONSES_BODIES),
]
CLAUDE = AnthropicMessages()
LONG = "word " * 6000


def prepared(body: Any, dialect: Dialect = CLAUDE, **settings: Any) -> tuple[Prepared, list[Event]]:
    events: list[Event] = []
    return prepare(body, dialect, resolve, WORDS, observers=[events.append], **settings), events


def claude(content: object, **fields: object) -> dict[str, Any]:
    return {"model": "claude-opus-5", "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


def test_a_body_is_planned_and_observers_are_told() -> None:
    body = claude("hi", system=LONG)
    result, (event,) = prepared(body)
    assert isinstance(event, PromptPlanned)
    assert event.plan is result.plan
    assert event.model == "claude-opus-5"
    assert claude_markers(dict(result.body)) == ["system.0", "messages.0.content.0"]
    assert body == claude("hi", system=LONG)


def test_the_level_is_passed_on() -> None:
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in "ba"]
    assert prepared(claude(LONG, tools=tools), level="mark")[0].body["tools"] == tools
    assert prepared(claude(LONG, tools=tools))[0].body["tools"] == tools[::-1]


MALFORMED: list[Any] = [
    {},
    {"model": "claude-opus-5"},
    {"model": "claude-opus-5", "messages": "hi"},
    {"model": "claude-opus-5", "messages": [None]},
    {"model": "claude-opus-5", "messages": [{"role": "wizard", "content": "hi"}]},
    claude(5),
    claude([{"type": "text", "text": 5}]),
    claude([{"text": "no type"}]),
    claude("\ud800"),
    claude([{"type": "text", "text": "hi", "cache_control": "yes"}]),
    claude("hi", tools=[{"name": "a"}]),
    claude("hi", tools=[{"input_schema": {}}]),
    claude("hi", tools={"a": 1}),
    claude("hi", tools=[{"name": "a", "input_schema": {"default": float("nan")}}]),
    claude("hi", tools=[{"name": "a", "input_schema": {"default": {1, 2}}}]),
    claude("hi", tools=[{"name": "a", "input_schema": {("a", "b"): 1}}]),
    [],
    None,
    "hi",
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_a_body_that_cannot_be_understood_goes_through_as_the_same_object(body: Any) -> None:
    result, (event,) = prepared(body)
    assert result.body is body
    assert result.plan is None
    assert isinstance(event, PassedThrough)
    assert event.reason


def test_the_reason_never_quotes_the_prompt() -> None:
    _, (event,) = prepared(claude([{"type": "text", "text": "my secret \ud800"}]))
    assert isinstance(event, PassedThrough)
    assert "secret" not in event.reason
    assert event.model == "claude-opus-5"


def test_a_schema_nested_beyond_reason_goes_through() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    body = claude("hi", tools=[{"name": "a", "input_schema": schema}])
    assert prepared(body)[0].body is body


def test_a_fault_of_our_own_lets_the_body_through() -> None:
    def no_facts(model: str) -> Any:
        raise KeyError(model)

    body, events = claude("hi"), list[Event]()
    result = prepare(body, CLAUDE, no_facts, WORDS, observers=[events.append])
    assert result.body is body
    assert events == [PassedThrough(reason="KeyError", model="claude-opus-5")]


def test_an_observer_that_fails_stops_nothing() -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    assert prepare(claude("hi"), CLAUDE, resolve, WORDS, observers=[broken]).plan is not None


@pytest.mark.parametrize(
    "text", ["", "x" * 1_000_000, "word " * 200_000, "\0\n\t" * 1000], ids=["0", "1M", "words", "control"]
)
@pytest.mark.parametrize("dialect", [row[0] for row in FORMATS], ids=lambda dialect: dialect.name)
def test_texts_of_any_length_are_planned(dialect: Dialect, text: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "anthropic_messages": claude(text, system=text),
        "openai_chat": {"model": "gpt-5.6-sol", "messages": [{"role": "user", "content": text}]},
        "openai_responses": {
            "model": "gpt-6-sol",
            "instructions": text,
            "input": text or [{"role": "user", "content": ""}],
        },
    }
    result, _ = prepared(bodies[dialect.name], dialect)
    assert result.plan is not None


@pytest.mark.parametrize(("dialect", "bodies"), FORMATS, ids=lambda value: getattr(value, "name", ""))
def test_no_body_is_mutated_and_none_raises(dialect: Dialect, bodies: Any) -> None:
    @settings(max_examples=100)
    @given(bodies, st.data())
    def check(drawn: dict[str, Any], data: st.DataObject) -> None:
        body = copy.deepcopy(drawn)
        damaged = data.draw(st.sampled_from([None, *_paths(body)]))
        if damaged is not None:
            _put(body, damaged, data.draw(st.sampled_from(DAMAGE).map(copy.deepcopy)))
        before = repr(body)
        result, events = prepared(body, dialect)
        assert len(events) == 1
        assert (result.plan is None) == (result.body is body)
        assert repr(body) == before

    check()


DAMAGE: list[Any] = [None, 5, -1.5, True, "", "user", "\ud800", (), {}, [[]], {1, 2}, float("nan")]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, inner in steps for found in ((*path, step), *_paths(inner, (*path, step)))]


def _put(value: Any, path: tuple[Any, ...], new: object) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


# A long agent run, against the simulated cache


def agent_turns(turns: int, most_calls: int) -> list[dict[str, Any]]:
    """Bodies of one conversation, each with the last one's answer and the results of its parallel calls."""
    tools = [{"name": name, "description": name * 40, "input_schema": {"type": "object"}} for name in ("b", "c", "a")]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Where are my orders?"}]
    bodies = []
    for turn in range(turns):
        tools = tools[1:] + tools[:1]
        bodies.append(copy.deepcopy(claude("", system=LONG, tools=tools) | {"messages": messages}))
        calls = [f"call_{turn}_{number}" for number in range(most_calls if turn % 3 else 1 + turn)]
        thinking = {"type": "thinking", "thinking": f"thought {turn}", "signature": "s"}
        uses = [{"type": "tool_use", "id": call, "name": "a", "input": {"n": turn}} for call in calls]
        results = [{"type": "tool_result", "tool_use_id": call, "content": f"result of {call}"} for call in calls]
        messages += [{"role": "assistant", "content": [thinking, *uses]}, {"role": "user", "content": results}]
    return bodies


@pytest.mark.parametrize("runs_count_once", [True, False], ids=["positions", "blocks"])
def test_every_turn_of_a_long_agent_reads_all_that_was_cached_before(runs_count_once: bool) -> None:
    cache = PromptCache(WORDS, CacheSettings(tool_runs_are_one_position=runs_count_once))
    profile = resolve("claude-opus-5")
    expected = 0
    for turn, body in enumerate(agent_turns(30, 25)):
        result, _ = prepared(body)
        sent: Any = json.loads(json.dumps(result.body))
        request: Request = CLAUDE.decode_request(sent)
        assert claude_faults(sent) == []
        assert refusal(request, profile) is None
        ticket = cache.begin(request, profile, scope="me", now=float(turn))
        cache.started(ticket, now=float(turn))
        read, written = ticket.usage.cache_read_tokens, ticket.usage.cache_write_tokens
        assert read == expected
        assert read is not None
        assert written is not None
        assert written > 0
        expected = read + written


def test_without_the_plan_the_same_agent_reads_nothing() -> None:
    cache = PromptCache(WORDS)
    profile = resolve("claude-opus-5")
    for body in agent_turns(3, 25):
        ticket = cache.begin(CLAUDE.decode_request(body), profile, scope="me", now=0.0)
        cache.started(ticket, now=0.0)
        assert ticket.usage.cache_read_tokens == 0


def test_an_observer_may_prepare_another_body_also_with_the_same_memory() -> None:
    memory, seen = PromptMemory(), []

    def nested(event: Event) -> None:
        if not seen:
            seen.append(event)
            prepare(claude(LONG), CLAUDE, resolve, WORDS, observers=[seen.append], memory=memory)

    prepare(claude(LONG), CLAUDE, resolve, WORDS, observers=[nested], memory=memory)
    assert [type(event) for event in seen] == [PromptPlanned, PromptPlanned]


def test_threads_share_a_memory() -> None:
    memory = PromptMemory(limit=100)

    def send(number: int) -> list[Event]:
        return prepared(claude(f"{number} {LONG}"), memory=memory, now=float(number))[1]

    with ThreadPoolExecutor(8) as pool:
        events = [event for found in pool.map(send, range(400)) for event in found]
    assert {type(event) for event in events} == {PromptPlanned}
