"""The results of parallel tool calls, in the order of the calls."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import DialectName, Request
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.layout import apply, decide
from tests.prompt.words import WORDS

FORMATS: list[DialectName] = ["anthropic_messages", "openai_chat", "openai_responses"]
MODELS = {"anthropic_messages": "claude-opus-4-8", "openai_chat": "gpt-5.6", "openai_responses": "gpt-5.6"}


def body(dialect: DialectName, turns: list[list[str]], answers: list[list[str]]) -> dict[str, Any]:
    """Return a body with parallel calls on each turn, ``turns`` by id, whose results come in the order of ``answers``."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "a question"}]
    for calls, results in zip(turns, answers, strict=True):
        messages += _TURNS[dialect](calls, results)
    key = "input" if dialect == "openai_responses" else "messages"
    return {"model": MODELS[dialect], "max_tokens": 1, key: messages}


def _claude(calls: list[str], results: list[str]) -> list[dict[str, Any]]:
    uses = [{"type": "tool_use", "id": call, "name": "track", "input": {}} for call in calls]
    found = [{"type": "tool_result", "tool_use_id": call, "content": f"found {call}"} for call in results]
    return [
        {"role": "assistant", "content": uses},
        {"role": "user", "content": [*found, {"type": "text", "text": "?"}]},
    ]


def _chat(calls: list[str], results: list[str]) -> list[dict[str, Any]]:
    uses = [{"id": call, "type": "function", "function": {"name": "track", "arguments": "{}"}} for call in calls]
    found = [{"role": "tool", "tool_call_id": call, "content": f"found {call}"} for call in results]
    return [{"role": "assistant", "content": None, "tool_calls": uses}, *found]


def _responses(calls: list[str], results: list[str]) -> list[dict[str, Any]]:
    uses = [{"type": "function_call", "call_id": call, "name": "track", "arguments": "{}"} for call in calls]
    return [*uses, *({"type": "function_call_output", "call_id": call, "output": f"found {call}"} for call in results)]


_TURNS = {"anthropic_messages": _claude, "openai_chat": _chat, "openai_responses": _responses}


def request(dialect: DialectName, turns: list[list[str]], answers: list[list[str]]) -> Request:
    return dialects.by_name(dialect).decode_request(body(dialect, turns, answers))


def results(sent: Request) -> list[str | None]:
    return [
        part.call_id
        for message in sent.messages
        for part in message.parts
        if part.kind == "tool_result" or message.role == "tool"
    ]


every_format = pytest.mark.parametrize("dialect", FORMATS)


@every_format
def test_results_come_in_the_order_of_the_calls_however_they_were_given(dialect: DialectName) -> None:
    @settings(max_examples=40)
    @given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
    def check(sizes: list[int], shuffle: Any) -> None:
        turns = [[f"call_{turn}_{number}" for number in range(size)] for turn, size in enumerate(sizes)]
        answers = [shuffle.sample(calls, len(calls)) for calls in turns]
        for calls in turns:
            shuffle.shuffle(calls)
        given_, as_called = request(dialect, turns, answers), request(dialect, turns, turns)
        made = decide(given_, resolve(given_.model), WORDS)
        assert made.request == decide(as_called, resolve(as_called.model), WORDS).request
        assert made.request == apply(given_, made.plan)
        assert results(made.request) == [call for calls in turns for call in calls]
        assert ("results_reordered" in [finding.code for finding in made.plan.findings]) == (answers != turns)
        assert Counter(results(made.request)) == Counter(results(given_))
        again = decide(made.request, resolve(given_.model), WORDS)
        assert again.request == made.request
        assert decide(given_, resolve(given_.model), WORDS, level="mark").plan.findings == again.plan.findings

    check()


@every_format
def test_ids_that_come_again_are_those_of_the_latest_calls(dialect: DialectName) -> None:
    turns = [["a", "b"], ["b", "a"]]
    made = request(dialect, turns, [["b", "a"], ["a", "b"]])
    assert [*results(_ordered(made))] == ["a", "b", "b", "a"]


def _ordered(made: Request) -> Request:
    return decide(made, resolve(made.model), WORDS).request


def test_results_of_no_call_come_last_and_without_any_call_nothing_moves() -> None:
    made = request("openai_chat", [["a", "b"]], [["x", "b", "y", "a"]])
    assert results(_ordered(made)) == ["a", "b", "x", "y"]
    bare = request("openai_chat", [[]], [["b", "a"]])
    assert results_in_call_order(bare.messages) == bare.messages


def test_what_is_in_order_is_shared_and_what_is_not_is_not_mutated() -> None:
    made = request("anthropic_messages", [["a", "b"]], [["a", "b"]])
    assert all(old is new for old, new in zip(made.messages, results_in_call_order(made.messages), strict=True))
    wrong = request("anthropic_messages", [["a", "b"]], [["b", "a"]])
    _ordered(wrong)
    assert wrong == request("anthropic_messages", [["a", "b"]], [["b", "a"]])


def test_a_marker_stays_behind_the_last_result() -> None:
    given_ = body("anthropic_messages", [["a", "b"]], [["b", "a"]])
    given_["messages"][2]["content"][1]["cache_control"] = {"type": "ephemeral"}
    sent = results_in_call_order(dialects.by_name("anthropic_messages").decode_request(given_).messages)
    assert [(part.call_id, part.marker is not None) for part in sent[2].parts] == [
        ("a", False),
        ("b", True),
        (None, False),
    ]
