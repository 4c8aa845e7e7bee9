from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from prefixcache_integrations.canonical import Address, PromptPlan
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime
from prefixcache_integrations.prompt.layout import apply, plan
from tests.prompt.wire_rules import claude_faults, claude_markers, openai_faults, openai_markers
from tests.prompt.words import WORDS, Words

CLAUDE = AnthropicMessages()
CHAT = OpenAIChat()
RESPONSES = OpenAIResponses()
LONG = "word " * 6000
FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
EXPLICIT = {"mode": "explicit"}


def text(words: str, **fields: object) -> dict[str, object]:
    return {"type": "text", "text": words, **fields}


def tool(name: str, **fields: object) -> dict[str, object]:
    return {"name": name, "description": LONG, "input_schema": {"type": "object"}, **fields}


def user(*content: object) -> dict[str, object]:
    return {"role": "user", "content": list(content)}


def assistant(*content: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(content)}


def claude(*messages: dict[str, object], **fields: object) -> dict[str, Any]:
    return {"model": "claude-opus-4-6", "max_tokens": 9, "messages": list(messages or [user(text(LONG))]), **fields}


def laid_out(body: dict[str, Any], dialect: Dialect = CLAUDE, **settings: Any) -> tuple[dict[str, Any], PromptPlan]:
    request = dialect.decode_request(body)
    profile = settings.pop("profile", resolve(request.model))
    made = plan(request, profile, settings.pop("tokenizer", WORDS), **settings)
    return dialect.encode_request(apply(request, made)), made


def sent(body: dict[str, Any], **settings: Any) -> list[str]:
    """The paths of the markers that go to Claude, once they have been checked against its rules."""
    result, _ = laid_out(body, **settings)
    assert claude_faults(result) == []
    return claude_markers(result)


def codes(made: PromptPlan) -> list[str]:
    return [finding.code for finding in made.findings]


# Where markers go


def test_tools_system_anchor_and_tail_are_marked() -> None:
    turns = [user(text("question")), assistant(text("answer")), user(text("and then"), text("what?"))]
    body = claude(*turns, tools=[tool("a"), tool("b")], system="rules")
    result, made = laid_out(body)
    assert claude_markers(result) == ["tools.1", "system.0", "messages.0.content.0", "messages.2.content.1"]
    assert [row.reason for row in made.breakpoints] == ["tools", "system", "anchor", "tail"]
    assert all(row.ours and row.ttl is None for row in made.breakpoints)
    assert result["system"] == [text("rules", cache_control=FIVE)]


def test_prefix_tokens_count_everything_up_to_the_marked_block() -> None:
    body = claude(user(text(LONG), text("two words")), system=LONG)
    _, made = laid_out(body)
    assert [(str(row.at), row.prefix_tokens) for row in made.breakpoints] == [
        ("system[0]", 6000),
        ("messages[0].parts[0]", 12000),
        ("messages[0].parts[1]", 12002),
    ]
    assert made.prompt_tokens == 12002


@pytest.mark.parametrize("turn", [[user(text(LONG), text("q"))], [user(text(LONG)), user(text("q"))]])
def test_what_stands_before_a_question_is_marked_too(turn: list[dict[str, object]]) -> None:
    _, made = laid_out(claude(*turn))
    assert [(row.reason, row.prefix_tokens) for row in made.breakpoints] == [("lead", 6000), ("tail", 6001)]


def test_between_the_results_of_tools_there_is_no_marker() -> None:
    called = assistant({"type": "tool_use", "id": "a", "name": "a", "input": {}})
    result = {"type": "tool_result", "tool_use_id": "a", "content": LONG}
    _, made = laid_out(claude(user(text(LONG)), called, user(result, text("Go on."))))
    assert [row.reason for row in made.breakpoints] == ["anchor", "tail"]


def test_the_anchor_of_a_request_is_the_tail_of_the_one_before() -> None:
    calls = [{"type": "tool_use", "id": f"c{n}", "name": "a", "input": {}} for n in range(25)]
    results = [{"type": "tool_result", "tool_use_id": f"c{n}", "content": "found"} for n in range(25)]
    first = claude(user(text("do it")), system=LONG)
    second = claude(
        user(text("do it")),
        assistant({"type": "thinking", "thinking": "t", "signature": "s"}, *calls),
        user(*results),
        system=LONG,
    )
    tail = laid_out(first)[1].breakpoints[-1]
    anchor = laid_out(second)[1].breakpoints[-2]
    assert (tail.reason, anchor.reason) == ("tail", "anchor")
    assert (tail.at, tail.prefix_tokens) == (anchor.at, anchor.prefix_tokens)


def test_the_anchor_lies_before_a_whole_run_of_assistant_messages() -> None:
    turns = [user(text("q")), assistant(text("one")), assistant(text("two")), user(text("q2"))]
    assert "messages.0.content.0" in sent(claude(*turns, system=LONG))


def test_an_answer_begun_for_the_model_keeps_the_question_as_anchor() -> None:
    _, made = laid_out(claude(user(text("q")), assistant(text("The answer is")), system=LONG))
    assert [row.reason for row in made.breakpoints] == ["system", "anchor", "tail"]


@pytest.mark.parametrize(
    "last",
    [
        user(text("question"), text("")),
        user(text("question"), text(" \n")),
        assistant(text("question"), {"type": "thinking", "thinking": "t", "signature": "s"}),
        assistant(text("question"), {"type": "redacted_thinking", "data": "d"}),
    ],
)
def test_the_tail_walks_back_to_a_block_that_can_be_marked(last: dict[str, object]) -> None:
    assert sent(claude(last, system=LONG))[-1] == "messages.0.content.0"


def test_the_tail_walks_back_over_messages() -> None:
    thinking = {"type": "redacted_thinking", "data": "d"}
    assert sent(claude(user(text(LONG)), assistant(thinking))) == ["messages.0.content.0"]


def test_the_last_tool_that_can_be_marked_is() -> None:
    assert sent(claude(tools=[tool("a"), tool("b", defer_loading=True)]))[0] == "tools.0"


# Minimum


def test_a_place_below_the_minimum_is_left_out() -> None:
    body = claude(user(text(LONG)), system="short")
    assert sent(body) == ["messages.0.content.0"]


def test_a_prompt_below_the_minimum_says_how_far() -> None:
    result, made = laid_out(claude(user(text("word " * 3000)), system="rules"))
    assert claude_markers(result) == []
    (finding,) = made.findings
    assert (finding.code, finding.tokens) == ("below_minimum", 1095)
    assert finding.message == "1095 tokens short of this model's minimum of 4096"


@pytest.mark.parametrize(("words", "missing"), [(3277, 819), (4094, 2), (4095, 1)])
def test_a_prompt_inside_the_uncertainty_is_marked_and_said_to_be(words: int, missing: int) -> None:
    result, made = laid_out(claude(user(text("word " * words))))
    assert claude_markers(result) == ["messages.0.content.0"]
    assert [(finding.code, finding.tokens) for finding in made.findings] == [("near_minimum", missing)]


def test_a_prompt_that_reaches_the_minimum_by_our_count_needs_no_remark() -> None:
    assert laid_out(claude(user(text("word " * 4096))))[1].findings == ()
    assert codes(laid_out(claude(user(text("word " * 3276))))[1]) == ["below_minimum"]


def test_an_estimate_widens_the_uncertainty_and_is_said_to_be_one() -> None:
    made = laid_out(claude(user(text("word " * 3000))), tokenizer=Words(exact=False))[1]
    assert not made.exact
    assert codes(made) == ["estimated_tokens", "near_minimum"]
    near = laid_out(claude(user(text("word " * 5000))), tokenizer=Words(exact=False))[1]
    assert codes(near) == ["estimated_tokens", "near_minimum"]


def test_a_marker_of_the_application_below_the_minimum_is_harmless_and_stays() -> None:
    body = claude(user(text(LONG)), system=[text("short", cache_control=FIVE)])
    assert sent(body) == ["system.0", "messages.0.content.0"]


def test_but_it_gives_way_to_a_place_that_pays() -> None:
    small = [{"name": name, "input_schema": {}, "cache_control": FIVE} for name in "abcd"]
    body = claude(user(text(LONG)), assistant(text("a")), user(text("b")), tools=small, system=LONG)
    assert sent(body) == ["tools.3", "system.0", "messages.0.content.0", "messages.2.content.0"]


# Markers of the application


def test_five_markers_become_four_and_say_so() -> None:
    blocks = [text(LONG, cache_control=FIVE) for _ in range(5)]
    result, made = laid_out(claude(user(*blocks)))
    assert claude_markers(result) == [f"messages.0.content.{index}" for index in (1, 2, 3, 4)]
    assert [(finding.code, str(finding.at)) for finding in made.findings] == [
        ("marker_removed", "messages[0].parts[0]")
    ]


def test_static_markers_of_the_application_come_before_its_later_ones() -> None:
    turns = [user(*(text("a", cache_control=FIVE) for _ in range(3))), assistant(text("b")), user(text("c"))]
    body = claude(*turns, system=[text(LONG, cache_control=FIVE), text("more")])
    assert sent(body) == ["system.0", "messages.0.content.1", "messages.0.content.2", "messages.2.content.0"]


def test_markers_of_the_application_keep_their_fields() -> None:
    body = claude(user(text(LONG, cache_control=HOUR)))
    result, made = laid_out(body)
    assert result["messages"] == body["messages"]
    assert [(row.ttl, row.ours, row.reason) for row in made.breakpoints] == [("1h", False, "tail")]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "t", "signature": "s", "cache_control": FIVE},
        {"type": "redacted_thinking", "data": "d", "cache_control": FIVE},
        text("", cache_control=FIVE),
    ],
)
def test_a_marker_that_claude_refuses_is_removed_and_said_to_be(block: dict[str, object]) -> None:
    body = claude(user(text(LONG)), assistant(block, text("answer")))
    assert claude_faults(body) != []
    result, made = laid_out(body)
    assert claude_faults(result) == []
    assert [(finding.code, finding.at) for finding in made.findings if finding.at] == [
        ("marker_removed", Address("messages", 1, 0))
    ]


def test_a_marker_on_a_deferred_tool_is_removed() -> None:
    body = claude(tools=[tool("a"), tool("b", defer_loading=True, cache_control=FIVE)])
    result, made = laid_out(body)
    assert claude_faults(result) == []
    assert "marker_removed" in codes(made)


def result_of(*content: object, **fields: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "1", "content": list(content), **fields}


def test_a_marker_on_the_last_nested_block_moves_to_the_block_around_it() -> None:
    body = claude(user(result_of(text(LONG), text("b", cache_control=HOUR)), text("q")))
    result, made = laid_out(body)
    assert result["messages"][0]["content"][0] == result_of(text(LONG), text("b"), cache_control=HOUR)
    assert codes(made) == ["marker_moved"]


@pytest.mark.parametrize(
    "block",
    [
        result_of(text(LONG, cache_control=FIVE), text("b")),
        result_of(text(LONG), text("b", cache_control=FIVE), cache_control=HOUR),
        {"type": "document", "source": {"type": "content", "content": [text(LONG, cache_control=FIVE), text("b")]}},
    ],
)
def test_other_nested_markers_are_removed(block: dict[str, object]) -> None:
    result, made = laid_out(claude(user(block, text("q"))))
    assert claude_faults(result) == []
    assert codes(made) == ["marker_removed"]
    assert "cache_control" not in json.dumps(result["messages"][0]["content"][0].get("content", []))


# Lifetimes


def ttls(body: dict[str, Any]) -> list[str | None]:
    return [row.ttl for row in laid_out(body)[1].breakpoints]


def test_a_longer_lifetime_after_a_shorter_one_is_lowered() -> None:
    body = claude(user(text("q", cache_control=HOUR)), system=[text(LONG, cache_control=FIVE)])
    result, made = laid_out(body)
    assert claude_faults(body) != []
    assert claude_faults(result) == []
    assert [(finding.code, finding.at) for finding in made.findings] == [("ttl_lowered", Address("messages", 0, 0))]


def test_our_markers_take_the_longest_lifetime_that_follows_them() -> None:
    turns = [user(text(LONG)), assistant(text("a")), user(text("b", cache_control=HOUR), text("c"))]
    body = claude(*turns, system="rules " * 6000)
    assert ttls(body) == ["1h", "1h", "1h", None]
    assert "ttl_lowered" not in codes(laid_out(body)[1])


def test_our_tail_after_an_hour_stays_at_the_default() -> None:
    assert ttls(claude(user(text("q")), system=[text(LONG, cache_control=HOUR)])) == ["1h", None]


def test_a_lifetime_the_model_does_not_have_is_removed() -> None:
    result, made = laid_out(claude(user(text(LONG, cache_control={"type": "ephemeral", "ttl": "12h"}))))
    assert claude_faults(result) == []
    assert "ttl_removed" in codes(made)


# The top-level marker


def test_the_top_level_marker_is_the_tail_and_takes_one_of_four() -> None:
    turns = [user(text("q")), assistant(text("a")), user(text("q"))]
    body = claude(*turns, tools=[tool("a"), tool("b")], system=LONG, cache_control=FIVE)
    assert sent(body) == ["tools.1", "system.0", "messages.0.content.0", "top-level"]


def test_four_markers_and_the_top_level_one_are_repaired() -> None:
    body = claude(user(*(text(LONG, cache_control=FIVE) for _ in range(4)), text("end")), cache_control=FIVE)
    assert claude_faults(body) != []
    assert sent(body) == [*(f"messages.0.content.{index}" for index in (1, 2, 3)), "top-level"]


@pytest.mark.parametrize(("top", "own"), [(FIVE, HOUR), (HOUR, FIVE), (FIVE, FIVE)])
def test_two_markers_on_the_last_block_become_one_with_the_longer_life(top: Any, own: Any) -> None:
    body = claude(user(text(LONG, cache_control=own)), cache_control=top)
    result, made = laid_out(body)
    assert claude_faults(result) == []
    assert claude_markers(result) == ["top-level"]
    assert result["cache_control"].get("ttl", "5m") == ("1h" if HOUR in (top, own) else "5m")
    assert codes(made)[-1] == "marker_removed"


def test_an_hour_at_the_top_level_after_five_minutes_is_lowered() -> None:
    body = claude(user(text("q")), system=[text(LONG, cache_control=FIVE)], cache_control=HOUR)
    assert sent(body) == ["system.0", "top-level"]
    assert ttls(body) == [None, None]


def test_a_top_level_marker_with_no_block_to_stand_on_is_harmless_and_stays() -> None:
    body = claude(user(text("")), cache_control=HOUR)
    result, made = laid_out(body)
    assert result == body
    assert made.breakpoints == ()


# Tools


def test_tools_are_sent_in_one_order_and_markers_keep_their_place_in_the_list() -> None:
    body = claude(tools=[tool("b"), tool("c", cache_control=HOUR), tool("a", cache_control=HOUR)])
    result, made = laid_out(body)
    assert [entry["name"] for entry in result["tools"]] == ["a", "b", "c"]
    assert [entry.get("cache_control") for entry in result["tools"]] == [None, HOUR, HOUR]
    assert made.tool_order == (2, 0, 1)
    assert "tools_reordered" in codes(made)
    assert [entry["name"] for entry in body["tools"]] == ["b", "c", "a"]


def test_a_marker_that_would_come_to_a_deferred_tool_goes_to_the_one_before() -> None:
    body = claude(tools=[tool("z", defer_loading=True), tool("b"), tool("a", cache_control=HOUR)])
    result, made = laid_out(body)
    assert claude_faults(result) == []
    assert claude_markers(result)[0] == "tools.1"
    assert result["tools"][1]["cache_control"] == HOUR
    assert "marker_removed" not in codes(made)


def test_level_mark_leaves_the_tools_as_they_are() -> None:
    body = claude(tools=[tool("b"), tool("a")])
    result, made = laid_out(body, level="mark")
    assert [entry["name"] for entry in result["tools"]] == ["b", "a"]
    assert "tools_reordered" not in codes(made)
    assert claude_markers(result)[0] == "tools.1"


def test_sorted_tools_are_no_finding() -> None:
    assert "tools_reordered" not in codes(laid_out(claude(tools=[tool("a"), tool("b")]))[1])


# GPT-5.6 and later


def chat(model: str, *messages: dict[str, object], **fields: object) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), **fields}


def developer(words: str) -> dict[str, object]:
    return {"role": "developer", "content": words}


def openai_paths(body: dict[str, Any], dialect: Dialect = CHAT) -> list[str]:
    result, _ = laid_out(body, dialect)
    assert openai_faults(result, markers=resolve(body["model"]).regime == "breakpoints") == []
    return openai_markers(result)


def test_the_static_instructions_of_gpt_5_6_are_marked_and_the_tail_left_to_the_provider() -> None:
    body = chat("gpt-5.6-sol", developer(LONG), {"role": "user", "content": "hi"})
    assert openai_paths(body) == [".messages[0].content[0]"]
    assert laid_out(body, CHAT)[0]["messages"][0]["content"][0]["prompt_cache_breakpoint"] == EXPLICIT


def test_the_anchor_is_marked_on_a_tool_answer() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    turns = [
        developer(LONG),
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
        {"role": "assistant", "content": "here"},
        {"role": "user", "content": "thanks"},
    ]
    assert openai_paths(chat("gpt-6-sol", *turns)) == [".messages[0].content[0]", ".messages[3].content[0]"]


def test_responses_items_of_the_model_are_one_run() -> None:
    items = [
        developer(LONG),
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "a", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "function_call_output", "call_id": "2", "output": "y"},
    ]
    body = {"model": "gpt-6.1-sol", "input": items}
    assert openai_paths(body, RESPONSES) == [".input[0].content[0]", ".input[1].content[0]"]


def test_short_instructions_are_not_marked() -> None:
    assert openai_paths(chat("gpt-5.6-sol", developer("be brief"), {"role": "user", "content": LONG})) == []


def test_an_application_that_turned_the_implicit_tail_off_gets_an_explicit_one() -> None:
    body = chat("gpt-5.6-sol", developer(LONG), {"role": "user", "content": "hi"}, prompt_cache_options=EXPLICIT)
    assert openai_paths(body) == [".messages[0].content[0]", ".messages[1].content[0]"]


@pytest.mark.parametrize(("options", "budget"), [({}, 3), ({"prompt_cache_options": EXPLICIT}, 4)])
def test_openai_markers_stay_within_what_is_written(options: dict[str, Any], budget: int) -> None:
    parts = [text(LONG, prompt_cache_breakpoint=EXPLICIT) for _ in range(6)]
    body = chat("gpt-5.6-sol", {"role": "user", "content": parts}, **options)
    assert openai_paths(body) == [f".messages[0].content[{index}]" for index in range(6 - budget, 6)]


def test_openai_has_no_order_of_lifetimes() -> None:
    one, two = {"mode": "explicit", "ttl": "30m"}, {"mode": "explicit", "ttl": "12h"}
    parts = [text(LONG, prompt_cache_breakpoint=one), text("b", prompt_cache_breakpoint=two)]
    body = {
        "model": "gpt-6-sol",
        "input": [{"role": "user", "content": [{**part, "type": "input_text"} for part in parts]}],
    }
    assert laid_out(body, RESPONSES)[0] == body


# Up to GPT-5.5, models without a cache, and models we do not know


def test_a_marker_that_an_older_model_refuses_is_removed() -> None:
    body = chat("gpt-4o-mini", {"role": "user", "content": [text(LONG, prompt_cache_breakpoint=EXPLICIT)]})
    assert openai_faults(body, markers=False) != []
    result, made = laid_out(body, CHAT)
    assert openai_faults(result, markers=False) == []
    assert codes(made) == ["marker_removed"]


def test_an_older_model_gets_its_tools_in_order_and_no_markers() -> None:
    functions = [{"type": "function", "function": {"name": name, "description": LONG}} for name in "ba"]
    body = chat("gpt-4o-mini", {"role": "user", "content": "hi"}, tools=functions)
    result, made = laid_out(body, CHAT)
    assert [entry["function"]["name"] for entry in result["tools"]] == ["a", "b"]
    assert made.breakpoints == ()
    assert codes(made) == ["tools_reordered"]


def test_a_short_prompt_to_an_older_model_says_how_short() -> None:
    body = chat("gpt-4o-mini", {"role": "user", "content": "word " * 919})
    (finding,) = laid_out(body, CHAT)[1].findings
    assert (finding.code, finding.tokens) == ("below_minimum", 98)


def test_a_model_without_a_cache_is_said_to_have_none() -> None:
    body = chat("gpt-4o-2024-05-13", {"role": "user", "content": [text(LONG, prompt_cache_breakpoint=EXPLICIT)]})
    result, made = laid_out(body, CHAT)
    assert codes(made) == ["no_cache", "marker_removed"]
    assert openai_markers(result) == []


def test_an_unknown_model_is_said_to_be_and_keeps_what_the_application_knows_better() -> None:
    body = chat("gpt-9-nova", {"role": "user", "content": [text(LONG, prompt_cache_breakpoint=EXPLICIT)]})
    result, made = laid_out(body, CHAT)
    assert result == body
    assert codes(made) == ["unknown_model"]


def test_an_unknown_claude_model_is_marked_by_the_rules_all_of_them_share() -> None:
    result, made = laid_out({**claude(user(text(LONG * 4)), system="r"), "model": "claude-next-9"})
    assert claude_markers(result) == ["messages.0.content.0"]
    assert codes(made) == ["unknown_model"]


# Extremes


def test_one_block_that_is_system_and_anchor_alike_is_marked_once() -> None:
    turns = [developer(LONG), {"role": "assistant", "content": "hi"}, {"role": "user", "content": "yes"}]
    assert openai_paths(chat("gpt-5.6-sol", *turns)) == [".messages[0].content[0]"]


def test_a_profile_without_lifetimes_leaves_them_alone() -> None:
    profile = CacheProfile(
        name="x", provider="unknown", models=(), regime="breakpoints", minimum_tokens=1, max_breakpoints=2
    )
    body = claude(user(text("a", cache_control=HOUR), text("b")))
    assert [row.ttl for row in laid_out(body, profile=profile)[1].breakpoints] == ["1h", None]


def test_lifetimes_are_compared_by_length_and_none_is_the_first() -> None:
    lengths = {"1h": 3600, "5m": 300}
    profile = CacheProfile(
        name="x",
        provider="unknown",
        models=(),
        regime="breakpoints",
        minimum_tokens=1,
        max_breakpoints=4,
        lifetimes=tuple(
            Lifetime(name=name, seconds=seconds, write_multiplier=Decimal(1)) for name, seconds in lengths.items()
        ),
    )
    short = {"type": "ephemeral", "ttl": "5m"}
    body = claude(user(text("a", cache_control=short), text("b", cache_control=FIVE)), system="s")
    assert [row.ttl for row in laid_out(body, profile=profile)[1].breakpoints] == [None, "5m", "5m"]
