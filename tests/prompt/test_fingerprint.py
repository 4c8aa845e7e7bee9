from __future__ import annotations

from itertools import takewhile

import pytest

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.fingerprint import canonical_json, prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segments import segments

IMAGE = {"type": "image", "source": {"type": "url", "url": "u"}}


def claude(*texts: str, **fields: object) -> Request:
    content = [{"type": "text", "text": text} for text in texts or ("hi",)]
    tool = {"name": "a", "input_schema": {"type": "object"}}
    body = {
        "model": "claude-opus-5",
        "tools": [tool],
        "system": "rules",
        "messages": [{"role": "user", "content": content}],
    }
    return AnthropicMessages().decode_request({**body, **fields})


def chat(**fields: object) -> Request:
    return OpenAIChat().decode_request({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **fields})


def digests(request: Request) -> tuple[bytes, ...]:
    return prefix_digests(segments(request), tier_seeds(request, resolve(request.model)))


def shared(one: Request, other: Request) -> int:
    """How many segments the two have in common from the start."""
    pairs = zip(digests(one), digests(other), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def test_prefixes_are_shared_up_to_the_first_difference() -> None:
    assert shared(claude("a", "b", "c"), claude("a", "b", "c", "d")) == 5
    assert shared(claude("a", "b", "c"), claude("a", "x", "c")) == 3
    assert shared(claude(), claude(system="other")) == 1


def test_two_blocks_are_not_one_block_of_their_texts() -> None:
    assert shared(claude("a", "b"), claude("ab")) == 2


def test_another_model_shares_nothing() -> None:
    assert shared(claude(), claude(model="claude-sonnet-5")) == 0


@pytest.mark.parametrize(
    ("fields", "common"),
    [
        ({"tool_choice": {"type": "any"}}, 2),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, 2),
        ({"thinking": {"type": "adaptive"}}, 2),
        ({"output_config": {"effort": "low"}}, 2),
        ({"speed": "fast"}, 0),
        ({"max_tokens": 5, "temperature": 0.5, "stream": True, "metadata": {"user_id": "u"}}, 3),
        ({"tool_choice": {"type": "auto"}}, 3),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}, 3),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}, "speed": "standard"}, 3),
        ({"tool_choice": None}, 3),
    ],
)
def test_a_claude_setting_loses_the_cache_from_its_tier_on(fields: dict[str, object], common: int) -> None:
    assert shared(claude(), claude(**fields)) == common


def test_an_image_anywhere_loses_the_messages_of_claude() -> None:
    def turn(*more: object) -> Request:
        return claude(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}, *more]}])

    result = {"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}
    assert shared(turn(), turn(IMAGE)) == 2
    assert shared(turn(), turn(result)) == 2
    assert shared(turn(IMAGE), turn(IMAGE, IMAGE)) == 4


def test_markers_change_no_digest() -> None:
    marked = claude(
        cache_control={"type": "ephemeral"},
        system=[{"type": "text", "text": "rules", "cache_control": {"type": "ephemeral"}}],
    )
    assert digests(claude()) == digests(marked)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"response_format": {"type": "json_object"}}, False),
        ({"response_format": {"type": "text"}}, True),
        ({"parallel_tool_calls": False}, False),
        ({"parallel_tool_calls": True}, True),
        ({"verbosity": "low"}, False),
        ({"reasoning_effort": "low"}, False),
        ({"tool_choice": "none", "temperature": 1, "seed": 3}, True),
    ],
)
def test_an_openai_setting_that_is_rendered_loses_everything(fields: dict[str, object], same: bool) -> None:
    assert (shared(chat(), chat(**fields)) > 0) is same


def test_defaults_inside_a_field_count_as_left_out() -> None:
    def seeds(**fields: object) -> object:
        request = OpenAIResponses().decode_request({"model": "gpt-5.4", "input": "hi", **fields})
        return tier_seeds(request, resolve("gpt-5.4"))

    assert seeds(text={"format": {"type": "text"}, "verbosity": "medium"}) == seeds()
    assert seeds(text={"format": {"type": "text"}, "verbosity": "low"}) == seeds(text={"verbosity": "low"}) != seeds()


def test_a_tier_without_segments_still_counts_for_those_after_it() -> None:
    def bare(**fields: object) -> Request:
        return claude(tools=[], system=[], **fields)

    assert shared(bare(), bare(speed="fast")) == 0


def test_canonical_json_knows_no_key_order() -> None:
    assert canonical_json({"b": [1, {"d": 2, "c": 3}], "a": "é"}) == '{"a":"é","b":[1,{"c":3,"d":2}]}'.encode()
    for value in (float("inf"), {1: {2}}, "\ud800", {"a": 1, 2: 3}):
        with pytest.raises(MalformedRequest):
            canonical_json(value)
