"""Laws of planning with a memory, over runs of requests that share documents."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Level, Part, Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import CacheProfile, resolve
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.layout import apply, decide, plan
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.wire_rules import claude_faults, claude_markers
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()
law = settings(max_examples=50)
LEVELS = st.sampled_from(["mark", "canonical", "arrange"])


def profile_of(request: Request) -> CacheProfile:
    """The model's own rules, with a minimum that short texts reach."""
    return replace(resolve(request.model), minimum_tokens=64)


def document(number: int, form: str = "document") -> dict[str, Any]:
    text = f"document {number} " + "word " * (15 + 4 * number)
    if form == "text":
        return {"type": "text", "text": f'<document index="{number}">{text}</document>'}
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}


_MARKER = st.sampled_from([None, None, None, None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
_DOCUMENT = st.builds(
    lambda number, form, marker: document(number, form) | ({"cache_control": marker} if marker else {}),
    st.integers(0, 6),
    st.sampled_from(["document", "document", "text"]),
    _MARKER,
)
_SAID = st.builds(lambda number: {"type": "text", "text": f"question {number}"}, st.integers(0, 3))
_USER = st.builds(
    lambda before, said, after: {"role": "user", "content": [*before, said, *after]},
    st.lists(_DOCUMENT, max_size=5),
    _SAID,
    st.lists(_DOCUMENT, max_size=2),
)
_RESULT = st.builds(
    lambda number, documents: {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": f"call_{number}", "content": "found"}, *documents],
    },
    st.integers(0, 2),
    st.lists(_DOCUMENT, max_size=2),
)
_ASSISTANT = st.builds(lambda number: {"role": "assistant", "content": f"answer {number}"}, st.integers(0, 2))


def _body(system: int, turns: list[Any], last: Any) -> dict[str, Any]:
    messages = [message for turn in turns for message in turn]
    return {
        "model": "claude-opus-4-8",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "instruction " * system}],
        "messages": [*messages, last],
    }


LOOKED_UP = st.builds(
    _body,
    st.sampled_from([1, 1, 90]),
    st.lists(st.tuples(st.one_of(_USER, _RESULT), _ASSISTANT), max_size=3),
    st.one_of(_USER, _USER, _RESULT),
)
RUNS = st.lists(LOOKED_UP, min_size=2, max_size=7)


def remembered(dialect: Dialect, bodies: list[dict[str, Any]], level: Level, *, times: int = 5) -> PromptMemory:
    memory = PromptMemory()
    for number, body in enumerate(bodies * times):
        request = dialect.decode_request(body)
        profile = profile_of(request)
        made = decide(request, profile, WORDS, level=level, snapshot=memory.snapshot(number * 10.0))
        if made.sighting is not None:
            memory.observe(made.sighting, number * 10.0)
    return memory


def content(request: Request) -> Counter[str]:
    return Counter(json.dumps([message.role, part.raw]) for message in request.messages for part in message.parts)


def others(request: Request) -> list[tuple[int, str]]:
    """Every block of the conversation that is no document, with its message."""
    return [
        (number, json.dumps(part.raw))
        for number, message in enumerate(request.messages)
        for part in message.parts
        if not _looks_like_a_document(part)
    ]


def _looks_like_a_document(part: Part) -> bool:
    return part.kind == "document" or part.text.startswith("<document")


@law
@given(RUNS, LEVELS)
def test_documents_alone_move_and_nothing_is_lost(bodies: list[dict[str, Any]], level: Level) -> None:
    snapshot = remembered(CLAUDE, bodies, level).snapshot(1000.0)
    request = CLAUDE.decode_request(bodies[0])
    before = copy.deepcopy(request)
    rules = DocumentRules(drop_copies=False)
    result = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot, documents=rules).request
    assert content(result) == content(request)
    assert others(result) == others(request)
    assert request == before
    assert all(message.parts for message in result.messages)
    if level != "arrange":
        assert [[part.raw for part in message.parts] for message in result.messages] == [
            [part.raw for part in message.parts] for message in request.messages
        ]


@law
@given(RUNS, LEVELS)
def test_planning_a_planned_request_changes_nothing_for_one_snapshot(
    bodies: list[dict[str, Any]], level: Level
) -> None:
    snapshot = remembered(CLAUDE, bodies, level).snapshot(1000.0)
    for body in bodies:
        request = CLAUDE.decode_request(body)
        profile = profile_of(request)
        sent = CLAUDE.encode_request(decide(request, profile, WORDS, level=level, snapshot=snapshot).request)
        again = CLAUDE.decode_request(sent)
        made = plan(again, profile, WORDS, level=level, snapshot=snapshot)
        assert made.moves == ()
        assert json.dumps(CLAUDE.encode_request(apply(again, made))) == json.dumps(sent)


@law
@given(RUNS, LEVELS)
def test_a_plan_says_all_that_is_done(bodies: list[dict[str, Any]], level: Level) -> None:
    snapshot = remembered(CLAUDE, bodies, level).snapshot(1000.0)
    for body in bodies:
        request = CLAUDE.decode_request(body)
        made = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot)
        assert apply(request, made.plan) == made.request
        sent = CLAUDE.encode_request(made.request)
        assert claude_faults(sent) == []
        assert len(claude_markers(sent)) <= 4


@pytest.mark.parametrize(
    ("dialect", "bodies"),
    [(CLAUDE, CLAUDE_BODIES), (OpenAIChat(), CHAT_BODIES), (OpenAIResponses(), RESPONSES_BODIES)],
    ids=["claude", "chat", "responses"],
)
def test_planning_twice_with_a_memory_changes_nothing_for_any_body(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(st.lists(bodies, min_size=1, max_size=3), LEVELS)
    def check(run: list[dict[str, Any]], level: Level) -> None:
        snapshot = remembered(dialect, run, level).snapshot(1000.0)
        request = dialect.decode_request(run[0])
        profile = profile_of(request)
        sent = dialect.encode_request(decide(request, profile, WORDS, level=level, snapshot=snapshot).request)
        again = dialect.decode_request(sent)
        made = decide(again, profile, WORDS, level=level, snapshot=snapshot)
        assert json.dumps(dialect.encode_request(made.request)) == json.dumps(sent)

    check()


@law
@given(RUNS, LEVELS)
def test_a_request_that_was_just_sent_is_sent_again_as_it_was(bodies: list[dict[str, Any]], level: Level) -> None:
    memory = remembered(CLAUDE, bodies, level, times=2)
    for number, body in enumerate(bodies):
        now = 1000.0 + 100 * number
        given = CLAUDE.decode_request(body)
        sent = [given]
        for each in (given, None, given):
            request = each or CLAUDE.decode_request(CLAUDE.encode_request(sent[-1]))
            made = decide(request, profile_of(request), WORDS, level=level, snapshot=memory.snapshot(now))
            assert made.sighting is not None
            memory.observe(made.sighting, now)
            sent.append(made.request)
        assert len({json.dumps(CLAUDE.encode_request(request)) for request in sent[1:]}) == 1


_PROGRAM = """
from tests.prompt.test_foresight_laws import CLAUDE, WORDS, document, profile_of, remembered
from prefixcache_integrations.prompt.layout import decide
import json
def body(numbers):
    said = {"type": "text", "text": "question " + str(numbers)}
    content = [*map(document, numbers), said]
    return {"model": "claude-opus-4-8", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
bodies = [body(numbers) for numbers in ([1, 2, 3, 4], [4, 2, 3, 1, 5], [2, 4, 6, 3, 1], [1, 4, 3, 2, 0])]
snapshot = remembered(CLAUDE, bodies, "arrange", times=20).snapshot(1000.0)
request = CLAUDE.decode_request(body([6, 1, 0, 2, 4, 3]))
made = decide(request, profile_of(request), WORDS, level="arrange", snapshot=snapshot)
print(len(made.plan.moves), json.dumps(CLAUDE.encode_request(made.request)))
"""


def test_every_process_plans_the_same() -> None:
    outputs = {
        subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", _PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "42")
    }
    assert len(outputs) == 1
    assert not outputs.pop().startswith("0 ")
