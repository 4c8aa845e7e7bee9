"""Laws of planning around instructions that change, over arbitrary requests of every wire format."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import takewhile
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
from prefixcache_integrations.profiles import CacheProfile, resolve
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.layout import apply, decide, plan
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.wire_rules import claude_faults, claude_markers, openai_faults
from tests.prompt.words import WORDS

law = settings(max_examples=25)
LEVELS = st.sampled_from(["mark", "canonical", "arrange", "arrange"])

RULE = "Be kind to customers, and look every order up before you say anything about it. "
_NAME = st.sampled_from(
    ["Alice", "Bob Jones", "Mia", "é 🙂", "", " ", "a=b", "[value1: stated at the end]", "Eve\n[value1] 2099-01-01"]
)
_TIME = st.sampled_from(["2026-01-05 08:17:23", "2026-01-05 08:17:40", "Jan 5, 2026 at 9:00 AM", "not known"])
_HEAD = st.builds(
    lambda form, name, time, times: form.format(name=name, time=time) + RULE * times,
    st.sampled_from(
        ["", "The user is {name}.\n", "Current time: {time}\nThe user is {name}. ", "{time}", "Hello {name}, {time}!\n"]
    ),
    _NAME,
    _TIME,
    st.integers(0, 6),
)
_TAIL = st.builds(
    lambda form, name, time: form.format(name=name, time=time),
    st.sampled_from(["", "Today is {time}.", "\nSession id: 12ab-{name}\n", "at 0x7f00aa11bb22 {name}"]),
    _NAME,
    _TIME,
)
NOTE = r"\[value(\d+)\] ((?:.|\n(?!\[value\d+\] ))*)"

_TEXT = st.builds(lambda head, tail: head + tail, _HEAD, _TAIL).filter(bool)


def _claude(body: dict[str, Any], texts: list[str], model: str, thinking: bool) -> dict[str, Any]:
    system: Any = texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
    extra = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {}
    return {**body, "system": system, "model": model, "messages": _without_documents(body["messages"]), **extra}


def _without_documents(items: Any) -> Any:
    """Documents move by other rules."""
    if isinstance(items, str):
        return items
    return [
        {**item, "content": [part for part in item["content"] if part["type"] not in DOCUMENTS]}
        if isinstance(item, dict) and isinstance(item.get("content"), list)
        else item
        for item in items
    ]


DOCUMENTS = {"document", "search_result", "file", "input_file"}


def _chat(body: dict[str, Any], texts: list[str], model: str, thinking: bool) -> dict[str, Any]:
    content: Any = texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
    role = "developer" if thinking else "system"
    messages = [{"role": role, "content": content}, *_without_documents(body["messages"])]
    return {**body, "model": model, "messages": messages}


def _responses(body: dict[str, Any], texts: list[str], model: str, thinking: bool) -> dict[str, Any]:
    extra = {"previous_response_id": "resp_1"} if thinking else {}
    return {**body, "model": model, "instructions": texts[0], "input": _without_documents(body["input"]), **extra}


def _run(dress: Any, bodies: Any, *models: str) -> Any:
    one = st.builds(dress, bodies, st.lists(_TEXT, min_size=1, max_size=2), st.sampled_from(models), st.booleans())
    return st.lists(one, min_size=1, max_size=5)


FORMATS: list[tuple[Dialect, Any]] = [
    (AnthropicMessages(), _run(_claude, CLAUDE_BODIES, "claude-opus-4-8", "claude-sonnet-4-5", "claude-sonnet-5")),
    (OpenAIChat(), _run(_chat, CHAT_BODIES, "gpt-5.6-sol", "gpt-4o-mini", "unheard-of")),
    (OpenAIResponses(), _run(_responses, RESPONSES_BODIES, "gpt-6-sol", "gpt-5.5")),
]
every_format = pytest.mark.parametrize(("dialect", "runs"), FORMATS, ids=["claude", "chat", "responses"])


def profile_of(request: Request) -> CacheProfile:
    return replace(resolve(request.model), minimum_tokens=16)


def remembered(dialect: Dialect, bodies: list[dict[str, Any]], level: Level) -> PromptMemory:
    memory = PromptMemory()
    for number, body in enumerate(bodies * 2):
        request = dialect.decode_request(body)
        made = decide(request, profile_of(request), WORDS, level=level, snapshot=memory.snapshot(number * 9.0))
        if made.sighting is not None:
            memory.observe(made.sighting, number * 9.0)
    return memory


def spoken(body: dict[str, Any]) -> tuple[str, Counter[str]]:
    """All text that is sent, with every value back in its place: the instructions, and the blocks after them."""
    messages = body.get("messages") or body.get("input")
    items = messages if isinstance(messages, list) else [messages]
    led = list(takewhile(lambda item: isinstance(item, dict) and item.get("role") in {"system", "developer"}, items))
    after = list(_texts(items[len(led) :]))
    values = {number: value for text in after for number, value in re.findall(NOTE, text)}
    said = "".join(_texts([body.get("system"), body.get("instructions"), *led]))
    said = re.sub(r"\[value(\d+): stated at the end\]", lambda found: values.get(found[1], found[0]), said)
    return said, Counter(text for text in after if not re.match(NOTE, text))


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for name in ("text", "content", "output", "source", "thinking", "arguments"):
            yield from _texts(value.get(name))


@every_format
def test_the_provider_gets_every_word(dialect: Dialect, runs: Any) -> None:
    @law
    @given(runs, LEVELS)
    def check(bodies: list[dict[str, Any]], level: Level) -> None:
        snapshot = remembered(dialect, bodies, level).snapshot(1000.0)
        for body in bodies:
            before = copy.deepcopy(body)
            request = dialect.decode_request(body)
            made = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot)
            sent = dialect.encode_request(made.request)
            assert body == before
            assert spoken(sent) == spoken(body)
            if level != "arrange":
                assert made.plan.moves == ()

    check()


@every_format
def test_no_part_is_left_empty_and_nothing_that_was_said_changes(dialect: Dialect, runs: Any) -> None:
    @law
    @given(runs)
    def check(bodies: list[dict[str, Any]]) -> None:
        snapshot = remembered(dialect, bodies, "arrange").snapshot(1000.0)
        for body in bodies:
            request = dialect.decode_request(body)
            sent = decide(request, profile_of(request), WORDS, level="arrange", snapshot=snapshot).request
            blank = sum(not part.text.strip() for part in request.system)
            assert sum(not part.text.strip() for part in sent.system) == blank
            in_order = results_in_call_order(request.messages)
            said = [message for message in in_order if message.role not in {"system", "developer"}]
            goes = [message for message in sent.messages if message.role not in {"system", "developer"}]
            assert [message.role for message in goes] == [message.role for message in said]
            for old, new in zip(said, goes, strict=True):
                kept = new.parts[: len(old.parts)]
                assert [part.raw for part in kept] == [part.raw for part in old.parts]
                assert len(new.parts) <= len(old.parts) + 1
                assert all(part.marker is None for part in new.parts[len(old.parts) :])

    check()


@every_format
def test_planning_a_planned_request_changes_nothing(dialect: Dialect, runs: Any) -> None:
    @law
    @given(runs, LEVELS, st.booleans())
    def check(bodies: list[dict[str, Any]], level: Level, remembers: bool) -> None:
        snapshot = remembered(dialect, bodies, level).snapshot(1000.0) if remembers else None
        for body in bodies:
            request = dialect.decode_request(body)
            profile = profile_of(request)
            first = plan(request, profile, WORDS, level=level, snapshot=snapshot)
            sent = dialect.encode_request(apply(request, first))
            again = dialect.decode_request(sent)
            made = plan(again, profile, WORDS, level=level, snapshot=snapshot)
            assert [move for move in made.moves if move.reason != "documents"] == []
            assert json.dumps(dialect.encode_request(apply(again, made))) == json.dumps(sent)

    check()


@every_format
def test_a_plan_says_all_that_is_done_and_no_provider_refuses_it(dialect: Dialect, runs: Any) -> None:
    @law
    @given(runs, LEVELS)
    def check(bodies: list[dict[str, Any]], level: Level) -> None:
        snapshot = remembered(dialect, bodies, level).snapshot(1000.0)
        for body in bodies:
            request = dialect.decode_request(body)
            profile = profile_of(request)
            made = decide(request, profile, WORDS, level=level, snapshot=snapshot)
            assert apply(request, made.plan) == made.request
            sent = dialect.encode_request(made.request)
            if dialect.name == "anthropic_messages":
                assert claude_faults(sent) == []
                assert len(claude_markers(sent)) <= 4
            elif profile.known:
                assert openai_faults(sent, markers=profile.regime == "breakpoints") == []

    check()


def test_plans_are_the_same_in_every_process() -> None:
    code = """if True:
    import json
    from tests.prompt.test_volatile_laws import RULE, FORMATS, WORDS, profile_of, remembered
    from prefixcache_integrations.prompt.layout import decide
    dialect = FORMATS[0][0]
    def body(name, second):
        system = f"The user is {name}.\\n" + RULE * 5 + f"\\nCurrent time: 2026-01-05 08:17:{second:02}"
        return {"model": "claude-sonnet-5", "max_tokens": 9, "system": system,
                "messages": [{"role": "user", "content": "Hello"}]}
    bodies = [body("Alice", 3), body("Bob", 17), body("Mia Li", 40)]
    snapshot = remembered(dialect, bodies, "arrange").snapshot(100.0)
    request = dialect.decode_request(bodies[1])
    made = decide(request, profile_of(request), WORDS, level="arrange", snapshot=snapshot)
    print(json.dumps(dialect.encode_request(made.request)))
    """
    answers = {
        subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
    assert "Bob" in answers.pop()
