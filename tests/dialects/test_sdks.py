"""The bytes that the dialects write, read by the providers' own SDKs over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

from prefixcache_integrations.canonical import Part, Response, Usage
from prefixcache_integrations.dialects import resolve, sse

USAGE = Usage(
    input_tokens=2000, cache_read_tokens=1500, cache_write_tokens=300, output_tokens=12,
)  # fmt: skip
TEXT = "I look both up, one after the other, and come back to you."
ARGUMENTS = {"place": "Keswick", "days": [1, 2, 3], "note": "weather „permitting“"}


class Provider(BaseHTTPRequestHandler):
    """Answers every request on a dialect's path with the same composed response, or an error where asked for one."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        dialect = resolve(self.path)
        assert dialect is not None
        if dialect.decode_request(body).model == "missing":
            self.send(404, "application/json", [json.dumps(dialect.error_body(404, "No such model.")).encode()])
            return
        call = Part(kind="tool_call", raw={}, text=json.dumps(ARGUMENTS), call_id="call_1", name="weather")
        parts = (Part(kind="text", raw={}, text=TEXT), call)
        response = Response(
            dialect=dialect.name, id="r_1", model=body["model"], parts=parts, stop_reason="tool_calls", usage=USAGE
        )
        if body.get("stream"):
            asked = bool(body.get("stream_options", {}).get("include_usage"))
            events = dialect.encode_stream(response, include_usage=asked)
            self.send(200, "text/event-stream", list(sse.format_stream(dialect.name, events)))
        else:
            self.send(200, "application/json", [json.dumps(dialect.encode_response(response)).encode()])

    def send(self, status: int, media_type: str, chunks: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(sum(map(len, chunks))))
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(chunk)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
        yield client


MESSAGES: Any = [{"role": "user", "content": "Saturday near Keswick?"}]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_anthropic_sdk_reads_messages(claude: anthropic.Anthropic, streamed: bool) -> None:
    if streamed:
        with claude.messages.stream(model="claude-opus-5-5", max_tokens=100, messages=MESSAGES) as stream:
            message: Any = stream.get_final_message()
    else:
        message = claude.messages.create(model="claude-opus-5-5", max_tokens=100, messages=MESSAGES)
    text, call = message.content
    assert (text.text, call.name, call.id, call.input) == (TEXT, "weather", "call_1", ARGUMENTS)
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (200, 1500, 300)
    assert usage.output_tokens == 12


@pytest.mark.parametrize("streamed", [False, True])
def test_the_openai_sdk_reads_chat_completions(gpt: openai.OpenAI, streamed: bool) -> None:
    if streamed:
        with gpt.chat.completions.stream(
            model="gpt-5.6-terra", messages=MESSAGES, stream_options={"include_usage": True}
        ) as stream:
            completion: Any = stream.get_final_completion()
    else:
        completion = gpt.chat.completions.create(model="gpt-5.6-terra", messages=MESSAGES)
    message = completion.choices[0].message
    assert message.content == TEXT
    assert json.loads(message.tool_calls[0].function.arguments) == ARGUMENTS
    assert completion.choices[0].finish_reason == "tool_calls"
    details = completion.usage.prompt_tokens_details
    assert (completion.usage.prompt_tokens, details.cached_tokens, details.cache_write_tokens) == (2000, 1500, 300)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_openai_sdk_reads_responses(gpt: openai.OpenAI, streamed: bool) -> None:
    if streamed:
        with gpt.responses.stream(model="gpt-6-sol", input="Saturday near Keswick?") as stream:
            response: Any = stream.get_final_response()
    else:
        response = gpt.responses.create(model="gpt-6-sol", input="Saturday near Keswick?")
    assert response.output_text == TEXT
    assert json.loads(response.output[1].arguments) == ARGUMENTS
    details = response.usage.input_tokens_details
    assert (response.usage.input_tokens, details.cached_tokens, details.cache_write_tokens) == (2000, 1500, 300)


def test_the_sdks_raise_their_own_errors(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with pytest.raises(anthropic.NotFoundError, match="No such model"):
        claude.messages.create(model="missing", max_tokens=1, messages=MESSAGES)
    with pytest.raises(openai.NotFoundError, match="No such model"):
        gpt.chat.completions.create(model="missing", messages=MESSAGES)
