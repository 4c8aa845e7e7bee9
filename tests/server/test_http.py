"""The server as a server: errors, bad bodies, visibility, time, secrets."""

import json
import threading
import time

import anthropic
import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.server import Reply, Simulator, SimulatorClock
from prefixcache_integrations.server.app import Pace

PATHS = {
    "/v1/messages": {"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "hi"},
    "/openai/deployments/gpt-4o-mini/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
}
KEY = {"authorization": "Bearer key"}


@pytest.fixture
def post(simulator):
    with httpx2.Client(base_url=simulator.base_url("anthropic"), timeout=30) as client:

        def send(path, content, headers=KEY):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            return client.post(path, content=body, headers=headers)

        yield send


@pytest.mark.parametrize("path", PATHS)
def test_a_plain_request_is_answered(post, path):
    assert post(path, PATHS[path]).status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/messages", "x-api-key header is required"),
        ("/v1/chat/completions", "You didn't provide an API key."),
        ("/openai/deployments/gpt-4o-mini/chat/completions", "Access denied due to invalid subscription key"),
    ],
)
def test_without_a_key_access_is_denied_in_the_providers_shape(post, path, message):
    answer = post(path, PATHS[path], headers={})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize("path", ["/", "/v1/embeddings", "/v1/messages/batches", "/openai/deployments/x/embeddings"])
def test_an_unknown_path_is_not_found_in_the_providers_shape(post, path):
    answer = post(path, {})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"messages": ' + b"[" * 100_000,
    b'{"model": "\xff"}',
    b'{"model": "m", "max_tokens": 5, "messages": "hi", "input": 5}',
    b'{"model": "m", "max_tokens": 5, "messages": [5], "input": [5]}',
    b'{"model": "m", "max_tokens": 5, "messages": [{"role": "narrator", "content": "hi"}], "input": [{"role": "narrator"}]}',
    b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": 5}], "input": [{"role": "user", "content": 5}]}',
    b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "\\ud800"}], "input": "\\ud800"}',
    b'{"model": "m", "max_tokens": 5, "tools": [{}], "messages": [{"role": "user", "content": "hi"}], "input": "hi"}',
    b'{"model": "m", "max_tokens": 5, "tools": {}, "messages": [{"role": "user", "content": "hi"}], "input": {}}',
]


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("path", PATHS)
def test_a_malformed_body_is_refused_in_the_providers_shape(post, path, content):
    answer = post(path, content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [path for path in PATHS if path.startswith("/v1")])
@pytest.mark.parametrize("model", [5, None, ""])
def test_a_body_without_a_model_is_refused(post, path, model):
    assert post(path, {**PATHS[path], "model": model}).status_code == 400


def test_a_message_of_a_million_characters_is_counted(post):
    for text in ("word " * 200_000, "a" * 1_000_000):
        answer = post("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
        assert answer.status_code == 200
        assert answer.json()["usage"]["prompt_tokens"] > 100_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["user", "text", "tool", "function"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "type", "text", "name", "tool_calls", "cache_control", "ttl", "source", "input", "id",
             "call_id", "output", "function", "image_url", "arguments", "tool_use_id", "prompt_cache_breakpoint"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
FIELDS = ["messages", "input", "system", "instructions", "tools", "tool_choice", "cache_control", "max_tokens", "stream",
          "prompt_cache_options", "prompt_cache_retention", "stream_options", "thinking", "response_format", "text",
          "prompt_cache_key", "metadata", "output_config", "diagnostics"]  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(sorted(PATHS)), changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3)
)
def test_no_body_brings_the_server_down(post, path, changes):
    """Law: whatever is put into a valid body, the answer is an answer or a refusal, never a fault of the server."""
    answer = post(path, {**PATHS[path], **changes})
    assert answer.status_code in (200, 400), answer.text


def test_ids_are_unique_and_the_same_in_every_run(tokenizer):
    runs = []
    for _ in range(2):
        with (
            Simulator(tokenizer=tokenizer) as simulator,
            openai.OpenAI(base_url=simulator.base_url("openai"), api_key="key") as client,
        ):
            answers = [
                client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
                for _ in range(2)
            ]
        runs.append([answer.id for answer in answers])
    assert runs[0] == runs[1] == ["chatcmpl-sim-0001", "chatcmpl-sim-0002"]


def static(text):
    system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    return {**PATHS["/v1/messages"], "system": system}


def test_parallel_cold_requests_all_write_and_the_next_one_reads(tokenizer, text_of):
    together = threading.Barrier(3)
    answered = []

    def model(_):
        if len(answered) < 3:
            together.wait(timeout=10)
        answered.append(1)
        return Reply(text="ok")

    with (
        Simulator(tokenizer=tokenizer, model=model) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client,
    ):
        call = static(text_of(1500))
        threads = [threading.Thread(target=client.messages.create, kwargs=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.messages.create(**call)
        usages = [call.usage for call in simulator.calls]
    assert [usage.cache_write_tokens for usage in usages] == [1500, 1500, 1500, 0]
    assert [usage.cache_read_tokens for usage in usages] == [0, 0, 0, 1500]


def test_a_stream_is_readable_from_its_first_event(tokenizer, text_of):
    with (
        Simulator(tokenizer=tokenizer, pace=Pace(event=0.05)) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client,
    ):
        call = static(text_of(1500))
        stream = client.messages.create(**call, stream=True)
        next(iter(stream))
        second = client.messages.create(**call)
        stream.close()
    assert second.usage.cache_read_input_tokens == 1500


def test_a_request_that_is_given_up_before_it_begins_leaves_nothing(tokenizer, text_of):
    answering, given_up = threading.Event(), threading.Event()

    def model(_):
        if not answering.is_set():
            answering.set()
            given_up.wait(timeout=10)
            time.sleep(0.1)  # until the server has seen the connection close
        return Reply(text="ok")

    with Simulator(tokenizer=tokenizer, model=model) as simulator:
        options = {"base_url": simulator.base_url("anthropic"), "api_key": "key", "max_retries": 0}
        call = static(text_of(1500))
        with anthropic.Anthropic(**options, timeout=0.3) as impatient, pytest.raises(anthropic.APITimeoutError):
            impatient.messages.create(**call)
        given_up.set()
        time.sleep(0.3)
        with anthropic.Anthropic(**options) as patient:
            assert patient.messages.create(**call).usage.cache_read_input_tokens == 0
        assert len(simulator.calls) == 1


def test_a_lifetime_counts_from_the_start_of_the_request(tokenizer, text_of):
    clock = SimulatorClock()

    def slow(_):
        clock.advance(200)
        return Reply(text="ok")

    with (
        Simulator(tokenizer=tokenizer, model=slow, clock=clock) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client,
    ):
        call = static(text_of(1500))
        reads = []
        for idle in (0, 99, 100):
            clock.advance(idle)
            reads.append(client.messages.create(**call).usage.cache_read_input_tokens)
    assert reads == [0, 1500, 0]


def test_the_clock_moves_over_http_and_only_forward(simulator, post):
    before = simulator.clock.now()
    assert post("/_simulator/clock", {"advance": 301}).json() == {"now": before + 301}
    for wrong in ({"advance": -1}, {"advance": "soon"}, {}, {"advance": "nan"}, []):
        assert post("/_simulator/clock", wrong).status_code == 400
    assert simulator.clock.now() == before + 301


def test_a_real_clock_runs_by_itself():
    clock = SimulatorClock(real_time=True)
    before = clock.now()
    time.sleep(0.02)
    assert clock.now() >= before + 0.02


def test_calls_are_kept_as_they_came_without_secrets(simulator, post):
    sent = PATHS["/v1/messages"]
    headers = {"x-api-key": "secret-1", "api-key": "secret-2", "cookie": "secret-3", "x-app": "mine"}
    post("/v1/messages", sent, headers=headers)
    post("/v1/messages", b"{")
    good, bad = simulator.calls
    assert (good.path, good.body, good.status) == ("/v1/messages", sent, 200)
    assert good.headers["x-app"] == "mine"
    assert "secret" not in repr(good)
    assert (bad.status, bad.usage, bad.body) == (400, None, None)
    assert bad.error == "We could not parse the JSON body of your request"


def test_reset_forgets_calls_and_entries(simulator, claude, text_of):
    call = static(text_of(1500))
    claude.messages.create(**call)
    simulator.reset()
    assert simulator.calls == ()
    assert claude.messages.create(**call).usage.cache_read_input_tokens == 0


@pytest.mark.parametrize("advance", ["inf", "301", 1e308, -1, None, [], b'{"advance": NaN}'])
def test_a_step_that_no_clock_can_take_is_refused_and_harms_nothing(post, simulator, claude, text_of, advance):
    body = advance if isinstance(advance, bytes) else json.dumps({"advance": advance}).encode()
    before = simulator.clock.now()
    assert post("/_simulator/clock", body).status_code == 400
    assert simulator.clock.now() == before
    assert claude.messages.create(**static(text_of(10))).usage.input_tokens


def test_a_stopped_simulator_starts_again(tokenizer):
    simulator = Simulator(tokenizer=tokenizer)
    for _ in range(2):
        with simulator, httpx2.Client() as client:
            url = simulator.base_url("openai") + "/responses"
            assert client.post(url, json=PATHS["/v1/responses"], headers=KEY).status_code == 200
    with pytest.raises(ConfigurationError, match="not running"):
        simulator.base_url("openai")


@pytest.mark.parametrize("host", ["192.168.1.1", "::", "example.com"])
def test_only_loopback_is_served(host):
    with pytest.raises(ConfigurationError, match="loopback"):
        Simulator(host=host)
