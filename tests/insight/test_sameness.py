import json

import pytest
from hypothesis import given

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES
from prefixcache_integrations.insight.sameness import are_same_messages, grown
from tests.prompt.bodies import CLAUDE_BODIES

MARK = {"cache_control": {"type": "ephemeral"}}


def messages(*contents):
    roles = ("user", "assistant")
    rows = [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]
    body = {"model": "m", "max_tokens": 1, "messages": rows}
    return ANTHROPIC_MESSAGES.decode_request(json.loads(json.dumps(body))).messages


def text(words, **fields):
    return [{"type": "text", "text": words, **fields}]


def result(content, **fields):
    return [{"type": "tool_result", "tool_use_id": "t", "content": content, **fields}]


def call(arguments):
    return [{"type": "tool_use", "id": "t", "name": "n", "input": arguments}]


@given(CLAUDE_BODIES)
def test_what_begins_alike_is_shared_and_stays_equal(body):
    first, second = (ANTHROPIC_MESSAGES.decode_request(json.loads(json.dumps(body))).messages for _ in range(2))
    found = grown(first[:-1], second)

    assert (found is None) == (len(first) == 1)
    if found:
        assert found == second
        assert all(old is new for old, new in zip(first[:-1], found, strict=False))


def test_a_message_that_is_marked_otherwise_stays_the_new_one():
    first, second = messages("a", "b", text("c", **MARK)), messages("a", "b", text("c"), "d", text("e", **MARK))
    found = grown(first, second)

    assert found == second
    assert found[0] is first[0]
    assert found[2] is second[2]
    assert are_same_messages(first, second[:3])


@pytest.mark.parametrize("content", ["found", text("found")])
def test_a_tool_result_that_is_marked_otherwise_is_shared_too(content):
    first = messages("a", call({}), result(content, **MARK))
    second = messages("a", call({}), result(content), "d", text("e", **MARK))
    found = grown(first, second)

    assert found == second
    assert found[1] is first[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (text("b"), [{"text": "b", "type": "text"}]),
        (call({"a": 1, "b": 2}), call({"b": 2, "a": 1})),
        (call({"a": 1}), call({"a": 1.0})),
        (call({"a": 1}), call({"a": True})),
        (text("b"), text("c")),
        (result(text("b")), result([{"text": "b", "type": "text"}])),
        (
            result([{"type": "image", "source": {"a": 1, "b": 2}}]),
            result([{"type": "image", "source": {"b": 2, "a": 1}}]),
        ),
        (result(text("b", **MARK)), result(text("c", **MARK))),
    ],
)
def test_what_python_calls_equal_is_not_always_the_same_on_the_wire(old, new):
    before, after = messages("a", old, "c"), messages("a", new, "c", "d", "e")

    assert grown(before, after) is None
    assert not are_same_messages(before, after[:3])
