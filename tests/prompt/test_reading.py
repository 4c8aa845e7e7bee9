"""Prompts read for planning: of one that goes on from one that was sent, only what is new is read, with the same result."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Level, Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt import reading as module
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.reading import Begun, Reading, Readings, read
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.words import WORDS

law = settings(max_examples=60)
every_format = pytest.mark.parametrize(
    ("dialect", "bodies"),
    [(AnthropicMessages(), CLAUDE_BODIES), (OpenAIChat(), CHAT_BODIES), (OpenAIResponses(), RESPONSES_BODIES)],
    ids=["claude", "chat", "responses"],
)
CLAUDE = AnthropicMessages()


def read_with(readings: Readings, request: Request) -> Reading:
    begun = readings.begun(request, resolve(request.model), WORDS, ordered=True)
    return read(request, resolve(request.model), WORDS, begun)


def anew(request: Request) -> Reading:
    return read(request, resolve(request.model), WORDS, Begun(Readings(), request.messages))


def shown(reading: Reading) -> object:
    return reading.blocks, reading.traits, reading.leading.opening


@every_format
def test_what_was_read_before_makes_no_difference(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        whole = dialect.decode_request(body)
        readings = Readings()
        for count in data.draw(st.lists(st.integers(0, len(whole.messages)), max_size=3)):
            readings.observe(read_with(readings, replace(whole, messages=whole.messages[:count])))
        assert shown(read_with(readings, dialect.decode_request(body))) == shown(anew(whole))

    check()


@every_format
def test_a_plan_does_not_depend_on_what_was_read_before(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.sampled_from(["mark", "canonical", "arrange"]))
    def check(body: dict[str, Any], level: Level) -> None:
        whole = dialect.decode_request(body)
        memory = PromptMemory()
        for number in range(1, len(whole.messages) + 1):
            request = replace(whole, messages=whole.messages[:number])
            profile = resolve(request.model)
            made = decide(request, profile, WORDS, level=level, snapshot=memory.snapshot(number))
            forgetful = memory.snapshot(number)
            forgetful.readings = Readings()
            assert decide(request, profile, WORDS, level=level, snapshot=forgetful).plan == made.plan
            if made.sighting is not None:
                memory.observe(made.sighting, number)

    check()


def conversation(*messages: dict[str, Any], **fields: Any) -> Request:
    return CLAUDE.decode_request({"model": "claude-opus-4-8", "max_tokens": 1, "messages": list(messages), **fields})


def call(arguments: dict[str, Any]) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "call_1", "name": "look_up", "input": arguments}
    return {"role": "assistant", "content": [use]}


QUESTION = {"role": "user", "content": "Where is my order?"}
ANSWER = {"role": "assistant", "content": "In the van."}


def test_only_what_is_new_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    since = list[int]()
    added = module.added_segments

    def watched(request: Request, first: int) -> object:
        if request.messages:
            since.append(first)
        return added(request, first)

    monkeypatch.setattr(module, "added_segments", watched)
    readings = Readings()
    for request in (conversation(QUESTION), conversation(QUESTION, ANSWER, QUESTION)):
        readings.observe(read_with(readings, request))

    assert since == [0, 1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(conversation(QUESTION), conversation(ANSWER, QUESTION), id="another message"),
        pytest.param(
            conversation(call({"a": 1, "b": 2})), conversation(call({"b": 2, "a": 1})), id="the order of keys"
        ),
        pytest.param(conversation(call({"a": 1})), conversation(call({"a": True})), id="a truth value"),
        pytest.param(conversation(call({"a": 1})), conversation(call({"a": 1.0})), id="a float"),
        pytest.param(
            conversation({"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
            conversation({"role": "user", "content": [{"type": "text", "text": "Hi", "citations": None}]}),
            id="a field",
        ),
        pytest.param(
            conversation({"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
            conversation(
                {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
            ),
            id="a marker",
        ),
        pytest.param(conversation(QUESTION, thinking={"type": "enabled"}), conversation(QUESTION), id="a setting"),
    ],
)
def test_what_differs_is_read_anew(before: Request, after: Request) -> None:
    readings = Readings()
    readings.observe(read_with(readings, before))

    assert shown(read_with(readings, after)) == shown(anew(after))
    assert shown(anew(after)) != shown(anew(before))


def test_a_bounded_number_of_blocks_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 3)
    readings = Readings()
    first, second = conversation(QUESTION, ANSWER), conversation(ANSWER, QUESTION)
    for request in (first, second):
        readings.observe(read_with(readings, request))

    assert readings.begun(first, resolve(first.model), WORDS, ordered=True).count == 0
    assert readings.begun(second, resolve(second.model), WORDS, ordered=True).count == 2


def test_of_a_conversation_the_latest_prompts_are_kept() -> None:
    readings = Readings()
    turns = [QUESTION, ANSWER, QUESTION, ANSWER, QUESTION]
    requests = [conversation(*turns[:count]) for count in (1, 3, 5)]
    for request in requests:
        readings.observe(read_with(readings, request))

    known = [readings.begun(each, resolve(each.model), WORDS, ordered=True).count for each in requests]
    assert known == [0, 3, 5]


def test_no_text_is_kept() -> None:
    memory = PromptMemory()
    tool = {"name": "look_up", "description": "The parcel of a secret", "input_schema": {"type": "object"}}
    request = conversation({"role": "user", "content": "A secret"}, system="Keep a secret", tools=[tool])
    made = decide(request, resolve(request.model), WORDS, snapshot=memory.snapshot(0.0))
    assert made.sighting is not None
    assert "secret" not in repr(made.sighting.reading)
