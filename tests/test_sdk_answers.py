"""What laid-out clients tell of their answers, and how the streams of Claude end."""

import anthropic
import openai
import pydantic
import pytest

from prefixcache_integrations.sdk_answers import listening
from prefixcache_integrations.sdk_hooks import lay_out_client
from prefixcache_integrations.server import Reply, Simulator

CLAUDE, GPT = "claude-sonnet-4-6", "gpt-4o-mini"
ASK = [{"role": "user", "content": "Why? " * 1500}]
SETTINGS = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}


class Verdict(pydantic.BaseModel):
    fine: bool


def answer(request):
    return Reply(json={"fine": True}) if "format" in repr(request.options) else Reply(text="Because.")


@pytest.fixture(scope="module")
def server():
    with Simulator(model=answer) as running:
        yield running


@pytest.fixture
def claude(simulator):
    with anthropic.Anthropic(base_url=simulator.base_url("anthropic"), **SETTINGS) as client:
        yield client


@pytest.fixture
def gpt(simulator):
    with openai.OpenAI(base_url=simulator.base_url("openai"), **SETTINGS) as client:
        yield client


CALLS = {
    "claude": lambda claude, gpt: claude.messages.create(model=CLAUDE, max_tokens=9, messages=ASK),
    "claude, parsed": lambda claude, gpt: claude.messages.parse(
        model=CLAUDE, max_tokens=9, messages=ASK, output_format=Verdict
    ),
    "claude, beta": lambda claude, gpt: claude.beta.messages.create(model=CLAUDE, max_tokens=9, messages=ASK),
    "claude, raw": lambda claude, gpt: claude.messages.with_raw_response.create(
        model=CLAUDE, max_tokens=9, messages=ASK
    ),
    "chat": lambda claude, gpt: gpt.chat.completions.create(model=GPT, messages=ASK),
    "chat, parsed": lambda claude, gpt: gpt.chat.completions.parse(model=GPT, messages=ASK, response_format=Verdict),
    "responses": lambda claude, gpt: gpt.responses.create(model=GPT, input=ASK),
    "responses, parsed": lambda claude, gpt: gpt.responses.parse(model=GPT, input=ASK, text_format=Verdict),
}


@pytest.mark.parametrize("call", CALLS)
def test_who_listens_is_told_what_was_billed(simulator, claude, gpt, call):
    told = []
    with listening(lambda *said: told.append(said)):
        CALLS[call](lay_out_client(claude), lay_out_client(gpt))
    [(usage, model)] = told
    billed = simulator.calls[0].usage
    assert usage.input_tokens == billed.input_tokens > 1000
    assert (usage.cache_read_tokens, usage.output_tokens) == (billed.cache_read_tokens, billed.output_tokens)
    assert model == simulator.calls[0].request.model


def test_nobody_is_told_outside_and_of_other_calls(claude, gpt):
    told = []
    laid_out = lay_out_client(gpt)
    with listening(lambda *said: told.append(said)):
        CALLS["chat"](claude, gpt)
        list(laid_out.chat.completions.create(model=GPT, messages=ASK, stream=True))
    CALLS["chat"](claude, laid_out)
    assert told == []


async def test_awaiting_clients_tell_too(simulator):
    told = []
    async with (
        anthropic.AsyncAnthropic(base_url=simulator.base_url("anthropic"), **SETTINGS) as claude,
        openai.AsyncOpenAI(base_url=simulator.base_url("openai"), **SETTINGS) as gpt,
    ):
        with listening(lambda *said: told.append(said)):
            await lay_out_client(claude).messages.create(model=CLAUDE, max_tokens=9, messages=ASK)
            await lay_out_client(gpt).chat.completions.create(model=GPT, messages=ASK)
    assert [usage.input_tokens for usage, _ in told] == [call.usage.input_tokens for call in simulator.calls]


def last_usage(events):
    return next(event.usage for event in events if event.type == "message_delta")


def test_claudes_streams_end_with_the_lifetimes_of_their_writes_where_usage_is_asked_for(claude):
    def ask(**settings):
        client = lay_out_client(claude, **settings)
        marked = [{"type": "text", "text": "Why? " * 1500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        messages = [{"role": "user", "content": marked}]
        return last_usage(client.messages.create(model=CLAUDE, max_tokens=9, messages=messages, stream=True))

    completed = ask(stream_usage=True)
    assert completed.cache_creation.ephemeral_1h_input_tokens == completed.cache_creation_input_tokens > 1000
    assert getattr(ask(), "cache_creation", None) is None


def test_completed_streams_are_streams_of_the_sdk_and_add_up_as_before(claude):
    client = lay_out_client(claude, stream_usage=True)
    stream = client.messages.create(model=CLAUDE, max_tokens=9, messages=ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    stream.close()
    with client.messages.stream(model=CLAUDE, max_tokens=9, messages=ASK) as events:
        assert events.get_final_text() == "Because."
