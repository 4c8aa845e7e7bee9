from collections import Counter
from datetime import date
from decimal import Decimal

import pytest

from prefixcache_integrations.profiles import resolve, rows

TODAY = date(2026, 11, 21)
CLAUDE = [row for row in rows() if row.provider == "anthropic"]
OPENAI = [row for row in rows() if row.provider == "openai"]
AZURE = [row for row in rows() if row.provider == "azure"]


def price(model, on=TODAY):
    found = resolve(model).price(on)
    return found.input, found.output, found.read_multiplier


def test_names_and_stems_belong_to_one_row_each():
    assert max(Counter(row.name for row in rows()).values()) == 1
    assert max(Counter((row.provider, stem) for row in rows() for stem in row.models).values()) == 1


@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        ("claude-fable-5-1", 512),
        ("claude-opus-5-5", 512),
        ("claude-sonnet-5-5", 512),
        ("claude-haiku-5-5", 512),
        ("claude-opus-4-8", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-opus-4-6", 4096),
        ("claude-opus-4-5", 4096),
        ("claude-sonnet-5", 1024),
        ("claude-sonnet-4-5", 1024),
        ("claude-haiku-4-5", 4096),
        ("claude-mythos-preview", 2048),
        ("claude-opus-4-1", 1024),
        ("claude-3-5-haiku", 2048),
        ("gpt-6.1-sol", 1024),
        ("gpt-4o", 1024),
    ],
)
def test_the_minimum_is_the_published_one(model, minimum):
    assert resolve(model).minimum_tokens == minimum


@pytest.mark.parametrize("row", CLAUDE, ids=lambda row: row.name)
def test_claude_takes_four_markers_looks_back_twenty_and_charges_writes(row):
    assert (row.regime, row.max_breakpoints, row.lookback, row.scope) == ("breakpoints", 4, 20, "workspace")
    assert [(life.name, life.seconds, life.write_multiplier) for life in row.lifetimes] == [
        ("5m", 300, Decimal("1.25")),
        ("1h", 3600, Decimal(2)),
    ]


@pytest.mark.parametrize("row", [row for row in OPENAI if row.regime == "breakpoints"], ids=lambda row: row.name)
def test_gpt_5_6_and_later_mark_the_tail_themselves_and_charge_writes(row):
    assert (row.increment, row.max_breakpoints, row.automatic_tail, row.max_lookups) == (1, 4, True, 80)
    assert [(life.name, life.seconds, life.write_multiplier) for life in row.lifetimes] == [
        ("30m", 1800, Decimal("1.25")),
        ("12h", 43_200, Decimal("2.5")),
    ]


@pytest.mark.parametrize("row", [row for row in OPENAI if row.regime == "intervals"], ids=lambda row: row.name)
def test_up_to_gpt_5_5_there_are_no_markers_and_writes_are_free(row):
    assert (row.max_breakpoints, row.automatic_tail) == (0, False)
    assert {life.write_multiplier for life in row.lifetimes} == {1}
    assert row.increment == (2048 if row.name.startswith("gpt-5.5") else 128)


@pytest.mark.parametrize("model", ["gpt-4o-2024-05-13", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"])
def test_models_older_than_caching_have_none(model):
    assert resolve(model).regime == "none"
    assert price(model)[2] is None


def test_pro_models_have_no_cached_price():
    pro = [row for row in OPENAI if row.name.endswith("-pro")]

    assert len(pro) == 6
    assert all(row.prices[0].read_multiplier is None for row in pro)


def test_reads_of_sonnet_5_5_became_cheaper_on_the_seventh_of_october():
    assert price("claude-sonnet-5-5", date(2026, 10, 6)) == (2, 10, Decimal("0.1"))
    assert price("claude-sonnet-5-5", date(2026, 10, 7)) == (2, 10, Decimal("0.05"))


def test_reads_are_not_a_tenth_everywhere():
    assert price("claude-fable-5-2")[2] == Decimal("0.025")
    assert price("claude-opus-5-5")[2] == Decimal("0.05")
    assert price("gpt-6.1-terra")[2] == Decimal("0.05")
    assert price("gpt-4.1")[2] == Decimal("0.25")
    assert price("gpt-4o")[2] == Decimal("0.5")


def test_a_model_has_no_price_before_its_first_one():
    assert resolve("o3").price(date(2025, 6, 9)) is None


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_prices_are_in_order_of_their_dates(row):
    dates = [price.effective or date.min for price in row.prices]

    assert row.prices
    assert dates == sorted(set(dates))


def test_changing_what_is_rendered_first_loses_everything():
    assert {resolve("gpt-4o").invalidation[field] for field in ("tools", "response_format", "reasoning_effort")} == {
        "tools"
    }
    assert "tool_choice" not in resolve("gpt-4o").invalidation
    assert resolve("claude-opus-5").invalidation["tool_choice"] == "messages"
    assert resolve("claude-opus-5").invalidation["system"] == "system"


def test_the_key_partitions_only_since_gpt_5_6():
    assert resolve("gpt-5.6-sol").invalidation["prompt_cache_key"] == "tools"
    assert "prompt_cache_key" not in resolve("gpt-5.5").invalidation


def test_the_models_that_drop_earlier_thinking():
    assert {row.name for row in CLAUDE if row.strips_thinking} == {
        "claude-3-5-haiku",
        "claude-haiku-4-5",
        "claude-opus-4",
        "claude-opus-4-1",
        "claude-sonnet-4",
        "claude-sonnet-4-5",
    }


def test_late_instructions_where_the_model_has_them():
    assert resolve("claude-sonnet-5-5").late_instructions == "system"
    assert resolve("claude-sonnet-5").late_instructions is None
    assert resolve("gpt-5.6-sol").late_instructions == "developer"


@pytest.mark.parametrize("row", AZURE, ids=lambda row: row.name)
def test_azure_has_the_models_cache_with_its_own_lifetimes(row):
    origin = resolve(row.models[0], provider="openai")

    assert (row.regime, row.minimum_tokens, row.increment) == (origin.regime, origin.minimum_tokens, origin.increment)
    assert row.prices == origin.prices
    assert row.scope == "subscription"
    assert set(row.lifetimes) <= set(origin.lifetimes)
    assert "12h" not in {life.name for life in row.lifetimes}


def test_azure_keeps_entries_in_memory_by_default_where_openai_keeps_them_longer():
    assert resolve("gpt-5.4").lifetime(None).name == "24h"
    assert resolve("gpt-5.4", provider="azure").lifetime(None).name == "in_memory"
    assert resolve("gpt-5.5", provider="azure").lifetime(None).name == "24h"


def test_claude_counts_further_from_our_tokenizer_since_opus_4_7():
    assert resolve("claude-opus-4-6").tokenizer_uncertainty == 0.25
    assert resolve("claude-opus-4-7").tokenizer_uncertainty == 0.6


@pytest.mark.parametrize(
    ("model", "ways"),
    [
        ("claude-opus-4-8", ("deferred", "added")),
        ("claude-sonnet-4-5", ("deferred",)),
        ("claude-opus-4-1", ()),
        ("claude-sonnet-4", ()),
        ("gpt-5.6", ("allowed", "deferred", "added")),
        ("gpt-5.4-mini", ("allowed", "deferred", "added")),
        ("gpt-5.1", ("allowed", "added")),
        ("gpt-4", ()),
        ("claude-99", ()),
        ("gpt-99", ()),
    ],
)
def test_how_tools_can_change_without_touching_the_prefix(model, ways):
    assert resolve(model).tool_changes == ways
    assert resolve(model, "azure").tool_changes == ()


def test_keys_route_openais_own_models_alone():
    assert {row.provider for row in rows() if row.requests_per_key} == {"openai"}
    assert all(row.regime != "none" for row in rows() if row.requests_per_key)
