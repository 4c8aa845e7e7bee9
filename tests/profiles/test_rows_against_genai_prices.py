"""Our rows and genai-prices are kept by different people from the same pages: where both know a model they must agree."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

genai_types = pytest.importorskip("genai_prices.types")
from genai_prices.data import providers  # noqa: E402 - after the check that it is there

from prefixcache_integrations.profiles import rows  # noqa: E402

PROVIDERS = {provider.id: provider for provider in providers}
OURS = [row for row in rows() if row.provider != "azure"]

# What the two say differently, and why.
NOT_IN_GENAI_PRICES = {"claude-mythos-5-1", "claude-mythos-5", "claude-mythos-preview"}
UNDATED_THERE = {"claude-sonnet-5-5"}  # its earlier read price
NO_TIER_OURS = {"claude-sonnet-4-5"}  # its rate above 200,000 tokens went away with the 1M beta on 2026-04-30
DAYS = (date(2026, 7, 29), date(2026, 10, 6), date(2026, 11, 21))


def genai_price(row, on):
    model = PROVIDERS[row.provider].find_model(row.models[0])
    return None if model is None else model.get_prices(datetime(on.year, on.month, on.day, 12, tzinfo=UTC))


def base(price):
    return price.base if isinstance(price, genai_types.TieredPrices) else price


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.name)
def test_genai_prices_knows_our_models_but_for_the_named_ones(row):
    assert (genai_price(row, DAYS[-1]) is None) == (row.name in NOT_IN_GENAI_PRICES)


@pytest.mark.parametrize("on", DAYS, ids=str)
@pytest.mark.parametrize("row", [row for row in OURS if row.name not in NOT_IN_GENAI_PRICES], ids=lambda row: row.name)
def test_prices_agree(row, on):
    ours, theirs = row.price(on), genai_price(row, on)

    assert (ours.input, ours.output) == (base(theirs.input_mtok), base(theirs.output_mtok))
    if row.name not in UNDATED_THERE or on == DAYS[-1]:
        read = None if ours.read_multiplier is None else ours.input * ours.read_multiplier
        assert read == base(theirs.cache_read_mtok)


@pytest.mark.parametrize("row", [row for row in OURS if row.name not in NOT_IN_GENAI_PRICES], ids=lambda row: row.name)
def test_write_multipliers_agree(row):
    ours, theirs = row.price(DAYS[-1]), genai_price(row, DAYS[-1])
    written = {
        life.name: ours.input * life.write_multiplier for life in row.lifetimes if life.write_multiplier != Decimal(1)
    }

    assert written.get("5m", written.get("30m")) == base(theirs.cache_write_mtok)
    assert written.get("1h") == base(theirs.cache_write_1h_mtok)


@pytest.mark.parametrize("row", [row for row in OURS if row.name not in NOT_IN_GENAI_PRICES], ids=lambda row: row.name)
def test_whole_request_tiers_agree(row):
    theirs = genai_price(row, DAYS[-1])
    steps = [
        (
            step.start,
            step.price / theirs.input_mtok.base,
            theirs.output_mtok.tiers[index].price / theirs.output_mtok.base,
        )
        for index, step in enumerate(getattr(theirs.input_mtok, "tiers", ()))
    ]
    ours = [(tier.above_tokens, tier.input_factor, tier.output_factor) for tier in row.whole_request_tiers]

    assert ours == ([] if row.name in NO_TIER_OURS else steps)
