"""Usage by LlamaIndex's events against what the simulator billed, in every way to call an LLM."""

import asyncio
from contextlib import aclosing, closing
from datetime import date

import pytest
from llama_index.core import ChatPromptTemplate, Settings
from llama_index.core.base.llms.types import CacheControl, CachePoint, TextBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.mock import MockLLM
from pydantic import BaseModel

from prefixcache_integrations.events import UsageRecorded
from prefixcache_integrations.llama_index import CachedTokensEventHandler, PrefixCacheEvent, enable
from prefixcache_integrations.prices import PriceBook

LONG = "The handbook says that lamps are taken back within thirty days. " * 150
MESSAGES = [ChatMessage(role="system", content=LONG), ChatMessage(content="How long for lamps?")]


async def achat(llm):
    await llm.achat(MESSAGES)


async def acomplete(llm):
    await llm.acomplete(LONG)


async def astream_chat(llm):
    [piece async for piece in await llm.astream_chat(MESSAGES)]


async def astream_complete(llm):
    [piece async for piece in await llm.astream_complete(LONG)]


class Term(BaseModel):
    days: int


PROMPT = ChatPromptTemplate(message_templates=[*MESSAGES[:1], ChatMessage(content="How long for {thing}?")])


async def astructured(llm):
    await llm.astructured_predict(Term, PROMPT, thing="lamps")


async def astream_structured(llm):
    [piece async for piece in await llm.astream_structured_predict(Term, PROMPT, thing="lamps")]


async def achat_structured(llm):
    await llm.as_structured_llm(Term).achat(MESSAGES)


STYLES = {
    "chat": lambda llm: llm.chat(MESSAGES),
    "achat": achat,
    "stream_chat": lambda llm: list(llm.stream_chat(MESSAGES)),
    "astream_chat": astream_chat,
    "complete": lambda llm: llm.complete(LONG),
    "acomplete": acomplete,
    "stream_complete": lambda llm: list(llm.stream_complete(LONG)),
    "astream_complete": astream_complete,
    "structured_predict": lambda llm: llm.structured_predict(Term, PROMPT, thing="lamps"),
    "astructured_predict": astructured,
    "stream_structured_predict": lambda llm: list(llm.stream_structured_predict(Term, PROMPT, thing="lamps")),
    "astream_structured_predict": astream_structured,
    "as_structured_llm": lambda llm: llm.as_structured_llm(Term).complete(LONG),
    "as_structured_llm, awaited": achat_structured,
}
PROVIDERS = ("openai", "claude", "responses")


@pytest.fixture
def handler(handlers):
    made = CachedTokensEventHandler()
    handlers(made)
    return made


def run(style, llm):
    result = STYLES[style](llm)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def billed(call):
    usage = call.usage
    return (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens or 0, usage.output_tokens)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("style", STYLES)
def test_usage_is_what_was_billed(simulator, llms, handler, provider, style):
    llm = enable(getattr(llms, provider)())
    run(style, llm)
    run(style, llm)
    assert [billed(call) for call in handler.calls] == [billed(call) for call in simulator.calls]
    assert len(handler.calls) == 2
    assert handler.calls[1].usage.cache_read_tokens > 1000
    assert all(call.cost is not None for call in handler.calls)
    assert handler.totals.calls == 2


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("style", STYLES)
def test_a_hit_is_a_hit_and_no_usage(simulator, llms, handler, provider, style):
    llm = enable(getattr(llms, provider)(), cache="memory://")
    run(style, llm)
    run(style, llm)
    assert [call.outcome for call in handler.calls] == ["provider", "response_cache"]
    assert (handler.totals.calls, handler.totals.hits) == (1, 1)
    assert handler.totals.input_tokens == simulator.calls[0].usage.input_tokens


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_a_stream_that_is_left_is_counted_once_and_unknown(llms, handler, provider, method):
    llm = enable(getattr(llms, provider)())
    with closing(getattr(llm, method)(MESSAGES if method == "stream_chat" else LONG)) as stream:
        next(stream)
    del stream
    assert [call.outcome for call in handler.calls] == ["abandoned"]
    assert handler.totals.unknown["input_tokens"] == 1


def point(ttl):
    return CachePoint(cache_control=CacheControl(type="ephemeral", ttl=ttl))


@pytest.mark.parametrize("laid_out", [False, True])
@pytest.mark.parametrize("ttls", [("1h",), ("5m",), ("1h", "5m")], ids=str)
def test_a_claude_streams_writes_cost_what_was_billed_for_their_lifetime(simulator, llms, handlers, ttls, *, laid_out):
    prices, day = PriceBook(genai_prices=False), date(2026, 11, 21)
    handler = CachedTokensEventHandler(prices=prices, today=lambda: day)
    handlers(handler)
    blocks = [block for ttl in ttls for block in (TextBlock(text=f"{ttl} {LONG}"), point(ttl))]
    llm = enable(llms.claude()) if laid_out else llms.claude()
    list(llm.stream_chat([ChatMessage(role="user", blocks=blocks)]))

    [call] = simulator.calls
    if laid_out or len(ttls) == 1:
        assert handler.totals.cost == prices.cost(call.usage, "claude-sonnet-4-5", on=day) > 0
    else:
        assert handler.totals.unknown["cost"] == 1
    assert handler.totals.cache_write_tokens == call.usage.cache_write_tokens > 1_000


async def test_an_awaited_stream_that_is_left_is_counted_too(llms, handler):
    async with aclosing(await enable(llms.openai()).astream_chat(MESSAGES)) as stream:
        await anext(stream)
    assert [call.outcome for call in handler.calls] == ["abandoned"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("method", ["achat", "acomplete"])
async def test_a_cancelled_call_is_counted_once_and_unknown(llms, handler, provider, method):
    llm = getattr(llms, provider)()
    task = asyncio.create_task(getattr(llm, method)(MESSAGES if method == "achat" else LONG))
    while not handler._open:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [call.outcome for call in handler.calls] == ["abandoned"]
    assert (handler.totals.calls, handler.totals.unknown["cost"]) == (1, 1)


def test_a_plain_stream_that_openai_was_not_asked_about_is_unknown(llms, handler):
    list(llms.openai().stream_chat(MESSAGES))
    assert handler.calls[0].usage.input_tokens is None
    assert handler.totals.unknown["input_tokens"] == 1


def test_a_refused_call_has_failed(llms, handler):
    with pytest.raises(Exception, match="400"):
        enable(llms.claude(additional_kwargs={"temperature": "hot"})).chat(
            [ChatMessage(content="x")], tools=[{"name": "", "input_schema": 3}]
        )
    assert [call.outcome for call in handler.calls] == ["failed"]
    assert handler.totals.calls == 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_calls_between_and_before_the_pieces_of_a_stream_are_counted_beside_it(simulator, llms, handler, provider):
    llm = enable(getattr(llms, provider)())
    streams = [llm.stream_complete(LONG), llm.stream_chat(MESSAGES)]
    llm.complete("Once.")
    for stream in streams:
        next(stream)
        llm.chat([ChatMessage(content="And now?")])
        list(stream)
    assert sorted(map(billed, handler.calls)) == sorted(map(billed, simulator.calls))


@pytest.mark.parametrize("method", ["chat", "complete"])
def test_a_call_that_fails_inside_another_has_failed_once(llms, handler, method):
    llm = enable(llms.claude(additional_kwargs={"tools": [{"name": "", "input_schema": 3}]}))
    with pytest.raises(Exception, match="400"):
        getattr(llm, method)(MESSAGES if method == "chat" else LONG)
    assert [call.outcome for call in handler.calls] == ["failed"]


def test_an_llm_around_another_is_not_counted_beside_it(simulator, llms, handler):
    enable(llms.openai()).as_structured_llm(Term).chat(MESSAGES)
    assert list(map(billed, handler.calls)) == list(map(billed, simulator.calls))


def test_structured_outputs_at_the_same_time_each_have_their_own_tokens(simulator, llms, handler):
    llm = enable(llms.claude())

    async def ask(thing):
        prompt = ChatPromptTemplate(message_templates=[ChatMessage(content=f"{thing} " * (10 + 30 * len(thing)))])
        await asyncio.gather(llm.astructured_predict(Term, prompt), llm.achat([ChatMessage(content=thing)]))

    async def all_at_once():
        await asyncio.gather(*map(ask, ("a", "bb", "ccc")))

    asyncio.run(all_at_once())
    assert sorted(map(billed, handler.calls)) == sorted(map(billed, simulator.calls))
    assert len(handler.calls) == 6


def test_without_a_layout_the_tokens_of_native_structured_outputs_are_unknown(llms, handler):
    enable(llms.claude(), layout=None).structured_predict(Term, PROMPT, thing="lamps")
    [call] = handler.calls
    assert call.usage.input_tokens is None
    assert handler.totals.unknown["input_tokens"] == 1


def test_a_structured_output_that_is_refused_has_failed(llms, handler):
    wrong = {"extra_body": {"tools": [{"name": "", "input_schema": 3}]}}
    with pytest.raises(Exception, match="400"):
        enable(llms.claude()).structured_predict(Term, PROMPT, wrong, thing="lamps")
    assert [call.outcome for call in handler.calls] == ["failed"]


def test_observers_and_llama_index_hear_of_it(llms, handlers):
    told, seen = [], []
    handlers(CachedTokensEventHandler(observers=[told.append], app="shop"))
    handlers(Listener(seen))
    enable(llms.openai()).chat(MESSAGES)
    [fact] = told
    assert isinstance(fact, UsageRecorded)
    assert fact.labels.app == "shop"
    [event] = [event for event in seen if isinstance(event, PrefixCacheEvent) and event.fact == "UsageRecorded"]
    assert event.details["usage"]["input_tokens"] == fact.usage.input_tokens


def test_the_report_has_a_row_per_call_and_the_sum(simulator, llms, handler):
    llm = enable(llms.claude(), cache="memory://")
    for _ in range(2):
        llm.chat(MESSAGES)
    list(llms.openai().stream_chat(MESSAGES))
    with pytest.raises(Exception, match="400"):
        llm.chat(MESSAGES, tools=[{"name": "", "input_schema": 3}])
    _, _, answered, hit, unasked, failed, _, total = handler.report().splitlines()
    assert f"{simulator.calls[0].usage.input_tokens:,}" in answered
    assert "response cache" in hit
    assert "the provider did not say" in unasked
    assert "failed: BadRequestError" in failed
    assert total.strip().startswith("2 calls, 1 hits")
    assert "1 calls without usage" in total


def test_llms_without_a_provider_are_counted_with_unknown_usage(handler):
    MockLLM().chat(MESSAGES)
    assert handler.calls[0].usage.input_tokens is None


def test_the_token_counter_of_llama_index_keeps_working(simulator, llms):
    counter = TokenCountingHandler(tokenizer=str.split)
    Settings.callback_manager = CallbackManager([counter])
    llm = llms.openai()
    llm.callback_manager = Settings.callback_manager
    enable(llm, cache="memory://")
    llm.chat(MESSAGES)
    llm.chat(MESSAGES)
    assert counter.prompt_llm_token_count == simulator.calls[0].usage.input_tokens


class Listener:
    """An event handler as LlamaIndex accepts it: anything that handles."""

    def __new__(cls, seen):
        from llama_index.core.instrumentation.event_handlers import BaseEventHandler

        class Hears(BaseEventHandler):
            def handle(self, event, **kwargs):
                seen.append(event)

        return Hears()
