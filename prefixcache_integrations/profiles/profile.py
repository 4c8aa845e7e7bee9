"""The facts about one model family's prompt cache, as a frozen row.

Planner, simulator, accounting and diagnosis read the same row; a provider difference is a value here,
never a branch there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct, field

Provider: TypeAlias = Literal["anthropic", "openai", "azure", "unknown"]
Regime: TypeAlias = Literal["breakpoints", "intervals", "none"]
"""How entries come to be. ``breakpoints``: only where a marker stands (Claude; GPT-5.6 and later).
``intervals``: by themselves, at every multiple of ``increment`` tokens (OpenAI up to GPT-5.5).
``none``: the model has no prompt cache."""

Tier: TypeAlias = Literal["tools", "system", "messages"]
"""From which part of the prompt on a change loses the cache, in render order."""


ToolChange: TypeAlias = Literal["deferred", "allowed", "added"]
"""A way to change which tools a model may call that leaves its prefix as it is. ``deferred``: declared, and found by
the provider's tool search. ``allowed``: chosen in ``tool_choice``. ``added``: by items at the end of the prompt."""

Scope: TypeAlias = Literal["workspace", "organization", "subscription"]
"""The boundary that entries never cross."""


class Lifetime(Struct, frozen=True, kw_only=True):
    """One lifetime of an entry: its name on the wire, its length in seconds, its write price.

    A TTL that a marker may ask for, or a retention policy where there are no markers. ``seconds`` is how
    long an entry that nobody reads can be relied on, ``most_seconds`` the longest it may live where that is told.
    ``write_multiplier`` is relative to the price of an uncached input token; 1 where writes are free.
    """

    name: str
    seconds: int
    write_multiplier: Decimal
    most_seconds: int | None = None


class Price(Struct, frozen=True, kw_only=True):
    """Prices from a date on; ``effective`` is ``None`` for the first row of a model.

    ``input`` and ``output`` are US dollars per million tokens. ``read_multiplier`` is the price of a
    cached token relative to an uncached one, ``None`` where the provider publishes no cached price.
    """

    input: Decimal
    output: Decimal
    read_multiplier: Decimal | None
    effective: date | None = None

    @staticmethod
    def dollars(input: str, output: str, read: str | None, since: date | None = None) -> Price:  # noqa: A002 - the field's name
        """Build a row from decimal literals, so that no price passes through a binary float."""
        return Price(
            input=Decimal(input),
            output=Decimal(output),
            read_multiplier=None if read is None else Decimal(read),
            effective=since,
        )


class WholeRequestTier(Struct, frozen=True, kw_only=True):
    """Above ``above_tokens`` input tokens, every token of the whole request costs more.

    The factors multiply input (reads and writes with it) and output prices.
    """

    above_tokens: int
    input_factor: Decimal
    output_factor: Decimal


class CacheProfile(Struct, frozen=True, kw_only=True):
    """What is known about one model family's prompt cache.

    ``models`` are name stems, the usual name first: a model belongs to the row with the longest stem that
    is its whole name or is followed by a date or version suffix.
    ``scope``: entries are shared inside it and never beyond.
    ``minimum_tokens``: shorter prefixes are never cached; silently. ``increment``: cached counts are
    multiples of it (1: exact). ``max_breakpoints``: markers a request may carry or write, 0 where there
    are none. ``automatic_tail``: the provider marks the end of the latest message by itself (GPT-5.6's
    implicit mode). ``lookback``: positions a marker looks back for an older entry, itself included;
    ``None``: no limit. ``tool_runs_are_one_position``: a run of tool calls, or of their results, counts
    once. ``max_lookups``: candidate boundaries considered per request, ``None``: no limit.
    ``lifetimes``: the default first. ``retention``: values of OpenAI's ``prompt_cache_retention`` that the
    model accepts, the default first.
    ``processing`` has the factors on all prices of service tiers and speeds that differ from the list price by one, and
    ``regions`` those of places: what is in neither has no known price.
    ``invalidation`` maps a request field to the tier from which on changing it loses the cache.
    ``tokenizer_uncertainty``: by which share the provider's count may exceed that of our tokeniser.
    ``strips_thinking``: adding user text after tool use drops earlier thinking, and the prefix with it.
    ``late_instructions``: the message role that can add instructions without touching the prefix.
    ``tool_changes``: the ways that the model has, the simplest first.
    ``requests_per_key``: up to how many requests a minute one ``prompt_cache_key`` keeps together, 0 where the
    endpoint takes none.
    ``known`` is false for the conservative default that stands in for a model without a row.
    """

    name: str
    provider: Provider
    models: tuple[str, ...]
    regime: Regime
    minimum_tokens: int
    scope: Scope = "organization"
    increment: int = 1
    max_breakpoints: int = 0
    automatic_tail: bool = False
    lookback: int | None = None
    tool_runs_are_one_position: bool = False
    max_lookups: int | None = None
    lifetimes: tuple[Lifetime, ...] = ()
    retention: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()
    whole_request_tiers: tuple[WholeRequestTier, ...] = ()
    processing: Mapping[str, Decimal] = field(default_factory=dict)
    regions: Mapping[str, Decimal] = field(default_factory=dict)
    invalidation: Mapping[str, Tier] = field(default_factory=dict)
    tokenizer_uncertainty: float = 0.0
    strips_thinking: bool = False
    late_instructions: Literal["system", "developer"] | None = None
    tool_changes: tuple[ToolChange, ...] = ()
    requests_per_key: int = 0
    known: bool = True

    def lifetime(self, name: str | None) -> Lifetime | None:
        """Return the lifetime called ``name``, the default (first) one for ``None``, ``None`` if there is none."""
        if name is None:
            return self.lifetimes[0] if self.lifetimes else None
        return next((row for row in self.lifetimes if row.name == name), None)

    def price(self, on: date) -> Price | None:
        """Return the price row in force on the day ``on``, ``None`` where no price is known."""
        current = None
        for row in self.prices:
            if row.effective is None or row.effective <= on:
                current = row
        return current
