import socket
import sys
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Iteration, Usage
from prefixcache_integrations.dialects.usage import decode_claude
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import resolve, rows

TODAY = date(2026, 11, 21)
BOTH = PriceBook()
ROWS = PriceBook(genai_prices=False)


def used(total, *, read=0, write=0, out=0, by_ttl=None, tier=None):
    return Usage(
        input_tokens=total,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_by_ttl=by_ttl,
        output_tokens=out,
        service_tier=tier,
    )


# Dollars, worked out by hand from the price pages: tokens in millions times dollars per million.
CALLS = {
    "a Claude write for 5 minutes: 0.001 x 4 + 0.009 x 5 + 0.0005 x 20": (
        "claude-opus-5-5", used(10_000, write=9_000, out=500, by_ttl={"5m": 9_000}), TODAY, "0.059",
    ),
    "a Claude write for an hour: 0.001 x 4 + 0.009 x 8 + 0.0005 x 20": (
        "claude-opus-5-5", used(10_000, write=9_000, out=500, by_ttl={"1h": 9_000}), TODAY, "0.086",
    ),
    "both and a read: 0.0005 x 3 + 0.009 x 0.3 + 0.002 x 3.75 + 0.0005 x 6 + 0.0008 x 15": (
        "claude-sonnet-4-5", used(12_000, read=9_000, write=2_500, out=800, by_ttl={"5m": 2_000, "1h": 500}), TODAY, "0.0267",
    ),
    "a Claude write of untold lifetime counts as 5 minutes: 0.001 x 1 + 0.009 x 1.25": (
        "claude-haiku-4-5", used(10_000, write=9_000), TODAY, "0.01225",
    ),
    "a read at a fortieth: 0.001 x 10 + 0.099 x 0.25 + 0.001 x 50": (
        "claude-fable-5-1", used(100_000, read=99_000, out=1_000), TODAY, "0.08475",
    ),
    "Sonnet 5.5 before its reads became cheaper: 0.01 x 2 + 0.09 x 0.2": (
        "claude-sonnet-5-5", used(100_000, read=90_000), date(2026, 10, 6), "0.038",
    ),
    "and on the day they did: 0.01 x 2 + 0.09 x 0.1": (
        "claude-sonnet-5-5", used(100_000, read=90_000), date(2026, 10, 7), "0.029",
    ),
    "Haiku 5.5 at its threshold: 0.02 x 0.1 + 0.05 x 0.01 + 0.03 x 0.125 + 0.001 x 0.5": (
        "claude-haiku-5-5", used(100_000, read=50_000, write=30_000, out=1_000), TODAY, "0.00675",
    ),
    "one token above, everything times five: 0.020001 x 0.5 + 0.05 x 0.05 + 0.03 x 0.625 + 0.001 x 2.5": (
        "claude-haiku-5-5", used(100_001, read=50_000, write=30_000, out=1_000), TODAY, "0.0337505",
    ),
    "a GPT-6.1 write for 30 minutes: 0.0005 x 2 + 0.009 x 0.1 + 0.0025 x 2.5 + 0.0008 x 10": (
        "gpt-6.1-sol", used(12_000, read=9_000, write=2_500, out=800), TODAY, "0.01615",
    ),
    "a GPT-6.1 write for 12 hours: 0.001 x 1 + 0.009 x 2.5": (
        "gpt-6.1-terra", used(10_000, write=9_000, by_ttl={"12h": 9_000}), TODAY, "0.0235",
    ),
    "a long GPT-6 prompt: 0.1 x 4 + 0.2 x 0.4 + 0.001 x 15": (
        "gpt-6-sol", used(300_000, read=200_000, out=1_000), TODAY, "0.495",
    ),
    "GPT-5.6 before its price fell: 0.01 x 5 + 0.001 x 30": (
        "gpt-5.6-sol", used(10_000, out=1_000), date(2026, 8, 20), "0.08",
    ),
    "reads at half: 0.000512 x 0.15 + 0.001024 x 0.075 + 0.0001 x 0.6": (
        "gpt-4o-mini", used(1_536, read=1_024, out=100), TODAY, "0.0002136",
    ),
    "reads at a quarter: 0.001 x 2 + 0.003 x 0.5": ("gpt-4.1", used(4_000, read=3_000), TODAY, "0.0035"),
    "reads at a tenth: 0.001 x 5 + 0.002048 x 0.5": ("gpt-5.5", used(3_048, read=2_048), TODAY, "0.006024"),
    "a model without a cache: 0.01 x 5 + 0.001 x 15": (
        "gpt-4o-2024-05-13", used(10_000, read=None, write=None, out=1_000), TODAY, "0.065",
    ),
}  # fmt: skip


@pytest.mark.parametrize("book", [BOTH, ROWS], ids=["genai-prices", "rows"])
@pytest.mark.parametrize(("model", "usage", "on", "dollars"), CALLS.values(), ids=CALLS)
def test_a_call_costs_what_the_price_page_says(book, model, usage, on, dollars):
    assert book.cost(usage, model, on=on) == Decimal(dollars)


@pytest.mark.parametrize("book", [BOTH, ROWS], ids=["genai-prices", "rows"])
def test_without_a_cache_every_token_costs_the_same(book):
    usage = used(12_000, read=9_000, write=2_500, out=800, by_ttl={"5m": 2_000, "1h": 500})

    assert book.uncached_cost(usage, "claude-opus-5-5", on=TODAY) == Decimal("0.064")
    assert book.uncached_cost(used(10, read=None, write=None, out=0), "claude-opus-5-5", on=TODAY) == Decimal("0.00004")


@pytest.mark.parametrize("book", [BOTH, ROWS], ids=["genai-prices", "rows"])
@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("llama3:8b", used(100)),
        ("claude-opus-9", used(100)),
        ("", used(100)),
        ("claude-opus-5-5", Usage()),
        ("claude-opus-5-5", used(None)),
        ("claude-opus-5-5", used(100, out=None)),
        ("claude-opus-5-5", used(100, read=None)),
        ("claude-opus-5-5", used(100, write=None)),
        ("claude-opus-5-5", used(100, read=80, write=30)),
        ("claude-opus-5-5", used(100, write=50, by_ttl={"5m": 60})),
        ("claude-opus-5-5", used(100, write=50, by_ttl={"12h": 50})),
        ("claude-opus-5-5", used(-1)),
        ("gpt-5-pro", used(2_000, read=1_024)),
        ("gpt-4o-2024-05-13", used(2_000, write=100)),
        ("claude-opus-5-5", used(100, tier="priority")),
        ("gpt-6-sol", used(100, tier="scale")),
    ],
    ids=str,
)
def test_what_is_not_known_has_no_cost(book, model, usage):
    assert book.cost(usage, model, on=TODAY) is None


def test_interval_models_need_no_writes_told():
    assert BOTH.cost(used(2_000, read=1_024, write=None), "gpt-4o", on=TODAY) == Decimal("0.00372")


def test_a_fine_tuned_models_reads_have_no_price():
    tuned = "ft:gpt-4o-mini-2024-07-18:my-org::abc123"

    assert BOTH.cost(used(2_000, read=1_024), tuned, on=TODAY) is None
    assert ROWS.cost(used(2_000), tuned, on=TODAY) is None


def test_azure_deployments_named_like_a_model_cost_what_the_model_costs():
    usage = used(12_000, read=9_000, write=2_500, out=800)

    for book in (BOTH, ROWS):
        assert book.cost(usage, "gpt-6.1-sol", provider="azure", on=TODAY) == Decimal("0.01615")
        assert book.cost(usage, "support-bot", provider="azure", on=TODAY) is None


def test_gateways_names_are_understood():
    usage = used(10_000, write=9_000, out=500, by_ttl={"1h": 9_000})

    for book in (BOTH, ROWS):
        assert book.cost(usage, "us.anthropic.claude-opus-5-5-v1:0", on=TODAY) == Decimal("0.086")


def test_tiers_cost_what_genai_prices_says_and_a_deployments_are_not_guessed():
    pytest.importorskip("genai_prices")
    usage = used(12_000, read=9_000, write=2_500, out=800, tier="flex")

    for book in (BOTH, ROWS):
        assert book.cost(usage, "gpt-6.1-sol", on=TODAY) == Decimal("0.008075")
        assert book.cost(usage, "gpt-6.1-sol", provider="azure", on=TODAY) is None
        assert book.cost(usage, "gpt-4o", on=TODAY) is None
    batch = used(10_000, write=9_000, out=500, by_ttl={"5m": 9_000}, tier="batch")
    assert BOTH.cost(batch, "claude-opus-5-5", on=TODAY) == Decimal("0.0295")


def test_models_without_a_row_are_priced_where_genai_prices_knows_them():
    pytest.importorskip("genai_prices")

    assert resolve("codex-mini-latest").known is False
    assert BOTH.cost(used(4_000, read=3_000, write=None), "codex-mini-latest", on=TODAY) == Decimal("0.002625")
    assert ROWS.cost(used(4_000, read=3_000, write=None), "codex-mini-latest", on=TODAY) is None


PRICED = [row for row in rows() if row.provider != "azure" and row.price(TODAY) is not None]
calls = st.builds(
    lambda parts, out: used(sum(parts), read=parts[0], write=parts[1], out=out),
    st.tuples(*[st.integers(0, 200_000)] * 3),
    st.integers(0, 100_000),
)


@given(st.sampled_from(PRICED), calls)
def test_genai_prices_own_sum_is_ours(row, usage):
    genai = pytest.importorskip("genai_prices")
    theirs = genai.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    ours = BOTH.cost(usage, row.name, on=TODAY)
    try:
        total = genai.calc_price(theirs, row.name, provider_id=row.provider).total_price
    except LookupError:
        assert ours == ROWS.cost(usage, row.name, on=TODAY)
    else:
        assert ours is None or ours == total


@given(st.sampled_from(PRICED), calls)
def test_costs_are_exact_and_the_cache_is_priced_like_the_row_says(row, usage):
    cost, plain = ROWS.cost(usage, row.name, on=TODAY), ROWS.uncached_cost(usage, row.name, on=TODAY)

    assert isinstance(plain, Decimal)
    if cost is not None and not usage.cache_write_tokens:
        assert cost <= plain
    if cost is not None and not usage.cache_read_tokens:
        assert cost >= plain


def test_no_price_needs_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert PriceBook().cost(used(100), "claude-opus-5-5", on=TODAY) == Decimal("0.0004")


def test_without_genai_prices_the_rows_answer(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "genai_prices"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("prefixcache_integrations.prices.find_spec", lambda name: None)

    assert PriceBook().cost(used(100), "claude-opus-5-5", on=TODAY) == Decimal("0.0004")
    assert not [name for name in sys.modules if name.partition(".")[0] == "genai_prices"]


SPECIAL = [(row, word) for row in rows() for word in row.processing]


@pytest.mark.parametrize(("row", "word"), SPECIAL, ids=[f"{row.name} {word}" for row, word in SPECIAL])
@pytest.mark.parametrize("size", [50_000, 300_000])
def test_tiers_and_speeds_cost_the_same_without_genai_prices(row, word, size):
    pytest.importorskip("genai_prices")
    usage = Usage(
        input_tokens=size,
        cache_read_tokens=20_000,
        cache_write_tokens=1_000,
        output_tokens=700,
        **{"speed" if word == "fast" and row.provider == "anthropic" else "service_tier": word},
    )
    ours, theirs = (
        PriceBook(genai_prices=asked).cost(usage, row.models[0], provider=row.provider, on=TODAY)
        for asked in (False, True)
    )
    if row.name not in UNTIERED:
        assert ours == theirs


UNTIERED = {"claude-sonnet-4-5"}  # genai-prices keeps a rate above 200,000 tokens that went away


def test_inference_in_the_us_costs_a_tenth_more_with_every_factor():
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=0, cache_write_tokens=0, output_tokens=0)
    for region, tier, dollars in [
        (None, None, "4"),
        ("global", "standard", "4"),
        ("us", None, "4.4"),
        ("us", "batch", "2.2"),
    ]:
        told = replace(usage, region=region, service_tier=tier)
        for book in (PriceBook(), PriceBook(genai_prices=False)):
            assert book.cost(told, "claude-opus-5-5", on=TODAY) == Decimal(dollars)


@pytest.mark.parametrize("told", [{"region": "mars"}, {"service_tier": "ultrafast"}, {"speed": "ludicrous"}])
def test_an_unknown_tier_speed_or_region_has_no_price(told):
    usage = Usage(input_tokens=10, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1, **told)
    assert PriceBook().cost(usage, "claude-opus-5-5", on=TODAY) is None
    assert PriceBook(genai_prices=False).cost(usage, "claude-opus-5-5", on=TODAY) is None


def test_iterations_are_billed_at_the_prices_of_their_own_models():
    row = {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_input_tokens": 0}
    row |= {"cache_creation_input_tokens": 0}
    advisor = {"type": "advisor_message", "model": "claude-opus-5", **row}
    usage = decode_claude({**row, "iterations": [{"type": "message", **row}, advisor]})
    book = PriceBook(genai_prices=False)

    assert usage.input_tokens == 2_000_000
    assert book.cost(usage, "claude-sonnet-5", on=TODAY) == 2 + 5
    unknown = replace(usage, iterations=(*usage.iterations, Iteration(model="claude-nobody", usage=Usage())))
    assert book.costs(unknown, "claude-sonnet-5", on=TODAY) == (None, None)
