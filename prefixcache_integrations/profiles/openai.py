"""OpenAI models on the OpenAI API.

Sources, read in November 2026 unless dated: OpenAI docs, *Prompt caching* (September 2026), "Summary of model
differences": regimes, minimums, intervals, retention, what a prefix consists of. openai 3.52.0,
``types/responses/response_create_params.py``: TTLs, 80 breakpoints looked up. OpenAI docs, *Pricing* and *Changelog*,
with genai-prices 0.2.3: prices and their dates. litellm 1.109.1, price map: the write price of 12 hours.
OpenAI docs, *Tool search*: "only gpt-5.4 and later models"; *Function calling*: allowed tools. openai 3.52.0,
``types/responses/response_input_item_param.py``: additional tools.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from msgspec.structs import replace

from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime, Price, Tier, ToolChange, WholeRequestTier

_MARKED_LIFETIMES = (
    Lifetime(name="30m", seconds=1800, write_multiplier=Decimal("1.25")),
    Lifetime(name="12h", seconds=43_200, write_multiplier=Decimal("2.5")),
)

# "5 to 10 minutes of inactivity, at most an hour": the five are what one can rely on.
IN_MEMORY = Lifetime(name="in_memory", seconds=300, write_multiplier=Decimal(1), most_seconds=3600)
# "Typically 30 minutes, up to 24 hours": the 24 are a maximum, the 30 minutes what one sees.
EXTENDED = Lifetime(name="24h", seconds=1800, write_multiplier=Decimal(1), most_seconds=86_400)

# Extended retention is the default of organisations without zero data retention, on the models that have it.
_BOTH = (EXTENDED, IN_MEMORY)

# Schemas, effort and verbosity are rendered ahead of the tools, so a change of theirs loses everything. The names of
# both APIs stand here. `tool_choice` is not part of the prefix.
_RENDERED: dict[str, Tier] = {
    "model": "tools",
    "tools": "tools",
    "parallel_tool_calls": "tools",
    "response_format": "tools",
    "text": "tools",
    "reasoning": "tools",
    "reasoning_effort": "tools",
    "verbosity": "tools",
    "context_management": "tools",
    "service_tier": "tools",
    "instructions": "system",
}
# Since GPT-5.6 the key partitions the cache; before, it only routes.
_RENDERED_AND_KEY: dict[str, Tier] = {**_RENDERED, "prompt_cache_key": "tools"}

_ANY_MODEL: tuple[ToolChange, ...] = ("allowed", "added")
_SINCE_5_4: tuple[ToolChange, ...] = ("allowed", "deferred", "added")

# "Around 15 requests per minute" of one prefix and key go to one machine; the others overflow to another.
_PER_KEY = 15

_LONG_PROMPT = (WholeRequestTier(above_tokens=272_000, input_factor=Decimal(2), output_factor=Decimal("1.5")),)

# o200k_base is the published encoding up to GPT-5.6 (tiktoken 0.14.0, model.py). What remains is framing and OpenAI's
# hidden tokens: github.com/raine/claude-code-proxy pull request 90 measured 976 against 978 billed.
_PUBLISHED = 0.02
# tiktoken 0.14.0 names no encoding for GPT-6; o200k_base is taken.
_UNPUBLISHED = 0.1
# GPT-4 and GPT-3.5 have an older encoding, cl100k_base.
_OLDER = 0.1


# *Pricing*: Batch and Flex at half of all prices, Priority at a multiple. Older models have no cached price there, or
# another multiple for it.
_HALF = {"batch": Decimal("0.5"), "flex": Decimal("0.5")}
_TWICE = {**_HALF, "priority": Decimal(2), "fast": Decimal(2)}
_PROCESSING = {
    "gpt-5.5": _HALF,
    "gpt-5.4-mini": _TWICE,
    "gpt-5.4-nano": _HALF,
    "gpt-5.2": _TWICE,
    "gpt-5.1": _TWICE,
    "gpt-5": _TWICE,
    "gpt-5-mini": {**_HALF, "priority": Decimal("1.8"), "fast": Decimal("1.8")},
    "gpt-5-nano": _HALF,
}


def _marked(*models: str, prices: tuple[Price, ...], uncertainty: float = _UNPUBLISHED) -> CacheProfile:
    """GPT-5.6 and later: entries at breakpoints only, exact counts, a write fee."""
    return CacheProfile(
        name=models[0],
        provider="openai",
        models=models,
        regime="breakpoints",
        minimum_tokens=1024,
        max_breakpoints=4,
        automatic_tail=True,
        max_lookups=80,
        lifetimes=_MARKED_LIFETIMES,
        retention=("24h",),
        prices=prices,
        whole_request_tiers=_LONG_PROMPT,
        processing=_TWICE,
        invalidation=_RENDERED_AND_KEY,
        tokenizer_uncertainty=uncertainty,
        late_instructions="developer",
        tool_changes=_SINCE_5_4,
        requests_per_key=_PER_KEY,
    )


def _interval(
    *models: str,
    prices: tuple[Price, ...],
    increment: int = 128,
    lifetimes: tuple[Lifetime, ...] = (IN_MEMORY,),
    tiers: tuple[WholeRequestTier, ...] = (),
    late: Literal["system", "developer"] | None = "developer",
) -> CacheProfile:
    """Up to GPT-5.5: entries at every interval, reads rounded down to it, writes free.

    The minimum varies with tools, images and effort around 1,024; the docs give no finer rule.
    """
    return CacheProfile(
        name=models[0],
        provider="openai",
        models=models,
        regime="intervals",
        minimum_tokens=1024,
        increment=increment,
        lifetimes=lifetimes,
        retention=tuple(lifetime.name for lifetime in lifetimes),
        prices=prices,
        whole_request_tiers=tiers,
        processing=_PROCESSING.get(models[0], {}),
        invalidation=_RENDERED,
        tokenizer_uncertainty=_PUBLISHED,
        late_instructions=late,
        tool_changes=_SINCE_5_4 if models[0].startswith(("gpt-5.4", "gpt-5.5")) else _ANY_MODEL,
        requests_per_key=_PER_KEY,
    )


def _uncached(*models: str, prices: tuple[Price, ...], uncertainty: float = _OLDER) -> CacheProfile:
    """Models older than prompt caching."""
    return CacheProfile(
        name=models[0],
        provider="openai",
        models=models,
        regime="none",
        minimum_tokens=0,
        prices=prices,
        tokenizer_uncertainty=uncertainty,
        late_instructions="system",
    )


_usd = Price.dollars
_JULY = date(2026, 7, 30)
_AUGUST = date(2026, 8, 21)

ROWS: tuple[CacheProfile, ...] = (
    _marked("gpt-6.1-sol", prices=(_usd("2", "10", "0.05"),)),
    _marked("gpt-6.1-terra", prices=(_usd("1", "5", "0.05"),)),
    _marked("gpt-6-astra", prices=(_usd("10", "50", "0.1"),)),
    _marked("gpt-6-sol", prices=(_usd("2", "10", "0.1"),)),
    _marked("gpt-6-luna", prices=(_usd("0.1", "0.5", "0.1"),)),
    # The August price of Sol was promised "at least through" 21 November 2026.
    _marked(
        "gpt-5.6-sol",
        "gpt-5.6",
        prices=(_usd("5", "30", "0.1"), _usd("4", "20", "0.1", since=_AUGUST)),
        uncertainty=_PUBLISHED,
    ),
    _marked(
        "gpt-5.6-terra",
        prices=(_usd("2.5", "15", "0.1"), _usd("2", "12", "0.1", since=_JULY)),
        uncertainty=_PUBLISHED,
    ),
    _marked(
        "gpt-5.6-luna",
        prices=(_usd("1", "6", "0.1"), _usd("0.2", "1.2", "0.1", since=_JULY)),
        uncertainty=_PUBLISHED,
    ),
    _interval(
        "gpt-5.5",
        "gpt-5.5-chat",
        "gpt-5.5-codex",
        prices=(_usd("5", "30", "0.1"),),
        increment=2048,
        lifetimes=(EXTENDED,),
        tiers=_LONG_PROMPT,
    ),
    _interval(
        "gpt-5.5-pro", prices=(_usd("30", "180", None),), increment=2048, lifetimes=(EXTENDED,), tiers=_LONG_PROMPT
    ),
    _interval("gpt-5.4", prices=(_usd("2.5", "15", "0.1"),), lifetimes=_BOTH, tiers=_LONG_PROMPT),
    _interval("gpt-5.4-mini", prices=(_usd("0.75", "4.5", "0.1"),), lifetimes=_BOTH),
    _interval("gpt-5.4-nano", prices=(_usd("0.2", "1.25", "0.1"),), lifetimes=_BOTH),
    _interval("gpt-5.4-pro", prices=(_usd("30", "180", None),), tiers=_LONG_PROMPT),
    _interval("gpt-5.3", "gpt-5.3-chat", "gpt-5.3-codex", prices=(_usd("1.75", "14", "0.1"),)),
    _interval("gpt-5.2", "gpt-5.2-chat", "gpt-5.2-codex", prices=(_usd("1.75", "14", "0.1"),), lifetimes=_BOTH),
    _interval("gpt-5.2-pro", prices=(_usd("21", "168", None),)),
    _interval(
        "gpt-5.1",
        "gpt-5.1-chat",
        "gpt-5.1-codex",
        "gpt-5.1-codex-max",
        prices=(_usd("1.25", "10", "0.1"),),
        lifetimes=_BOTH,
    ),
    _interval("gpt-5.1-codex-mini", prices=(_usd("0.25", "2", "0.1"),), lifetimes=_BOTH),
    _interval("gpt-5", "gpt-5-chat", "gpt-5-codex", prices=(_usd("1.25", "10", "0.1"),), lifetimes=_BOTH),
    _interval("gpt-5-mini", prices=(_usd("0.25", "2", "0.1"),)),
    _interval("gpt-5-nano", prices=(_usd("0.05", "0.4", "0.1"),)),
    _interval("gpt-5-pro", prices=(_usd("15", "120", None),)),
    _interval("gpt-4.1", prices=(_usd("2", "8", "0.25"),), lifetimes=_BOTH, late="system"),
    _interval("gpt-4.1-mini", prices=(_usd("0.4", "1.6", "0.25"),), late="system"),
    _interval("gpt-4.1-nano", prices=(_usd("0.1", "0.4", "0.25"),), late="system"),
    _interval("o4-mini", prices=(_usd("1.1", "4.4", "0.25"),)),
    # The price before June 2025 is not kept.
    _interval("o3", prices=(_usd("2", "8", "0.25", since=date(2025, 6, 10)),)),
    _interval("o3-mini", prices=(_usd("1.1", "4.4", "0.5"),)),
    _interval("o3-pro", prices=(_usd("20", "80", None),)),
    _interval("o1", prices=(_usd("15", "60", "0.5"),)),
    _interval("o1-mini", prices=(_usd("1.1", "4.4", "0.5"),), late=None),
    _interval("o1-preview", prices=(_usd("15", "60", "0.5"),), late=None),
    _interval("o1-pro", prices=(_usd("150", "600", None),)),
    _interval("gpt-4o", prices=(_usd("2.5", "10", "0.5"),), late="system"),
    _interval("gpt-4o-mini", prices=(_usd("0.15", "0.6", "0.5"),), late="system"),
    _uncached("gpt-4o-2024-05-13", prices=(_usd("5", "15", None),), uncertainty=_PUBLISHED),
    _uncached(
        "gpt-4-turbo",
        "gpt-4-turbo-preview",
        "gpt-4-0125-preview",
        "gpt-4-1106-preview",
        "gpt-4-vision-preview",
        prices=(_usd("10", "30", None),),
    ),
    _uncached("gpt-4", prices=(_usd("30", "60", None),)),
    _uncached("gpt-4-32k", prices=(_usd("60", "120", None),)),
    _uncached("gpt-3.5-turbo", prices=(_usd("0.5", "1.5", None),)),
    _uncached("gpt-3.5-turbo-1106", prices=(_usd("1", "2", None),)),
    _uncached("gpt-3.5-turbo-0613", "gpt-3.5-turbo-0301", "gpt-3.5-turbo-instruct", prices=(_usd("1.5", "2", None),)),
    _uncached("gpt-3.5-turbo-16k", prices=(_usd("3", "4", None),)),
)

UNKNOWN = replace(
    _interval("unknown-openai", prices=(), late=None),
    models=(),
    tokenizer_uncertainty=_UNPUBLISHED,
    tool_changes=(),
    requests_per_key=0,
    known=False,
)
"""Stands in for an OpenAI model without a row: no markers, which older models refuse, no key, and no price.

Most names without a row are variants of models that have an interval of 128.
"""
