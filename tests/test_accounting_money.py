"""Twelve calls worked out by hand, from the provider's own usage object to the ledger: each price regime once."""

from datetime import date
from decimal import Decimal

import pytest
from msgspec.structs import replace

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.metering import Meter
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Price

pytest.importorskip("genai_prices", reason="batch, flex and priority prices come with the extra 'prices'")

TODAY = date(2026, 11, 21)
PROVISIONED = Price.dollars("2", "8", "0")
HALF_OFF = Price.dollars("2", "8", "0.5")
DISCOUNTED = Price.dollars("3", "12", "0.1")
OWN = {"our-ptu": PROVISIONED, "our-other-ptu": HALF_OFF, "claude-sonnet-5": DISCOUNTED}


def claude(plain, *, read=0, short=0, long=0, out=0, **fields):
    return {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": out,
        **fields,
    }


def chat(total, *, read=0, write=0, out=0):
    details = {"cached_tokens": read, "cache_write_tokens": write}
    return {"prompt_tokens": total, "completion_tokens": out, "prompt_tokens_details": details}


def responses(total, *, read=0, half_hour=0, half_day=0, out=0):
    split = {"ttl_30m_tokens": half_hour, "ttl_12h_tokens": half_day}
    details = {
        "cached_tokens": read,
        "cache_write_tokens": half_hour + half_day,
        "cache_write_tokens_details": split,
    }
    return {"input_tokens": total, "output_tokens": out, "input_tokens_details": details}


# Dollars per million tokens times tokens in millions; the last number is the same call without any cache.
CALLS = {
    "5 minutes and an hour in one call: 0.001 x 3 + 0.005 x 0.3 + 0.003 x 3.75 + 0.001 x 6 + 0.0005 x 15": (
        ANTHROPIC_MESSAGES, "claude-sonnet-4-6", "anthropic",
        claude(1_000, read=5_000, short=3_000, long=1_000, out=500), "0.02925", "0.0375",
    ),
    "batch, half of 0.001 x 3 + 0.005 x 0.3 + 0.004 x 3.75 + 0.0001 x 15": (
        ANTHROPIC_MESSAGES, "claude-sonnet-4-6", "anthropic",
        claude(1_000, read=5_000, short=4_000, out=100, service_tier="batch"), "0.0105", "0.01575",
    ),
    "reads at a twentieth: 0.0001 x 4 + 0.0999 x 0.2 + 0.001 x 20": (
        ANTHROPIC_MESSAGES, "claude-opus-5-5", "anthropic",
        claude(100, read=99_900, out=1_000), "0.04038", "0.42",
    ),
    "a whole request above 100,000 tokens, times five: 0.000001 x 0.5 + 0.1 x 0.05 + 0.001 x 2.5": (
        ANTHROPIC_MESSAGES, "claude-haiku-5-5", "anthropic",
        claude(1, read=100_000, out=1_000), "0.0075005", "0.0525005",
    ),
    "every iteration is billed: (0.001 + 0.0005) x 5 + 0.008 x 0.5 + 0.002 x 6.25 + (0.0002 + 0.0003) x 25": (
        ANTHROPIC_MESSAGES, "claude-opus-4-8", "anthropic",
        claude(1_000, read=8_000, out=200, iterations=[
            {"type": "compaction", **claude(500, short=2_000, out=300)},
            {"type": "message", **claude(1_000, read=8_000, out=200)},
        ]), "0.0365", "0.07",
    ),
    "GPT-5.6 on flex, half of 0.001 x 4 + 0.005 x 0.4 + 0.004 x 5 + 0.0001 x 20": (
        OPENAI_CHAT, "gpt-5.6-sol", "openai", (chat(10_000, read=5_000, write=4_000, out=100), "flex"), "0.014", "0.021",
    ),
    "and on priority, twice that": (
        OPENAI_CHAT, "gpt-5.6-sol", "openai",
        (chat(10_000, read=5_000, write=4_000, out=100), "priority"), "0.056", "0.084",
    ),
    "above 272,000 tokens: 0.1 x 8 + 0.1 x 0.8 + 0.1 x 10 + 0.001 x 30": (
        OPENAI_CHAT, "gpt-5.6-sol", "openai", chat(300_000, read=100_000, write=100_000, out=1_000), "1.91", "2.43",
    ),
    "30 minutes and 12 hours: 0.001 x 1 + 0.004 x 1.25 + 0.005 x 2.5 + 0.0001 x 5": (
        OPENAI_RESPONSES, "gpt-6.1-terra", "openai",
        responses(10_000, half_hour=4_000, half_day=5_000, out=100), "0.019", "0.0105",
    ),
    "Azure, standard: 0.005 x 2.5 + 0.005 x 1.25 + 0.0001 x 10": (
        OPENAI_CHAT, "gpt-4o", "azure", chat(10_000, read=5_000, out=100), "0.01975", "0.026",
    ),
    "Azure, provisioned, cached tokens free: 0.001 x 2 + 0.0001 x 8": (
        OPENAI_CHAT, "our-ptu", "azure", chat(10_000, read=9_000, out=100), "0.0028", "0.0208",
    ),
    "a negotiated price, on batch or not: 0.001 x 3 + 0.009 x 3.75 + 0.0001 x 12": (
        ANTHROPIC_MESSAGES, "claude-sonnet-5", "anthropic",
        claude(1_000, short=9_000, out=100, service_tier="batch"), "0.03795", "0.0312",
    ),
}  # fmt: skip


def book(case):
    dialect, model, provider, usage, *_ = case
    usage, tier = usage if isinstance(usage, tuple) else (usage, None)
    ledger = Ledger(clock=lambda: 0)
    meter = Meter(observers=[ledger], prices=PriceBook(own=OWN), day=lambda: TODAY)
    call = meter.begin(model, provider)
    decoded = dialect.decode_usage(usage)
    call.answered(decoded if tier is None else with_tier(decoded, tier))
    return ledger.totals


def with_tier(usage, tier):
    return replace(usage, service_tier=tier)


@pytest.mark.parametrize("case", CALLS.values(), ids=CALLS)
def test_the_ledger_books_what_the_call_cost(case):
    totals = book(case)

    assert totals.cost == Decimal(case[4])
    assert totals.uncached_cost == Decimal(case[5])
    assert totals.savings == Decimal(case[5]) - Decimal(case[4])
    assert "cost" not in totals.unknown


def test_there_are_twelve():
    assert len(CALLS) == 12


def test_how_much_cached_tokens_are_taken_off_is_settable():
    usage = OPENAI_CHAT.decode_usage(chat(10_000, read=9_000, out=100))
    prices = PriceBook(own=OWN)

    assert prices.cost(usage, "our-other-ptu", provider="azure", on=TODAY) == Decimal("0.0118")


def test_a_deployment_without_a_price_is_unknown():
    totals = book((OPENAI_CHAT, "nobody-knows", "azure", chat(10, out=1)))

    assert (totals.cost, totals.unknown["cost"], totals.unknown["uncached_cost"]) == (0, 1, 1)
