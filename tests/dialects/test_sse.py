from __future__ import annotations

import pytest

from prefixcache_integrations.dialects import sse
from prefixcache_integrations.dialects.sse import ServerSentEvent


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = sse.Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end_ends_a_line(end: bytes) -> None:
    wire = end.join([b"event: ping", b"data: 1", b"", b"data: 2", b"data: 3", b"", b": still here", b""])
    expected = [ServerSentEvent("ping", "1"), ServerSentEvent("", "2\n3")]
    assert parse(wire) == expected
    assert parse(*(bytes([byte]) for byte in wire)) == expected


def test_a_character_cut_in_two_is_put_together() -> None:
    wire = 'data: {"a":"é"}\n\n'.encode()
    for cut in range(len(wire)):
        (event,) = parse(wire[:cut], wire[cut:])
        assert event.json() == {"a": "é"}


def test_comments_ids_a_byte_order_mark_and_events_without_data_are_passed_over() -> None:
    assert parse(b"\xef\xbb\xbfdata:x\nid: 4\nretry: 10\n\n: hello\n\nevent: nothing\n\ndata\n\n") == [
        ServerSentEvent("", "x"),
        ServerSentEvent("", ""),
    ]


def test_an_event_that_was_not_ended_is_no_event() -> None:
    assert parse(b"data: whole\n\ndata: half\n") == [ServerSentEvent("", "whole")]


def test_what_is_no_json_object_reads_as_none() -> None:
    assert [event.json() for event in parse(b"data: [DONE]\n\ndata: [1]\n\ndata: {\n\n")] == [None, None, None]


def test_an_event_with_a_type_is_named_by_it() -> None:
    assert sse.format_event({"type": "ping", "n": 1}) == b'event: ping\ndata: {"type":"ping","n":1}\n\n'
    assert sse.format_event({"id": "c"}) == b'data: {"id":"c"}\n\n'


def test_only_chat_completions_end_with_done() -> None:
    event = {"type": "ping"}
    assert list(sse.format_stream("openai_chat", [{}])) == [b"data: {}\n\n", b"data: [DONE]\n\n"]
    assert list(sse.format_stream("anthropic_messages", [event])) == [sse.format_event(event)]
    assert list(sse.format_stream("openai_responses", [event])) == [sse.format_event(event)]
