import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from uuid import uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import AnswerTimed, UsageRecorded
from prefixcache_integrations.langchain.cache import ResponseCache
from prefixcache_integrations.langchain.callbacks import CachedTokensHandler
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.stores.memory import MemoryStore

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
DAY = date(2026, 11, 21)


@pytest.fixture
def handler():
    return CachedTokensHandler(prices=PriceBook(genai_prices=False), today=lambda: DAY)


def marked(**first):
    return [
        SystemMessage([{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", **first}}]),
        HumanMessage([{"type": "text", "text": "Where is it?", "cache_control": {"type": "ephemeral"}}]),
    ]


PLAIN = [SystemMessage(LONG), HumanMessage("Where is it?")]


def seen_by(simulator):
    """What the simulator itself says of each call, without the lifetimes."""
    return [parts(call.usage) for call in simulator.calls]


def parts(usage):
    return usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens or 0, usage.output_tokens


def recorded(handler):
    return [parts(call.usage) for call in handler.calls]


CASES = {
    "claude": (lambda models: models.claude(), marked()),
    "chat": (lambda models: models.openai(), PLAIN),
    "responses": (lambda models: models.openai("gpt-5.6-luna", use_responses_api=True), PLAIN),
    "azure": (lambda models: models.azure(), PLAIN),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request, models):
    build, messages = request.param
    return build(models), messages


def check(simulator, handler):
    assert recorded(handler) == seen_by(simulator)
    assert handler.calls[1].usage.cache_read_tokens > 1_024
    assert handler.totals.calls == 2
    assert handler.totals.unknown.keys() <= {"cache_write_tokens"}
    assert handler.totals.savings > 0


def test_calls_are_recorded_as_the_provider_counted_them(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        model.invoke(messages, config={"callbacks": [handler]})
    check(simulator, handler)


async def test_awaited_calls_are_recorded_alike(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        await model.ainvoke(messages, config={"callbacks": [handler]})
    check(simulator, handler)


def test_streams_are_recorded_alike(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        list(model.stream(messages, config={"callbacks": [handler]}, **stream_usage(model)))
    check(simulator, handler)


async def test_awaited_streams_are_recorded_alike(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        async for _chunk in model.astream(messages, config={"callbacks": [handler]}, **stream_usage(model)):
            pass
    check(simulator, handler)


async def test_streamed_events_are_recorded_alike(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        events = model.astream_events(messages, config={"callbacks": [handler]}, version="v2", **stream_usage(model))
        async for _event in events:
            pass
    check(simulator, handler)


@pytest.mark.filterwarnings("ignore:.*beta")
def test_streams_of_typed_events_are_recorded_alike(case, simulator, handler):
    model, messages = case
    for _ in range(2):
        stream = model.stream_events(messages, config={"callbacks": [handler]}, version="v3", **stream_usage(model))
        assert stream.output.content
    check(simulator, handler)


def stream_usage(model):
    """Ask for usage, which langchain-openai leaves out of Chat Completions streams from other base URLs."""
    asks = isinstance(model, ChatOpenAI | AzureChatOpenAI) and not model.use_responses_api
    return {"stream_usage": True} if asks else {}


def test_claude_writes_keep_their_lifetimes(simulator, models, handler):
    models.claude().invoke(marked(ttl="1h"), config={"callbacks": [handler]})

    by_ttl = handler.calls[0].usage.cache_write_by_ttl

    assert by_ttl["1h"] > 1_024
    assert by_ttl["5m"] > 0
    assert sum(by_ttl.values()) == handler.calls[0].usage.cache_write_tokens


def test_a_stream_without_usage_is_unknown_not_zero(simulator, models, handler):
    list(models.openai().stream(PLAIN, config={"callbacks": [handler]}))

    assert handler.calls[0].usage == Usage(service_tier="default")
    assert handler.calls[0].cost is None
    assert handler.calls[0].note == "the provider did not say what this call consumed"
    assert handler.totals.unknown["input_tokens"] == 1


def test_a_short_prompt_is_told_how_many_tokens_it_lacks(simulator, models, handler):
    models.openai().invoke("Hello", config={"callbacks": [handler]})

    short = 1_024 - handler.calls[0].usage.input_tokens

    assert handler.calls[0].note == f"{short:,} tokens short of this model's minimum of 1,024"
    assert handler.calls[0].note in handler.report()


def test_a_long_prompt_that_was_not_cached_is_not_called_short(simulator, models, handler):
    models.openai().invoke(PLAIN, config={"callbacks": [handler]})

    assert handler.calls[0].note is None


def test_each_call_has_its_price_and_the_price_without_a_cache(simulator, models, handler):
    for _ in range(2):
        models.openai().invoke(PLAIN, config={"callbacks": [handler]})

    first, second = handler.calls
    usage = second.usage
    million = Decimal(1_000_000)
    plain = (usage.input_tokens * Decimal("0.15") + usage.output_tokens * Decimal("0.60")) / million
    assert first.cost == first.uncached_cost
    assert second.uncached_cost == plain
    assert second.cost == plain - usage.cache_read_tokens * Decimal("0.075") / million


def test_azure_calls_are_priced_as_azures(simulator, models, handler):
    models.azure().invoke(PLAIN, config={"callbacks": [handler]})

    assert handler.calls[0].model == "gpt-4o-mini"
    assert handler.calls[0].cost > 0


def test_an_unknown_model_costs_nothing_known(handler):
    FakeListChatModel(responses=["x"]).invoke("Hello", config={"callbacks": [handler]})

    assert handler.calls[0].cost is None
    assert handler.totals.unknown["cost"] == 1
    assert handler.totals.cost == 0


def test_observers_are_told_each_call_a_provider_answered(models):
    events = []
    handler = CachedTokensHandler(observers=[events.append], today=lambda: DAY)
    model = models.openai(cache=InMemoryCache())
    for _ in range(2):
        model.invoke(PLAIN, config={"callbacks": [handler]})

    assert [type(event) for event in events] == [UsageRecorded, AnswerTimed]
    assert events[0].usage == handler.calls[0].usage


def test_what_langchains_own_cache_answered_is_a_hit_without_tokens(simulator, models, handler):
    model = models.openai(cache=InMemoryCache())
    for _ in range(3):
        model.invoke(PLAIN, config={"callbacks": [handler]})

    assert [call.served for call in handler.calls] == ["provider", "other_cache", "other_cache"]
    assert (handler.totals.calls, handler.totals.hits) == (1, 2)
    assert handler.totals.input_tokens == simulator.calls[0].usage.input_tokens
    assert handler.calls[1].cost == 0


@pytest.mark.parametrize("awaited", [False, True])
async def test_what_the_response_cache_answered_is_a_hit_without_tokens(simulator, models, handler, awaited):
    model = models.claude(cache=ResponseCache(MemoryStore()))
    for _ in range(3):
        config = {"callbacks": [handler]}
        await model.ainvoke(marked(), config=config) if awaited else model.invoke(marked(), config=config)

    assert [call.served for call in handler.calls] == ["provider", "response_cache", "response_cache"]
    assert (handler.totals.calls, handler.totals.hits) == (1, 2)
    assert recorded(handler)[1:] == [(0, 0, 0, 0)] * 2
    assert handler.totals.input_tokens == simulator.calls[0].usage.input_tokens
    assert "response cache" in handler.report()


def test_a_failed_call_is_not_recorded_and_leaves_nothing_behind(simulator, models, handler):
    with pytest.raises(Exception, match="model"):
        models.openai("").invoke("Hello", config={"callbacks": [handler]})

    assert handler.calls == []
    assert not handler._runs


def test_runs_that_somebody_holds_for_good_do_not_pile_up(handler):
    held = [uuid4() for _ in range(10_050)]
    for run_id in held:
        handler.on_chat_model_start({}, [[]], run_id=run_id)

    assert (handler.unfinished, handler.totals.calls) == (10_000, 50)


def test_runs_that_nobody_holds_are_counted(handler):
    for _ in range(50):
        handler.on_chat_model_start({}, [[]], run_id=uuid4())

    assert (handler.unfinished, handler.totals.calls, handler.totals.unknown["cost"]) == (0, 50, 50)


def test_completion_models_are_recorded(handler):
    FakeListLLM(responses=["x"]).invoke("Hello", config={"callbacks": [handler]})

    assert handler.calls[0].usage == Usage()


@pytest.mark.parametrize(
    "result",
    [
        LLMResult(generations=[]),
        LLMResult(generations=[[]]),
        LLMResult(generations=[[ChatGeneration(message=HumanMessage("x"))]]),
        LLMResult(
            generations=[[ChatGeneration(message=AIMessage("x", response_metadata={"model_name": 7, "usage": "?"}))]]
        ),
        LLMResult(generations=[[ChatGeneration(message=AIMessage("x", response_metadata={"prefixcache": "?"}))]]),
    ],
)
def test_strange_results_are_recorded_as_unknown(handler, result):
    handler.on_llm_end(result, run_id=uuid4())

    assert handler.calls[0].usage == Usage()


def test_only_the_latest_calls_are_kept_but_all_are_summed(models):
    handler = CachedTokensHandler(keep=2)
    for number in range(5):
        models.openai().invoke(f"Hello {number}", config={"callbacks": [handler]})

    assert len(handler.calls) == 2
    assert handler.totals.calls == 5


def test_threads_lose_no_call(simulator, models, handler):
    model = models.openai()
    start = threading.Barrier(8)

    def ask(number):
        start.wait()
        model.invoke(f"Hello {number}", config={"callbacks": [handler]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))

    assert handler.totals.calls == 8
    assert handler.totals.input_tokens == sum(call.usage.input_tokens for call in simulator.calls)


async def test_tasks_lose_no_call(simulator, models, handler):
    model = models.claude()
    await asyncio.gather(*(model.ainvoke(f"Hello {n}", config={"callbacks": [handler]}) for n in range(8)))

    assert handler.totals.calls == 8


def test_the_report_has_a_row_per_call_and_the_totals(simulator, models, handler):
    for _ in range(2):
        models.openai().invoke(PLAIN, config={"callbacks": [handler]})
    list(models.openai().stream(PLAIN, config={"callbacks": [handler]}))

    lines = handler.report().splitlines()

    assert len(lines) == 7
    assert f"{handler.calls[1].usage.cache_read_tokens:,}" in lines[3]
    assert "?" in lines[4]
    assert "3 calls, 0 hits" in lines[-1]
    assert "1 calls without usage" in lines[-1]
