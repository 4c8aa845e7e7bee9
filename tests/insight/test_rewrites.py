"""What was done to a prompt that was cached, whatever the conversation."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Finding
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.insight.diagnosis import explain
from prefixcache_integrations.insight.rewrites import CHANGES, rewrite
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()
MODEL = "claude-opus-4-8"
law = settings(max_examples=40)


def turn(number: int, words: int, *, calls_tools: bool) -> list[dict[str, Any]]:
    said = f"turn {number} " * words
    if not calls_tools:
        return [{"role": "assistant", "content": said}, {"role": "user", "content": f"and {said}"}]
    use = {"type": "tool_use", "id": f"call_{number}", "name": "track", "input": {"order": str(number)}}
    result = {"type": "tool_result", "tool_use_id": f"call_{number}", "content": said}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]


@st.composite
def conversations(draw: Any, *, calls_tools: bool | None = None) -> dict[str, Any]:
    kinds = st.booleans() if calls_tools is None else st.just(calls_tools)
    turns = draw(st.lists(st.tuples(st.integers(20, 60), kinds), min_size=4, max_size=7))
    messages = [{"role": "user", "content": "the very first question"}]
    for number, (words, with_tools) in enumerate(turns):
        messages += turn(number, words, calls_tools=with_tools)
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("cancel", "track")]
    return {
        "model": MODEL,
        "max_tokens": 1,
        "system": "instruction " * 1500,
        "tools": tools,
        "messages": messages,
    }


def found(before: dict[str, Any], after: dict[str, Any]) -> Finding | None:
    profile = resolve(MODEL)
    made = [decide(CLAUDE.decode_request(body), profile, WORDS) for body in (before, after)]
    previous, current = (each.request for each in made)
    said = explain(previous, current, profile=profile, tokenizer=WORDS)
    finding = rewrite(previous, current, said, profile, made[1].plan.prompt_tokens)
    if finding is not None:
        assert finding.code in CHANGES
        assert finding.tokens == said.lost_tokens > 0
        assert finding.cost is not None
        assert 0 <= finding.cost <= finding.tokens * (1.25 - 0.1) + 1e-6
        assert finding.remedies
        assert "turn" not in finding.message
        assert "instruction " not in finding.message
    return finding


def code(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    finding = found(before, after)
    return None if finding is None else finding.code


def later(body: dict[str, Any]) -> dict[str, Any]:
    after = copy.deepcopy(body)
    after["messages"] += turn(99, 30, calls_tools=False)
    return after


@law
@given(conversations())
def test_what_only_adds_is_no_change(body: dict[str, Any]) -> None:
    assert found(body, later(body)) is None


@law
@given(conversations(), st.data())
def test_earlier_messages_that_are_gone_are_dropped(body: dict[str, Any], data: Any) -> None:
    after = later(body)
    count = data.draw(st.integers(1, (len(body["messages"]) - 3) // 2)) * 2
    del after["messages"][:count]
    assert code(body, after) == "history_shortened"


@law
@given(conversations(), st.data())
def test_fewer_messages_in_the_place_of_earlier_ones_sum_them_up(body: dict[str, Any], data: Any) -> None:
    after = later(body)
    count = data.draw(st.integers(2, (len(body["messages"]) - 3) // 2)) * 2
    after["messages"][: count + 1] = [{"role": "user", "content": "a summary of what was said"}]
    assert code(body, after) == "history_summarised"


@law
@given(conversations(calls_tools=True), st.data())
def test_results_cut_down_in_their_place_are_cleared(body: dict[str, Any], data: Any) -> None:
    after = later(body)
    results = range(2, len(body["messages"]) - 2, 2)
    for index in data.draw(st.sets(st.sampled_from(results), min_size=1)):
        after["messages"][index]["content"][0]["content"] = "[cleared]"
    assert code(body, after) == "history_cleared"


@law
@given(conversations(calls_tools=False), st.data())
def test_any_other_change_to_an_earlier_message_is_a_rewrite(body: dict[str, Any], data: Any) -> None:
    after = later(body)
    index = data.draw(st.integers(1, len(body["messages"]) - 3))
    after["messages"][index]["content"] = "quite another " + after["messages"][index]["content"]
    assert code(body, after) == "history_rewritten"


@law
@given(conversations(), st.sampled_from(["added", "removed", "changed", "swapped", "rewritten"]))
def test_tools_are_named_that_came_went_or_changed(body: dict[str, Any], how: str) -> None:
    after = later(body)
    tools = after["tools"]
    if how in ("added", "swapped"):
        tools.append({"name": "refund", "input_schema": {"type": "object"}})
    if how in ("removed", "swapped"):
        del tools[0]
    if how == "changed":
        tools[1]["description"] = "Says where a parcel is."
    if how == "rewritten":
        tools[0] = dict(reversed(tools[0].items()))
        tools.reverse()
        assert found(body, after) is None, "tools are a set, and their keys too"
        return
    finding = found(body, after)
    assert finding is not None
    assert finding.code == "tools_changed"
    named = {"added": ", added: refund", "removed": ", removed: cancel", "changed": ", changed: track"}
    expected = named.get(how) or ", removed: cancel, added: refund"
    assert finding.message.startswith(f"the tools changed{expected}: ")


@law
@given(conversations())
def test_instructions_that_changed_are_found_and_say_how_to_add_some_instead(body: dict[str, Any]) -> None:
    after = later(body)
    after["system"] += " It is noon."
    finding = found(body, after)
    assert finding is not None
    assert finding.code == "system_changed"
    assert "role system" in finding.remedies[0]
