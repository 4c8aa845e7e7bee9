"""Servers that speak Claude's wire format and say less of the tokens at the end of a stream than at its beginning."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic

from prefixcache_integrations.llama_index import CachedTokensEventHandler, enable

FIRST = {
    "input_tokens": 50,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 600,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 400},
    "output_tokens": 1,
}
LAST = {
    "nothing of the input": {"output_tokens": 7},
    "the uncached input alone": {"input_tokens": 50, "output_tokens": 7},
    "all but the lifetimes": {
        "input_tokens": 50,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 600,
        "output_tokens": 7,
    },
}
ASK = [ChatMessage(content="How long for lamps?")]


def events(last):
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": []}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": FIRST}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Thirty days."}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last}
    yield {"type": "message_stop"}


@pytest.fixture(params=LAST)
def llm(request):
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events(LAST[request.param]))

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    headers = {"Connection": "close"}
    url = f"http://127.0.0.1:{server.server_port}"
    yield Anthropic(model="claude-sonnet-4-5", api_key="k", base_url=url, default_headers=headers)
    server.shutdown()
    server.server_close()


@pytest.fixture
def handler(handlers):
    made = CachedTokensEventHandler()
    handlers(made)
    return made


async def astreamed(llm):
    return [piece async for piece in await llm.astream_chat(ASK)]


STYLES = {
    "stream_chat": lambda llm: list(llm.stream_chat(ASK)),
    "stream_complete": lambda llm: list(llm.stream_complete("Once")),
    "astream_chat": lambda llm: asyncio.run(astreamed(llm)),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_end_of_a_stream_is_completed_by_its_beginning(llm, handler, style):
    STYLES[style](enable(llm))
    [call] = handler.calls
    usage = call.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (1650, 1000, 600)
    assert usage.cache_write_by_ttl == {"5m": 200, "1h": 400}
    assert usage.output_tokens == 7


@pytest.mark.parametrize("style", STYLES)
def test_without_the_layout_what_the_end_does_not_say_is_unknown_and_never_0(llm, handler, style):
    STYLES[style](llm)
    [call] = handler.calls
    usage = call.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) in ((None,) * 3, (1650, 1000, 600))
    assert usage.cache_write_by_ttl is None
    assert usage.output_tokens == 7


def test_a_completed_stream_that_is_left_is_closed(llm):
    stream = enable(llm).stream_chat(ASK)
    next(stream)
    stream.close()
    del stream
    assert list(enable(llm).stream_chat(ASK))[-1].message.content == "Thirty days."
