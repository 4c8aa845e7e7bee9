from __future__ import annotations

from typing import Any

import pytest
from anthropic.types.shared import ErrorResponse
from msgspec import structs

from prefixcache_integrations.canonical import Address, CacheMarker, Message, Part, Request, Response
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES as DIALECT
from prefixcache_integrations.errors import MalformedRequest
from tests.dialects.contract import Golden, markable, markers

GOLDEN = Golden.load("anthropic_messages")


def read(name: str) -> Request:
    return DIALECT.decode_request(GOLDEN.requests[name])


def block(raw: dict[str, Any]) -> Part:
    body = {"model": "claude", "max_tokens": 1, "messages": [{"role": "assistant", "content": [raw]}]}
    return DIALECT.decode_request(body).messages[0].parts[0]


def test_a_plain_request_reads_as_bare_words() -> None:
    request = read("plain")
    assert (request.model, request.bare_system, request.system[0].text) == (
        "claude-sonnet-5-5", True, "You answer questions about a public library's opening hours.",
    )  # fmt: skip
    assert request.messages[0].bare
    assert request.options == {"max_tokens": 512, "temperature": 0.2}
    assert markable(request) == [Address("system", 0), Address("messages", 0, 0)]


def test_tools_calls_and_results_are_read() -> None:
    request = read("tools_called_in_parallel")
    assert [tool.name for tool in request.tools] == ["weather", "trails", "web_search"]
    assert [tool.schema is None for tool in request.tools] == [False, False, True]
    assert all(tool.markable for tool in request.tools)
    calls = request.messages[1].parts[1:]
    assert [(part.kind, part.call_id, part.name, part.text) for part in calls] == [
        ("tool_call", "toolu_01A", "weather", '{"place":"Keswick","day":"2026-11-28"}'),
        ("tool_call", "toolu_01B", "trails", "{}"),
    ]
    bare, listed, _ = request.messages[2].parts
    assert (bare.kind, bare.call_id, bare.bare, bare.content[0].text) == (
        "tool_result", "toolu_01A", True, "Dry, 6 °C, wind from the west",
    )  # fmt: skip
    assert (listed.bare, [part.kind for part in listed.content]) == (False, ["text", "image"])
    assert not any(part.markable for part in (*bare.content, *listed.content))


def test_documents_nest_their_content() -> None:
    kinds = [
        (part.kind, [inner.text for inner in part.content]) for part in read("images_and_documents").messages[0].parts
    ]
    assert kinds == [
        ("image", []),
        ("image", []),
        ("document", []),
        ("document", []),
        ("document", ["Gutters: fair.", "Flashing: poor."]),
        ("document", ["Chimney: good."]),
        ("document", []),
        ("document", ["Welsh slate lasts a century."]),
        ("text", []),
    ]


def test_markers_are_found_everywhere_nested_ones_too() -> None:
    request = read("markers")
    assert {str(place): marker.ttl for place, marker in markers(request).items()} == {
        "tools[1]": "1h", "system[1]": "1h", "messages[4].parts[0]": None,
    }  # fmt: skip
    assert request.marker == CacheMarker(raw={"type": "ephemeral"})
    nested = request.messages[2].parts[0].content[1]
    assert nested.marker is not None
    assert nested.marker.ttl == "5m"
    assert request.messages[3].role == "system"


def test_a_nested_marker_can_be_moved_to_its_block() -> None:
    part = read("markers").messages[2].parts[0]
    inner = tuple(structs.replace(found, marker=None) for found in part.content)
    moved = structs.replace(part, content=inner, marker=part.content[1].marker)
    request = structs.replace(read("markers"), messages=(Message(role="user", parts=(moved,)),))
    assert DIALECT.encode_request(request)["messages"] == [
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_03",
                    "content": [{"type": "text", "text": "lease.pdf"}, {"type": "text", "text": "lease-2.pdf"}],
                    "cache_control": {"type": "ephemeral", "ttl": "5m"},
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "s"},
        {"type": "fallback", "from": "a", "to": "b"},
        {"type": "text", "text": ""},
        {"type": "hologram"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "code_execution_20260120"}},
    ],
)
def test_blocks_that_refuse_a_marker_say_so(raw: dict[str, Any]) -> None:
    assert not block(raw).markable


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "text", "text": " "},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}},
        {"type": "container_upload", "file_id": "f"},
    ],
)
def test_blocks_that_take_a_marker_say_so(raw: dict[str, Any]) -> None:
    assert block(raw).markable


def test_a_deferred_tool_takes_no_marker() -> None:
    assert [tool.markable for tool in read("markers").tools] == [True, True, False]


def test_a_marked_string_becomes_one_block() -> None:
    request = read("plain")
    body = DIALECT.encode_request(
        structs.replace(
            request,
            system=(structs.replace(request.system[0], marker=CacheMarker(ttl="1h")),),
            marker=CacheMarker(),
        )
    )
    assert body["system"] == [
        {"type": "text", "text": request.system[0].text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]
    assert body["cache_control"] == {"type": "ephemeral"}
    assert body["messages"] == GOLDEN.requests["plain"]["messages"]


@pytest.mark.parametrize(
    ("name", "stop_reason"),
    [("stop_sequence", "stop"), ("model_context_window_exceeded", "length"), ("pause_turn", "other"), (None, "other")],
)
def test_stop_reasons_are_told_apart(name: str | None, stop_reason: str) -> None:
    body = {**GOLDEN.responses["plain"]["body"], "stop_reason": name}
    assert DIALECT.decode_response(body).stop_reason == stop_reason


def test_a_composed_call_with_broken_arguments_keeps_them() -> None:
    part = Part(kind="tool_call", raw={}, text='{"a', call_id="t", name="f")
    body = DIALECT.encode_response(Response(dialect=DIALECT.name, id="m", model="c", parts=(part,)))
    assert body["content"] == [{"type": "tool_use", "id": "t", "name": "f", "input": {"INVALID_JSON": '{"a'}}]


def test_composed_thinking_and_results_are_blocks() -> None:
    parts = (
        Part(kind="thinking", raw={}, text="hm"),
        Part(kind="tool_result", raw={}, call_id="t", content=(Part(kind="text", raw={}, text="ok"),), bare=True),
    )
    body = DIALECT.encode_request(
        Request(dialect=DIALECT.name, model="c", messages=(Message(role="user", parts=parts),))
    )
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
            ],
        }
    ]


def test_an_error_ends_a_stream_with_nothing() -> None:
    events = [*GOLDEN.streams["delta_with_output_tokens_alone"]["events"]]
    events.insert(4, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert DIALECT.decode_stream(events) is None


def test_a_stream_without_a_stop_reason_adds_up_to_nothing() -> None:
    events = GOLDEN.streams["delta_with_output_tokens_alone"]["events"]
    assert DIALECT.decode_stream([event for event in events if event["type"] != "message_delta"]) is None
    with pytest.raises(MalformedRequest):
        DIALECT.decode_stream(events[-2:])


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "scent_delta", "scent": "moss"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}},
        {"type": "content_block_delta", "index": 0},
    ],
)
def test_deltas_that_cannot_be_added_up_are_refused(event: dict[str, Any]) -> None:
    events = [*GOLDEN.streams["delta_with_output_tokens_alone"]["events"]]
    events.insert(4, event)
    with pytest.raises(MalformedRequest):
        DIALECT.decode_stream(events)


def test_the_split_of_writes_survives_a_delta_without_it() -> None:
    response = DIALECT.decode_stream(GOLDEN.streams["delta_with_output_tokens_alone"]["events"])
    assert response is not None
    assert response.usage.cache_write_by_ttl == {"5m": 0, "1h": 300}
    assert (response.usage.input_tokens, response.usage.output_tokens) == (4312, 15)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 418, 429, 500, 503, 504, 529])
def test_errors_have_claudes_shape(status: int) -> None:
    body = DIALECT.error_body(status, "No.", param="x", code="y")
    error = body["error"]
    assert isinstance(error, dict)
    assert error["message"] == "No."
    if status != 413:
        ErrorResponse.model_validate(body)
    assert (error["type"] == "invalid_request_error") == (status in (400, 418))
