import pytest

from prefixcache_integrations.canonical import Part, Request, Response
from prefixcache_integrations.flows.policy import bypass, objection

TEXT = Part(kind="text", raw={"type": "text", "text": "yes"}, text="yes")


def answer(*parts, stop_reason="stop"):
    return Response(dialect="openai_chat", id="", model="", parts=parts, stop_reason=stop_reason)


def call(text, **raw):
    return Part(kind="tool_call", raw=raw, text=text, call_id="call_1", name="get_order")


@pytest.mark.parametrize(
    "whole",
    [
        answer(TEXT),
        answer(call('{"id": 1}'), stop_reason="tool_calls"),
        answer(call(""), stop_reason="tool_calls"),
        answer(call("free text", type="custom_tool_call"), stop_reason="tool_calls"),
        answer(Part(kind="thinking", raw={}, text="hm"), TEXT),
        answer(Part(kind="image", raw={})),
    ],
    ids=["text", "tool call", "tool call without arguments", "custom tool call", "thinking and text", "image"],
)
def test_whole_answers_are_kept(whole):
    assert objection([whole]) is None
    assert objection([answer(TEXT), whole]) is None


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (answer(TEXT, stop_reason="length"), "token limit"),
        (answer(TEXT, stop_reason="content_filter"), "filtered"),
        (answer(TEXT, stop_reason="refusal"), "refusal"),
        (answer(TEXT, stop_reason="other"), "not known to be finished"),
        (answer(Part(kind="refusal", raw={}, text="I cannot")), "refusal"),
        (answer(call('{"id": '), stop_reason="tool_calls"), "invalid tool call"),
        (answer(call("[1]"), stop_reason="tool_calls"), "invalid tool call"),
        (answer(call("[" * 100_000), stop_reason="tool_calls"), "invalid tool call"),
        (answer(), "empty"),
        (answer(Part(kind="text", raw={}, text=" \n")), "empty"),
        (answer(Part(kind="thinking", raw={}, text="hm")), "empty"),
    ],
)
def test_broken_answers_are_not_kept_and_the_reason_is_named(broken, reason):
    assert reason in objection([broken])
    assert reason in objection([answer(TEXT), broken])


def test_no_answer_is_not_kept():
    assert objection([]) == "no answer"


@pytest.mark.parametrize(
    "options",
    [
        {"conversation": "conv_1"},
        {"container": {"id": "container_1"}},
        {"settings": {"use_previous_response_id": True}},
        {"settings": {"reuse_last_container": True}},
        {"call": {"conversation": {"id": "conv_1"}}},
        {"settings": {"model_kwargs": {"conversation": "conv_1"}}},
        {"call": {"extra_body": {"container": "container_1"}}},
        {"extra_body": {"conversation": "conv_1"}},
    ],
)
def test_requests_that_lean_on_server_state_are_bypassed(options):
    assert "server state" in bypass(Request(dialect="openai_responses", model="m", options=options))


SCHEMA_THAT_NAMES_ONE = {"call": {"response_format": {"schema": {"properties": {"conversation": {"type": "string"}}}}}}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"conversation": None},
        {"settings": {"use_previous_response_id": False}},
        {"previous_response_id": "resp_1"},
        SCHEMA_THAT_NAMES_ONE,
    ],
)
def test_other_requests_are_not(options):
    assert bypass(Request(dialect="openai_responses", model="m", options=options)) is None
