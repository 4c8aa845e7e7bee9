from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from prefixcache_integrations.canonical import Address, CacheMarker, Part, Response
from prefixcache_integrations.dialects import OPENAI_CHAT, OPENAI_RESPONSES, Dialect
from tests.dialects.contract import Golden, markable, marked

CHAT = Golden.load("openai_chat")
RESPONSES = Golden.load("openai_responses")


def test_calls_follow_the_content_and_answers_carry_their_call() -> None:
    request = OPENAI_CHAT.decode_request(CHAT.requests["tools_called_in_parallel"])
    calls = request.messages[2].parts
    assert [(part.kind, part.call_id, part.name, part.text) for part in calls] == [
        ("tool_call", "call_1", "stock_level", '{"sku": "K-1"}'),
        ("tool_call", "call_2", "stock_level", '{"sku":"L-9"}'),
        ("tool_call", "call_3", "sql", "select 1"),
    ]
    answers = request.messages[3:]
    assert [message.role for message in answers] == ["tool", "tool", "tool"]
    assert [[part.call_id for part in message.parts] for message in answers] == [["call_1"], ["call_2"] * 2, ["call_3"]]
    assert [message.bare for message in answers] == [True, False, True]
    assert [(tool.name, tool.markable) for tool in request.tools] == [
        ("stock_level", False), ("today", False), ("sql", False),
    ]  # fmt: skip


def test_chat_takes_markers_on_what_the_model_did_not_write() -> None:
    request = OPENAI_CHAT.decode_request(CHAT.requests["tools_called_in_parallel"])
    assert [str(place) for place in markable(request)] == [
        "messages[0].parts[0]",
        "messages[1].parts[0]",
        "messages[3].parts[0]",
        "messages[4].parts[0]",
        "messages[4].parts[1]",
    ]
    media = OPENAI_CHAT.decode_request(CHAT.requests["images_files_and_audio"])
    assert len(markable(media)) == 6
    assert [part.kind for part in media.messages[0].parts] == [
        "image", "image", "audio", "document", "document", "text",
    ]  # fmt: skip
    assert not any(place.index in (1, 2, 4, 5) for place in markable(
        OPENAI_CHAT.decode_request(CHAT.requests["assistant_contents"])))  # fmt: skip


def test_a_marked_tool_answer_becomes_a_list() -> None:
    request = OPENAI_CHAT.decode_request(CHAT.requests["tools_called_in_parallel"])
    body = OPENAI_CHAT.encode_request(marked(request, Address("messages", 3, 0), CacheMarker()))
    messages: Any = body["messages"]
    assert messages[3] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": [{"type": "text", "text": "12", "prompt_cache_breakpoint": {"mode": "explicit"}}],
    }


def test_responses_items_are_messages() -> None:
    request = OPENAI_RESPONSES.decode_request(RESPONSES.requests["items"])
    assert [(message.role, [part.kind for part in message.parts]) for message in request.messages] == [
        ("developer", ["text"]),
        ("user", ["text"]),
        ("assistant", ["thinking"]),
        ("assistant", ["tool_call"]),
        ("assistant", ["tool_call"]),
        ("tool", ["text"]),
        ("tool", ["text", "image"]),
        ("assistant", ["tool_call"]),
        ("tool", ["text"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
    ]
    assert [message.parts[0].call_id for message in request.messages[3:9]] == [
        "call_1", "call_2", "call_1", "call_2", "call_3", "call_3",
    ]  # fmt: skip
    assert request.messages[2].parts[0].text == "Two look-ups."
    assert [place.index for place in markable(request)] == [0, 1, 5, 6, 6, 8, 10]


def test_items_without_content_have_somebodys_turn() -> None:
    request = OPENAI_RESPONSES.decode_request(RESPONSES.requests["future_fields"])
    assert [message.role for message in request.messages] == [
        "assistant", "assistant", "assistant", "developer", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


def test_instructions_are_the_system_prompt_and_take_no_marker() -> None:
    request = OPENAI_RESPONSES.decode_request(RESPONSES.requests["plain"])
    assert [part.text for part in request.system] == ["You name colours."]
    assert markable(request) == [Address("messages", 0, 0)]


def test_a_marked_input_string_becomes_a_message() -> None:
    request = OPENAI_RESPONSES.decode_request(RESPONSES.requests["plain"])
    body = OPENAI_RESPONSES.encode_request(marked(request, Address("messages", 0, 0), CacheMarker(ttl="12h")))
    assert body["input"] == [
        {
            "role": "user",
            "content": [
                {
                    "type": "input_text",
                    "text": "What is the colour of a ripe quince?",
                    "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                }
            ],
        }
    ]


def test_a_marked_output_string_becomes_a_list() -> None:
    request = OPENAI_RESPONSES.decode_request(RESPONSES.requests["items"])
    body = OPENAI_RESPONSES.encode_request(marked(request, Address("messages", 5, 0), CacheMarker()))
    items: Any = body["input"]
    assert items[5]["output"] == [
        {"type": "input_text", "text": "08:21, 12:20", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ]


def test_usage_comes_only_to_a_chat_stream_that_asks_for_it() -> None:
    response = OPENAI_CHAT.decode_response(CHAT.responses["plain"]["body"])
    silent = list(OPENAI_CHAT.encode_stream(response, include_usage=False))
    assert not any("usage" in chunk for chunk in silent)
    told = list(OPENAI_CHAT.encode_stream(response))
    assert [chunk["usage"] is None for chunk in told] == [True] * (len(told) - 1) + [False]
    assert told[-1]["choices"] == []
    folded = OPENAI_CHAT.decode_stream(silent)
    assert folded is not None
    assert folded.raw_usage is None
    assert folded.parts == response.parts


def test_a_chat_stream_with_an_unfinished_choice_adds_up_to_nothing() -> None:
    response = OPENAI_CHAT.decode_response(CHAT.responses["two_choices_with_logprobs"]["body"])
    chunks: list[Any] = list(OPENAI_CHAT.encode_stream(response))
    ended = [chunk for chunk in chunks if not any(c["index"] == 1 and c["finish_reason"] for c in chunk["choices"])]
    assert len(ended) == len(chunks) - 1
    assert OPENAI_CHAT.decode_stream(ended) is None
    assert OPENAI_CHAT.decode_stream([*chunks[:2], {"error": {"message": "down"}}, *chunks[2:]]) is None


def test_repeated_whole_fields_of_a_chunk_are_not_added_up() -> None:
    chunk = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}
    calls = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": piece}}
        for piece in ("{", "}")
    ]
    deltas = [{"role": "assistant", "tool_calls": [call]} for call in calls]
    chunks = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    response = OPENAI_CHAT.decode_stream([*chunks, end, end])
    assert response is not None
    assert response.parts[0].raw == {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert response.stop_reason == "tool_calls"


def chunk(index: int = 0, finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {
        "id": "c",
        "created": 1,
        "model": "m",
        "object": "chat.completion.chunk",
        "usage": None,
        "choices": [choice],
    }


def test_a_chat_stream_that_lost_its_usage_has_none() -> None:
    response = OPENAI_CHAT.decode_stream([chunk(role="assistant", content="a"), chunk(finish="stop")])
    assert response is not None
    assert response.raw_usage is None
    assert "usage" not in response.raw


def test_logprobs_of_a_chat_stream_are_strung_together() -> None:
    first, second = ({"content": [{"token": token}], "refusal": None} for token in "ab")
    chunks = [
        chunk(logprobs=first, role="assistant", content="a"),
        chunk(logprobs=second, content="b"),
        chunk(finish="stop"),
    ]
    response = OPENAI_CHAT.decode_stream(chunks)
    assert response is not None
    choices: Any = response.raw["choices"]
    assert choices[0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_numbers_and_silence_in_a_delta_replace_and_keep() -> None:
    chunks = [
        chunk(role="assistant", content=None, tool_calls=None, audio={"id": "a", "transcript": "He", "expires_at": 1}),
        chunk(audio={"transcript": "llo", "expires_at": 2}, tool_calls=None),
        chunk(finish="stop"),
    ]
    response = OPENAI_CHAT.decode_stream(chunks)
    assert response is not None
    choices: Any = response.raw["choices"]
    assert choices[0]["message"] == {
        "role": "assistant", "content": None, "tool_calls": None,
        "audio": {"id": "a", "transcript": "Hello", "expires_at": 2},
    }  # fmt: skip


def test_a_call_of_an_unknown_kind_is_streamed_whole() -> None:
    body = CHAT.responses["tools_called_in_parallel"]["body"]
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "r", "type": "rite", "rite": {"steps": 3}}]}
    response = OPENAI_CHAT.decode_response({**body, "choices": [{**body["choices"][0], "message": message}]})
    assert [(part.kind, part.call_id, part.text) for part in response.parts] == [("tool_call", "r", "")]
    assert OPENAI_CHAT.decode_stream(OPENAI_CHAT.encode_stream(response)) == response


@pytest.mark.parametrize(
    ("status", "details", "stop_reason"),
    [
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", {"reason": "steered"}, "other"),
        ("incomplete", None, "other"),
        ("in_progress", None, "other"),
        ("completed", None, "stop"),
    ],
)
def test_responses_stop_for_what_their_status_says(status: str, details: object, stop_reason: str) -> None:
    body = {**RESPONSES.responses["plain"]["body"], "status": status, "incomplete_details": details}
    assert OPENAI_RESPONSES.decode_response(body).stop_reason == stop_reason


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_RESPONSES])
def test_a_composed_refusal_is_one(dialect: Dialect) -> None:
    part = Part(kind="refusal", raw={}, text="No.")
    body = dialect.encode_response(
        Response(dialect=dialect.name, id="r", model="m", parts=(part,), stop_reason="refusal")
    )
    read = dialect.decode_response(body)
    assert read.stop_reason == "refusal"
    assert [(found.kind, found.text) for found in read.parts] == [("refusal", "No.")]
    assert dialect.decode_stream(dialect.encode_stream(read)) == read


def test_composed_reasoning_is_an_item() -> None:
    part = Part(kind="thinking", raw={}, text="hm")
    response = Response(dialect="openai_responses", id="resp_9", model="m", parts=(part,))
    body = OPENAI_RESPONSES.encode_response(response)
    assert body["output"] == [
        {"type": "reasoning", "id": "rs_9_0", "summary": [{"type": "summary_text", "text": "hm"}]}
    ]


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_RESPONSES])
def test_the_date_and_tier_of_a_composed_response_are_the_composers(dialect: Dialect) -> None:
    response = Response(dialect=dialect.name, id="r", model="m", raw={"created": 5, "created_at": 6, "store": True})
    tiered = structs.replace(response, usage=structs.replace(response.usage, service_tier="flex"))
    body = dialect.encode_response(tiered)
    assert (body["created"], body["created_at"], body["store"], body["service_tier"]) == (5, 6, True, "flex")
    assert dialect.decode_response(body).usage.service_tier == "flex"


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_RESPONSES])
def test_errors_have_openais_shape(dialect: Dialect) -> None:
    assert dialect.error_body(400, "No.", param="model", code="bad_model") == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "bad_model"}
    }
    kinds = {status: dialect.error_body(status, "No.")["error"] for status in (401, 429, 500)}
    assert {status: error["type"] for status, error in kinds.items() if isinstance(error, dict)} == {
        401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error",
    }  # fmt: skip
