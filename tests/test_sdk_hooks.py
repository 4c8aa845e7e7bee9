"""Plans on the wire, put there through the real SDKs' clients, against the simulator."""

import copy
import gc
import importlib
import json
import threading
from types import SimpleNamespace

import anthropic
import openai
import pydantic
import pytest

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import PrefixBroken, PromptPlanned
from prefixcache_integrations.sdk_hooks import ClientLayout, lay_out_client
from prefixcache_integrations.server import Reply, Simulator
from prefixcache_integrations.testing import assert_reads

RULES = "Answer from the handbook, and say which page. " * 250
HANDBOOK = "Returns are taken back within thirty days, with the receipt. " * 250
CLAUDE, GPT, OLD_GPT = "claude-sonnet-4-6", "gpt-5.6-luna", "gpt-4o-mini"
NAMES = ("zebra", "apple", "mango")
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
CLAUDE_TOOLS = [{"name": name, "description": f"Search {name}. " * 120, "input_schema": SCHEMA} for name in NAMES]
OPENAI_TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"Search {name}. " * 120, "parameters": SCHEMA}}
    for name in NAMES
]
SETTINGS = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}


class Verdict(pydantic.BaseModel):
    fine: bool


@pytest.fixture(scope="module")
def server():
    with Simulator(deployments={"ours": OLD_GPT}) as running:
        yield running


@pytest.fixture
def clients(simulator):
    """Open every kind of client on the simulator; the caller's layout is put on by the test."""
    anthropic_url, openai_url = simulator.base_url("anthropic"), simulator.base_url("openai")
    opened = SimpleNamespace(
        claude=anthropic.Anthropic(base_url=anthropic_url, **SETTINGS),
        aclaude=anthropic.AsyncAnthropic(base_url=anthropic_url, **SETTINGS),
        gpt=openai.OpenAI(base_url=openai_url, **SETTINGS),
        agpt=openai.AsyncOpenAI(base_url=openai_url, **SETTINGS),
        azure=openai.AzureOpenAI(
            azure_endpoint=simulator.base_url("azure"), azure_deployment="ours", api_version="2024-10-21", **SETTINGS
        ),
    )
    yield opened
    for client in (opened.claude, opened.gpt, opened.azure):
        client.close()


def user(content):
    return {"role": "user", "content": content}


def claude_call(question="Why?", **more):
    body = {"model": CLAUDE, "max_tokens": 64, "system": RULES, "tools": CLAUDE_TOOLS}
    return {
        **body,
        "messages": [user([{"type": "text", "text": HANDBOOK}, {"type": "text", "text": question}])],
        **more,
    }


def chat_call(question="Why?", model=GPT, **more):
    messages = [{"role": "system", "content": RULES}, user(question)]
    return {"model": model, "tools": OPENAI_TOOLS, "messages": messages, **more}


def marked(call):
    """Return where the body on the wire carries markers: of tools, of the system prompt, of messages."""
    request = dialects.resolve(call.path).decode_request(call.body)
    parts = [part for message in request.messages for part in message.parts]
    return [
        [index for index, block in enumerate(blocks) if block.marker]
        for blocks in (request.tools, request.system, parts)
    ]


def test_a_claude_client_marks_system_prompt_tools_and_documents(simulator, clients):
    client = lay_out_client(clients.claude)
    client.messages.create(**claude_call())
    client.messages.create(**claude_call("And why not?"))
    first, second = simulator.calls
    assert [tool["name"] for tool in first.body["tools"]] == sorted(NAMES)
    tools, system, messages = marked(first)
    assert tools + system
    assert messages
    assert_reads(second, at_least=0.5)


def test_an_openai_client_marks_system_prompts_and_orders_tools(simulator, clients):
    client = lay_out_client(clients.gpt)
    client.chat.completions.create(**chat_call())
    client.chat.completions.create(**chat_call("And why not?"))
    first, second = simulator.calls
    assert [tool["function"]["name"] for tool in first.body["tools"]] == sorted(NAMES)
    assert marked(first)[2]
    assert first.body["prompt_cache_key"] == second.body["prompt_cache_key"]
    assert_reads(second, at_least=0.9)


def test_responses_are_laid_out_too(simulator, clients):
    client = lay_out_client(clients.gpt)
    for question in ("Why?", "Why not?"):
        client.responses.create(model=GPT, input=[{"role": "developer", "content": RULES}, user(question)])
    first, second = simulator.calls
    assert marked(first)[2]
    assert_reads(second, at_least=0.9)


async def test_awaiting_clients_send_what_blocking_ones_do(simulator, clients):
    lay_out_client(clients.claude).messages.create(**claude_call())
    lay_out_client(clients.gpt).chat.completions.create(**chat_call())
    async with lay_out_client(clients.aclaude) as claude, lay_out_client(clients.agpt) as gpt:
        await claude.messages.create(**claude_call())
        await gpt.chat.completions.create(**chat_call())
    bodies = [call.body for call in simulator.calls]
    assert bodies[:2] == bodies[2:]
    assert any(marked(simulator.calls[2]))


def test_a_server_that_is_not_openais_gets_no_cache_key():
    sent = []

    def answer(request):
        sent.append(json.loads(request.content))
        return http.Response(400)

    http = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    for base_url in (None, "https://openrouter.ai/api/v1"):
        transport = http.Client(transport=http.MockTransport(answer))
        client = openai.OpenAI(base_url=base_url, http_client=transport, **SETTINGS)
        with client, pytest.raises(openai.BadRequestError):
            lay_out_client(client).chat.completions.create(**chat_call())
    ours, theirs = sent
    assert without(ours, "prompt_cache_key") == theirs != ours


def test_azure_deployments_are_planned_as_azure_models(simulator, clients):
    seen = []
    client = lay_out_client(clients.azure, observers=[seen.append])
    for question in ("Why?", "Why not?"):
        client.chat.completions.create(**chat_call(question, model="ours"))
    assert_reads(simulator.calls[1], at_least=0.8)
    assert all(isinstance(event, PromptPlanned) and event.plan.profile.startswith("azure") for event in seen)


def test_streamed_parsed_and_raw_calls_are_laid_out(simulator, clients):
    claude, gpt = lay_out_client(clients.claude), lay_out_client(clients.gpt)
    with claude.messages.stream(**claude_call()) as stream:
        assert stream.get_final_text()
    assert claude.messages.with_raw_response.create(**claude_call()).parse().content
    assert claude.beta.messages.create(**claude_call()).content
    assert gpt.chat.completions.with_raw_response.create(**chat_call()).parse().choices
    assert "".join(
        chunk.choices[0].delta.content or "" for chunk in gpt.chat.completions.create(**chat_call(stream=True))
    )
    assert all(any(marked(call)) for call in simulator.calls)


def test_structured_outputs_are_parsed_as_before(clients):
    with Simulator(model=lambda request: Reply(json={"fine": True})) as simulator:
        url = simulator.base_url("openai")
        with openai.OpenAI(base_url=url, **SETTINGS) as plain:
            client = lay_out_client(plain)
            made = client.chat.completions.parse(**chat_call(tools=openai.omit), response_format=Verdict)
    assert made.choices[0].message.parsed == Verdict(fine=True)
    assert marked(simulator.calls[0])[2]


def test_the_caller_s_arguments_are_not_changed(clients):
    for client, call in ((clients.claude, claude_call()), (clients.gpt, chat_call())):
        before = copy.deepcopy(call)
        resource = lay_out_client(client)
        (resource.messages if hasattr(resource, "messages") else resource.chat.completions).create(**call)
        assert call == before


def test_extra_body_is_part_of_what_is_planned(simulator, clients):
    lay_out_client(clients.claude).messages.create(**claude_call(extra_body={"system": HANDBOOK}))
    lay_out_client(clients.gpt).chat.completions.create(
        **chat_call(extra_body={"messages": [{"role": "system", "content": RULES}, user("Hi")]})
    )
    claude, gpt = simulator.calls
    texts = "".join(part.text for part in dialects.resolve(claude.path).decode_request(claude.body).system)
    assert texts == HANDBOOK
    assert len(gpt.body["messages"]) == 2
    assert any(marked(claude))
    assert any(marked(gpt))


def test_the_original_client_goes_on_as_it_is(simulator, clients):
    lay_out_client(clients.claude)
    lay_out_client(clients.gpt)
    clients.claude.messages.create(**claude_call())
    clients.gpt.chat.completions.create(**chat_call())
    assert [marked(call) for call in simulator.calls] == [[[], [], []]] * 2


def test_clients_derived_from_a_laid_out_one_are_laid_out(simulator, clients):
    lay_out_client(clients.claude).with_options(timeout=5).messages.create(**claude_call())
    lay_out_client(clients.gpt).with_options(timeout=5).chat.completions.create(**chat_call())
    assert all(any(marked(call)) for call in simulator.calls)


def test_one_layout_takes_the_place_of_another(simulator, clients):
    first, second = [], []
    for client in (clients.claude, clients.gpt):
        layout = ClientLayout(observers=[second.append])
        laid_out = layout.laid_out(lay_out_client(client, observers=[first.append]))
        assert layout.laid_out(laid_out) is laid_out
        if hasattr(laid_out, "messages"):
            laid_out.messages.create(**claude_call())
        else:
            laid_out.chat.completions.create(**chat_call())
    assert (len(first), len(second)) == (0, 2)


def test_every_attempt_of_a_retried_call_sends_the_same_body(clients):
    attempts = []

    def slow_at_first(request):
        attempts.append(request)
        if len(attempts) % 2:
            threading.Event().wait(0.4)
        return Reply(text="Because.")

    with Simulator(model=slow_at_first) as simulator:
        settings = {**SETTINGS, "max_retries": 1, "timeout": 0.2}
        with (
            anthropic.Anthropic(base_url=simulator.base_url("anthropic"), **settings) as claude,
            openai.OpenAI(base_url=simulator.base_url("openai"), **settings) as gpt,
        ):
            lay_out_client(claude).messages.create(**claude_call())
            lay_out_client(gpt).chat.completions.create(**chat_call())
    assert len(attempts) == 4
    assert attempts[0] == attempts[1]
    assert attempts[2] == attempts[3]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"stream": True}, {"include_usage": True}),
        (
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
        ),
        ({"stream": True, "stream_options": {"include_usage": False}}, {"include_usage": False}),
        ({}, None),
    ],
)
def test_usage_is_asked_of_streams_that_say_nothing_about_it(simulator, clients, options, asked):
    answer = lay_out_client(clients.gpt, stream_usage=True).chat.completions.create(
        **chat_call(model=OLD_GPT, **options)
    )
    if options:
        list(answer)
    assert simulator.calls[0].body.get("stream_options") == asked


def test_usage_is_not_asked_unless_wanted(simulator, clients):
    list(lay_out_client(clients.gpt).chat.completions.create(**chat_call(stream=True)))
    assert "stream_options" not in simulator.calls[0].body


@pytest.mark.parametrize("name", ["claude", "gpt", "gpt responses"])
def test_a_stream_that_is_left_is_closed_at_once(clients, name):
    client = lay_out_client(getattr(clients, name.split()[0]), stream_usage=True)
    calls = {
        "claude": lambda: client.messages.create(**claude_call(tools=[]), stream=True),
        "gpt": lambda: client.chat.completions.create(**chat_call(tools=[]), stream=True),
        "gpt responses": lambda: client.responses.create(model=GPT, input="Why?", stream=True),
    }
    gc.disable()  # the SDKs' own streams wait for the collector
    try:
        stream = calls[name]()
        response = stream.response
        next(stream)
        assert not response.is_closed
        del stream
        assert response.is_closed
    finally:
        gc.enable()


def test_other_endpoints_pass_through(simulator, clients):
    seen = []
    with pytest.raises(anthropic.NotFoundError):
        lay_out_client(clients.claude, observers=[seen.append]).messages.count_tokens(
            model=CLAUDE, messages=[user("Hi")]
        )
    with pytest.raises(openai.NotFoundError):
        lay_out_client(clients.gpt, observers=[seen.append]).models.list()
    assert seen == []


@pytest.mark.parametrize("thing", [object(), "client", openai])
def test_what_is_no_client_is_refused(thing):
    with pytest.raises(ConfigurationError, match="no client"):
        lay_out_client(thing)


def test_a_level_that_is_none_is_refused(clients):
    with pytest.raises(ConfigurationError, match="arrange"):
        lay_out_client(clients.gpt, level="arranged")


@pytest.mark.parametrize("name", ["claude", "gpt"])
def test_a_turn_that_will_not_read_what_the_last_one_left_is_told_before_it_is_sent(simulator, clients, name):
    events = []
    client = lay_out_client(getattr(clients, name), observers=[events.append])
    history = []
    for number, rules in enumerate([RULES, RULES, "Today is Friday. " + RULES]):
        history.append(user(f"Question {number}"))
        if name == "claude":
            body = {"model": CLAUDE, "max_tokens": 9, "system": rules, "messages": history}
            answer = client.messages.create(**body).content[0].text
        else:
            body = {"model": OLD_GPT, "messages": [{"role": "system", "content": rules}, *history]}
            answer = client.chat.completions.create(**body).choices[0].message.content
        history.append({"role": "assistant", "content": answer})

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    before, after = simulator.calls[1].usage, simulator.calls[2].usage
    left = before.input_tokens if name == "claude" else before.input_tokens // 128 * 128
    assert broken.reason == "system_changed"
    assert broken.lost_tokens == left - after.cache_read_tokens
