from __future__ import annotations

from prefixcache_integrations.dialects import sse


def test_an_event_with_a_type_is_named_by_it() -> None:
    assert sse.format_event({"type": "ping", "n": 1}) == b'event: ping\ndata: {"type":"ping","n":1}\n\n'
    assert sse.format_event({"id": "c"}) == b'data: {"id":"c"}\n\n'


def test_only_chat_completions_end_with_done() -> None:
    event = {"type": "ping"}
    assert list(sse.format_stream("openai_chat", [{}])) == [b"data: {}\n\n", b"data: [DONE]\n\n"]
    assert list(sse.format_stream("anthropic_messages", [event])) == [sse.format_event(event)]
    assert list(sse.format_stream("openai_responses", [event])) == [sse.format_event(event)]
