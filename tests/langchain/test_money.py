"""What the handler says that a call cost, against what the server bills for it."""

import inspect
import threading
from datetime import date
from decimal import Decimal

import pytest
from anthropic.resources.messages import Messages
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from msgspec.structs import replace
from openai import APITimeoutError

from prefixcache_integrations.langchain.callbacks import CachedTokensHandler
from prefixcache_integrations.langchain.chain import with_prompt_layout
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Price
from prefixcache_integrations.server import Reply, Simulator

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
DAY = date(2026, 11, 21)
BOOK = PriceBook(genai_prices=False, own={"our-deployment": Price.dollars("1", "8", "0")})
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
MINUTES = {"cache_control": {"type": "ephemeral"}}


@pytest.fixture(params=[False, True], ids=["plain", "diagnosed"])
def handler(request):
    return CachedTokensHandler(prices=BOOK, today=lambda: DAY, diagnose=request.param)


def prompt(system=None, question=None):
    return [
        SystemMessage([{"type": "text", "text": LONG, **(system or {})}]),
        HumanMessage([{"type": "text", "text": "Where is it?", **(question or {})}]),
    ]


def billed(simulator, model, provider="anthropic"):
    costs = [BOOK.cost(call.usage, model, provider=provider, on=DAY) for call in simulator.calls]
    assert None not in costs
    return sum(costs)


HOURLY = {
    "a block": (prompt(HOUR), {}),
    "two blocks": (prompt(HOUR, HOUR), {}),
    "an argument": (prompt(), HOUR),
}


@pytest.mark.parametrize(("messages", "arguments"), HOURLY.values(), ids=HOURLY)
def test_a_streams_writes_for_an_hour_cost_what_is_billed(simulator, models, handler, messages, arguments):
    for _ in range(2):
        list(models.claude().stream(messages, {"callbacks": [handler]}, **arguments))

    assert handler.totals.cache_write_by_ttl["1h"] > 1_024
    assert handler.totals.cost == billed(simulator, "claude-sonnet-4-6")


async def test_an_awaited_streams_writes_for_an_hour_cost_what_is_billed(simulator, models, handler):
    async for _ in models.claude().astream(prompt(HOUR), {"callbacks": [handler]}):
        pass

    assert handler.totals.cost == billed(simulator, "claude-sonnet-4-6")


def test_a_streams_writes_of_two_lifetimes_have_no_price(simulator, models, handler):
    list(models.claude().stream(prompt(HOUR, MINUTES), {"callbacks": [handler]}))

    assert handler.calls[0].usage.cache_write_tokens == simulator.calls[0].usage.cache_write_tokens
    assert handler.calls[0].cost is None
    assert handler.calls[0].uncached_cost is not None
    assert handler.totals.unknown["cost"] == 1


@pytest.mark.parametrize("awaited", [False, True])
async def test_streams_of_a_layout_tell_the_lifetimes_of_their_writes(simulator, models, handler, awaited):
    model = with_prompt_layout(models.claude())
    if awaited:
        async for _ in model.astream(prompt(HOUR, MINUTES), {"callbacks": [handler]}):
            pass
    else:
        list(model.stream(prompt(HOUR, MINUTES), {"callbacks": [handler]}))

    assert handler.totals.cache_write_by_ttl == simulator.calls[0].usage.cache_write_by_ttl
    assert handler.totals.cost == billed(simulator, "claude-sonnet-4-6")


def test_an_answer_that_was_not_streamed_tells_both_lifetimes(simulator, models, handler):
    models.claude().invoke(prompt(HOUR, MINUTES), {"callbacks": [handler]})

    assert handler.totals.cost == billed(simulator, "claude-sonnet-4-6")


FASTER = {"speed": "fast"}
needs_speed = pytest.mark.skipif(
    "speed" not in inspect.signature(Messages.create).parameters, reason="this SDK knows no speed"
)


@pytest.mark.parametrize("asked", [pytest.param(FASTER, marks=needs_speed), {"service_tier": "auto"}], ids=str)
def test_a_stream_for_which_more_may_be_billed_has_no_price(models, handler, asked):
    list(models.claude("claude-opus-4-6", model_kwargs=asked).stream("Hello", {"callbacks": [handler]}))

    assert handler.calls[0].usage.input_tokens > 0
    assert handler.calls[0].cost is None
    assert handler.totals.unknown["cost"] == 1


def test_a_stream_that_asked_for_the_standard_tier_has_its_price(simulator, models, handler):
    model = models.claude(model_kwargs={"service_tier": "standard_only"}, inference_geo="global")
    list(model.stream("Hello", {"callbacks": [handler]}))

    assert handler.totals.cost == billed(simulator, "claude-sonnet-4-6") > 0


def test_a_stream_from_the_us_costs_a_tenth_more(simulator, models, handler):
    list(models.claude("claude-opus-4-6", inference_geo="us").stream("Hello", {"callbacks": [handler]}))

    standard = BOOK.cost(replace(simulator.calls[0].usage, region=None), "claude-opus-4-6", on=DAY)
    assert handler.totals.cost == billed(simulator, "claude-opus-4-6") == standard * Decimal("1.1")


PROCESSED = {
    "in the US": ("claude-opus-4-8", {"inference_geo": "us"}, "1.1"),
    "anywhere": ("claude-opus-4-8", {"inference_geo": "global"}, "1"),
    "priority where there is some": ("claude-opus-4-8", {"model_kwargs": {"service_tier": "auto"}}, "1"),
    "fast": ("claude-opus-4-8", {"model_kwargs": {"speed": "fast"}}, "2"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("laid_out", [False, True])
@pytest.mark.parametrize("case", PROCESSED.values(), ids=PROCESSED)
def test_how_claude_processes_a_call_is_in_its_price(simulator, models, handler, *, case, laid_out, streamed):
    name, asked, factor = case
    if "speed" in str(asked) and "speed" not in inspect.signature(Messages.create).parameters:
        pytest.skip("this SDK knows no speed")
    model = models.claude(name, **asked)
    model = with_prompt_layout(model) if laid_out else model
    for _ in range(2):
        answered(model, streamed, handler)

    plain = replace(simulator.calls[0].usage, region=None, speed=None)
    assert BOOK.cost(plain, name, on=DAY) * Decimal(factor) == BOOK.cost(simulator.calls[0].usage, name, on=DAY)
    if streamed and not laid_out and "model_kwargs" in asked:
        assert handler.totals.unknown["cost"] == 2  # the stream does not tell which it was
    else:
        assert handler.totals.cost == billed(simulator, name)
        assert handler.totals.cache_read_tokens > 1_024


def answered(model, streamed, handler):
    is_openai = isinstance(model, ChatOpenAI)
    messages = prompt() if is_openai else prompt(MINUTES)
    if streamed:
        usage = {"stream_usage": True} if is_openai and not model.use_responses_api else {}
        list(model.stream(messages, {"callbacks": [handler]}, **usage))
    else:
        model.invoke(messages, {"callbacks": [handler]})


TIERS = {"default": "1", "auto": "1", "flex": "0.5", "priority": "2", "fast": "2"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", ["gpt-5.6-luna", "gpt-5.4-mini"])
def test_the_tier_that_openai_used_is_in_the_price(simulator, models, handler, *, name, tier, responses, streamed):
    model = models.openai(name, service_tier=tier, use_responses_api=responses)
    for _ in range(2):
        answered(model, streamed, handler)

    costs = [BOOK.cost(replace(call.usage, service_tier=None), name, on=DAY) for call in simulator.calls]
    assert handler.totals.cost == billed(simulator, name, "openai") == sum(costs) * Decimal(TIERS[tier])
    assert handler.totals.cache_read_tokens > 1_024


def test_a_tier_that_the_model_has_not_got_is_not_billed(simulator, models, handler):
    answered(models.openai("gpt-5.4-nano", service_tier="priority"), False, handler)

    assert simulator.calls[0].usage.service_tier == "default"
    assert handler.totals.cost == billed(simulator, "gpt-5.4-nano", "openai")


def test_a_call_that_the_caller_did_not_wait_for_is_counted_with_unknown_cost(handler):
    given_up = threading.Event()

    def slow(_):
        given_up.wait(10)
        return Reply(text="late")

    with Simulator(model=slow) as server:
        model = ChatOpenAI(
            model="gpt-4o-mini", base_url=server.base_url("openai"), api_key="k", timeout=0.05, max_retries=0
        )
        with pytest.raises(APITimeoutError):
            model.invoke("Hello", {"callbacks": [handler]})
        given_up.set()

    assert (handler.totals.calls, handler.totals.unknown["cost"]) == (1, 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("settings", [{}, {"model": "gpt-4o-mini"}, {"use_responses_api": True}], ids=str)
def test_a_deployments_own_price_goes_before_its_models(models, handler, settings, streamed):
    model = models.azure(**settings)
    for _ in range(2):
        if streamed:
            usage = {} if model.use_responses_api else {"stream_usage": True}
            list(model.stream(prompt(), {"callbacks": [handler]}, **usage))
        else:
            model.invoke(prompt(), {"callbacks": [handler]})

    usage = handler.totals
    assert usage.cache_read_tokens > 1_024
    assert usage.cost == (usage.uncached_tokens * 1 + usage.output_tokens * 8) / Decimal(1_000_000)
    assert handler.calls[0].model == "gpt-4o-mini"
