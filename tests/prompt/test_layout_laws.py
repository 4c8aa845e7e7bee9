"""Laws of the planner, over arbitrary bodies of every wire format."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Part, Request
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.layout import apply, plan
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.wire_rules import claude_faults, claude_markers, openai_faults, openai_markers
from tests.prompt.words import WORDS

FORMATS: list[tuple[Dialect, Any]] = [
    (AnthropicMessages(), CLAUDE_BODIES),
    (OpenAIChat(), CHAT_BODIES),
    (OpenAIResponses(), RESPONSES_BODIES),
]
LEVELS = st.sampled_from(["mark", "canonical"])
INFORMATIVE = {"below_minimum", "near_minimum", "unknown_model", "estimated_tokens", "no_cache", "volatile_text"}

every_format = pytest.mark.parametrize(("dialect", "bodies"), FORMATS, ids=lambda value: getattr(value, "name", ""))
law = settings(max_examples=120)


def laid_out(request: Request, level: str) -> Request:
    return apply(request, plan(request, resolve(request.model), WORDS, level=level))


def texts(request: Request) -> Iterator[str]:
    """Every block of the prompt as the provider gets it, but for markers and the order of tools."""
    yield from sorted(json.dumps(tool.raw, sort_keys=True) for tool in request.tools)
    yield from map(_block, request.system)
    for message in request.messages:
        yield json.dumps([message.role, dict(message.raw)])
        yield from map(_block, message.parts)


def _block(part: Part) -> str:
    return json.dumps([part.raw, part.text, part.call_id, [_block(inner) for inner in part.content]])


@every_format
def test_content_is_kept_in_order_and_only_tools_and_parallel_results_move(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, LEVELS)
    def check(body: dict[str, Any], level: str) -> None:
        request = dialect.decode_request(body)
        result = laid_out(request, level)
        kept = [row for row in texts(result) if not row.startswith('{"')]
        given_ = request if level == "mark" else replace(request, messages=results_in_call_order(request.messages))
        assert kept == [row for row in texts(given_) if not row.startswith('{"')]
        assert Counter(tool.name for tool in result.tools) == Counter(tool.name for tool in request.tools)
        assert [(message.role, len(message.parts)) for message in result.messages] == [
            (message.role, len(message.parts)) for message in given_.messages
        ]

    check()


@every_format
def test_level_mark_changes_markers_alone(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies)
    def check(body: dict[str, Any]) -> None:
        request = dialect.decode_request(body)
        result = laid_out(request, "mark")
        assert list(texts(result)) == list(texts(request))
        assert [tool.raw for tool in result.tools] == [tool.raw for tool in request.tools]
        settings = ("prompt_cache_options", "prompt_cache_retention", "prompt_cache_key")
        assert without(result.options, *settings) == without(request.options, *settings)

    check()


@every_format
def test_neither_the_body_nor_the_request_is_mutated(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, LEVELS)
    def check(body: dict[str, Any], level: str) -> None:
        before = copy.deepcopy(body)
        order = json.dumps(body)
        request = dialect.decode_request(body)
        copied = copy.deepcopy(request)
        dialect.encode_request(laid_out(request, level))
        assert body == before
        assert json.dumps(body) == order
        assert request == copied

    check()


@every_format
def test_planning_a_planned_request_changes_nothing(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, LEVELS)
    def check(body: dict[str, Any], level: str) -> None:
        request = dialect.decode_request(body)
        once = dialect.decode_request(dialect.encode_request(laid_out(request, level)))
        again = plan(once, resolve(once.model), WORDS, level=level)
        assert json.dumps(dialect.encode_request(apply(once, again))) == json.dumps(dialect.encode_request(once))
        assert {finding.code for finding in again.findings} <= INFORMATIVE

    check()


@law
@given(CLAUDE_BODIES, LEVELS)
def test_claude_refuses_nothing_we_send(body: dict[str, Any], level: str) -> None:
    dialect = AnthropicMessages()
    sent = dialect.encode_request(laid_out(dialect.decode_request(body), level))
    assert claude_faults(sent) == []
    assert len(claude_markers(sent)) <= 4


@pytest.mark.parametrize(("dialect", "bodies"), FORMATS[1:], ids=["chat", "responses"])
def test_openai_refuses_nothing_we_send(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, LEVELS)
    def check(body: dict[str, Any], level: str) -> None:
        profile = resolve(str(body["model"]))
        sent = dialect.encode_request(laid_out(dialect.decode_request(body), level))
        assert openai_faults(sent, markers=profile.regime == "breakpoints") == []
        explicit = (body.get("prompt_cache_options") or {}).get("mode") == "explicit"
        assert len(openai_markers(sent)) <= (4 if explicit else 3)

    check()


@every_format
def test_every_breakpoint_of_the_plan_stands_in_the_request_and_no_other(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, LEVELS)
    def check(body: dict[str, Any], level: str) -> None:
        request = dialect.decode_request(body)
        made = plan(request, resolve(request.model), WORDS, level=level)
        result = apply(request, made)
        assert sorted(_marked(result)) == sorted(str(row.at) for row in made.breakpoints if not row.automatic)
        assert result.marker is not None or not any(row.automatic for row in made.breakpoints)
        prefixes = [row.prefix_tokens for row in made.breakpoints]
        assert prefixes == sorted(prefixes)
        assert all(count <= made.prompt_tokens for count in prefixes)

    check()


def _marked(request: Request) -> Iterator[str]:
    yield from (f"tools[{index}]" for index, tool in enumerate(request.tools) if tool.marker)
    yield from (f"system[{index}]" for index, part in enumerate(request.system) if part.marker)
    for number, message in enumerate(request.messages):
        yield from _marked_parts(number, message)


def _marked_parts(number: int, message: Message) -> Iterator[str]:
    for index, part in enumerate(message.parts):
        if part.marker:
            yield f"messages[{number}].parts[{index}]"
        assert not any(inner.marker for inner in part.content)


@law
@given(CLAUDE_BODIES)
def test_tools_in_another_order_come_out_the_same(body: dict[str, Any]) -> None:
    tools = [{**tool, "name": f"{tool.get('name')}_{index}"} for index, tool in enumerate(body.get("tools") or [])]
    bare = [{key: value for key, value in tool.items() if key != "cache_control"} for tool in tools]
    dialect = AnthropicMessages()
    one = dialect.encode_request(laid_out(dialect.decode_request({**body, "tools": bare}), "canonical"))
    other = dialect.encode_request(laid_out(dialect.decode_request({**body, "tools": bare[::-1]}), "canonical"))
    assert json.dumps(one) == json.dumps(other)
