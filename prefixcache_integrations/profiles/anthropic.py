"""Claude models on the Claude API.

Sources, read in November 2026 unless dated:
Claude docs, *Prompt caching* (21 August 2026): minimums, four breakpoints, lookback of 20 positions, TTLs,
write multipliers, invalidation table, scope. Anthropic's ``claude-api`` skill, ``shared/prompt-caching.md``: runs of
tool blocks count as one position. Claude docs, *Pricing*, with genai-prices 0.2.3: prices.
Claude docs, *Thinking*: which models drop earlier thinking. anthropic 2.11.0, ``types/beta``, and Claude docs,
*Mid-conversation system messages*: which models accept late instructions, and tool changes with them (beta).
Claude docs, *Tool search tool*, "Model compatibility": not Opus 4.1 and earlier models.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime, Price, Tier, ToolChange, WholeRequestTier

_LIFETIMES = (
    Lifetime(name="5m", seconds=300, write_multiplier=Decimal("1.25")),
    Lifetime(name="1h", seconds=3600, write_multiplier=Decimal(2)),
)

# *Prompt caching*, "What invalidates the cache". The last four keys are no top-level fields: they stand for a
# content property or a server tool being switched on or off. `thinking` and `output_config` reach further up on some
# models; which ones is not published. `speed`: that table says the system prompt, *Fast mode* says that speeds share
# no prefix; the wider of the two stands here. `disable_parallel_tool_use` is a part of `tool_choice`.
_INVALIDATION: dict[str, Tier] = {
    "model": "tools",
    "tools": "tools",
    "speed": "tools",
    "system": "system",
    "tool_choice": "messages",
    "thinking": "messages",
    "output_config": "messages",
    "citations": "system",
    "web_search": "system",
    "web_fetch": "system",
    "images": "messages",
}

# Claude's tokenizer is not published; we count with o200k_base. github.com/sammcj/ingest pull request 65
# measured Claude Sonnet 4.5 at 1.18 times and Opus 5 at 1.53 times its count on the same text; Anthropic,
# "Introducing Claude Opus 4.7", says 1.0 to 1.35 times the tokens of the models before: 1.18 x 1.35 = 1.59.
_BEFORE_OPUS_4_7 = 0.25
_SINCE_OPUS_4_7 = 0.6


# *Pricing*: Message Batches at half of all prices, inference in the US at 1.1 times, fast mode at twice on five models.
_PROCESSING = {"batch": Decimal("0.5")}
_PROCESSING_WITH_FAST = {**_PROCESSING, "fast": Decimal(2)}
_REGIONS = {"us": Decimal("1.1")}


def _claude(
    *models: str,
    minimum: int,
    prices: tuple[Price, ...],
    uncertainty: float = _SINCE_OPUS_4_7,
    strips_thinking: bool = False,
    late: Literal["system"] | None = None,
    searches_tools: bool = True,
    fast: bool = False,
    tiers: tuple[WholeRequestTier, ...] = (),
) -> CacheProfile:
    return CacheProfile(
        name=models[0],
        provider="anthropic",
        models=models,
        regime="breakpoints",
        minimum_tokens=minimum,
        scope="workspace",
        max_breakpoints=4,
        lookback=20,
        tool_runs_are_one_position=True,
        lifetimes=_LIFETIMES,
        prices=prices,
        whole_request_tiers=tiers,
        processing=_PROCESSING_WITH_FAST if fast else _PROCESSING,
        regions=_REGIONS,
        invalidation=_INVALIDATION,
        tokenizer_uncertainty=uncertainty,
        strips_thinking=strips_thinking,
        late_instructions=late,
        tool_changes=_tool_changes(late is not None, searches_tools),
    )


def _tool_changes(takes_late_ones: bool, searches_tools: bool) -> tuple[ToolChange, ...]:  # noqa: FBT001 - facts
    return (*(("deferred",) if searches_tools else ()), *(("added",) if takes_late_ones else ()))


_OPUS = (Price.dollars("5", "25", "0.1"),)
_OPUS_4 = (Price.dollars("15", "75", "0.1"),)
_SONNET_4 = (Price.dollars("3", "15", "0.1"),)
_FABLE_5_2 = (Price.dollars("8", "40", "0.025"),)
_FABLE_5_1 = (Price.dollars("10", "50", "0.025"),)
_FABLE_5 = (Price.dollars("10", "50", "0.1"),)

ROWS: tuple[CacheProfile, ...] = (
    # The minimum of Fable 5.2 and Mythos 5.2 is not published; this is their predecessors'.
    _claude("claude-fable-5-2", minimum=512, prices=_FABLE_5_2, late="system", fast=True),
    _claude("claude-mythos-5-2", minimum=512, prices=_FABLE_5_2, late="system", fast=True),
    _claude("claude-fable-5-1", minimum=512, prices=_FABLE_5_1, late="system"),
    _claude("claude-mythos-5-1", minimum=512, prices=_FABLE_5_1, late="system"),
    _claude("claude-fable-5", minimum=512, prices=_FABLE_5, late="system"),
    _claude("claude-mythos-5", minimum=512, prices=_FABLE_5, late="system"),
    # The docs say 2,048; litellm's map says 512.
    _claude("claude-mythos-preview", minimum=2048, prices=_FABLE_5),
    _claude("claude-opus-5-5", minimum=512, prices=(Price.dollars("4", "20", "0.05"),), late="system", fast=True),
    _claude("claude-opus-5", minimum=512, prices=_OPUS, late="system", fast=True),
    _claude("claude-opus-4-8", minimum=1024, prices=_OPUS, late="system", fast=True),
    # Amazon Bedrock's page says 4,096 for Opus 4.7.
    _claude("claude-opus-4-7", minimum=2048, prices=_OPUS),
    _claude("claude-opus-4-6", minimum=4096, prices=_OPUS, uncertainty=_BEFORE_OPUS_4_7),
    _claude("claude-opus-4-5", minimum=4096, prices=_OPUS, uncertainty=_BEFORE_OPUS_4_7),
    _claude(
        "claude-opus-4-1",
        minimum=1024,
        prices=_OPUS_4,
        uncertainty=_BEFORE_OPUS_4_7,
        strips_thinking=True,
        searches_tools=False,
    ),
    _claude(
        "claude-opus-4",
        "claude-opus-4-0",
        "claude-4-opus",
        minimum=1024,
        prices=_OPUS_4,
        uncertainty=_BEFORE_OPUS_4_7,
        strips_thinking=True,
        searches_tools=False,
    ),
    _claude(
        "claude-sonnet-5-5",
        minimum=512,
        prices=(Price.dollars("2", "10", "0.1"), Price.dollars("2", "10", "0.05", since=date(2026, 10, 7))),
        late="system",
    ),
    _claude("claude-sonnet-5", minimum=1024, prices=(Price.dollars("2", "10", "0.1"),)),
    _claude("claude-sonnet-4-6", minimum=1024, prices=_SONNET_4, uncertainty=_BEFORE_OPUS_4_7),
    _claude("claude-sonnet-4-5", minimum=1024, prices=_SONNET_4, uncertainty=_BEFORE_OPUS_4_7, strips_thinking=True),
    _claude(
        "claude-sonnet-4",
        "claude-sonnet-4-0",
        "claude-4-sonnet",
        minimum=1024,
        prices=_SONNET_4,
        uncertainty=_BEFORE_OPUS_4_7,
        strips_thinking=True,
        searches_tools=False,
    ),
    _claude(
        "claude-haiku-5-5",
        minimum=512,
        prices=(Price.dollars("0.1", "0.5", "0.1"),),
        tiers=(WholeRequestTier(above_tokens=100_000, input_factor=Decimal(5), output_factor=Decimal(5)),),
    ),
    _claude(
        "claude-haiku-4-5",
        minimum=4096,
        prices=(Price.dollars("1", "5", "0.1"),),
        uncertainty=_BEFORE_OPUS_4_7,
        strips_thinking=True,
    ),
    _claude(
        "claude-3-5-haiku",
        "claude-haiku-3-5",
        minimum=2048,
        prices=(Price.dollars("0.8", "4", "0.1"),),
        uncertainty=_BEFORE_OPUS_4_7,
        strips_thinking=True,
        searches_tools=False,
    ),
)

UNKNOWN = CacheProfile(
    name="unknown-claude",
    provider="anthropic",
    models=(),
    regime="breakpoints",
    minimum_tokens=4096,
    scope="workspace",
    max_breakpoints=4,
    lookback=20,
    lifetimes=_LIFETIMES,
    invalidation=_INVALIDATION,
    tokenizer_uncertainty=_SINCE_OPUS_4_7,
    strips_thinking=True,
    known=False,
)
"""Stands in for a Claude model without a row: the highest minimum, no leniency, no price."""
