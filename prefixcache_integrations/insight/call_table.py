"""Calls as handlers keep them, and as a plain-text table."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.insight.report_text import break_line
from prefixcache_integrations.insight.rewrites import CHANGES
from prefixcache_integrations.profiles import CacheProfile, resolve

Served: TypeAlias = Literal["provider", "response_cache", "other_cache"]
"""Who answered: the provider, this package's response cache, or another cache set in the framework."""


class CallRecord(Struct, frozen=True, kw_only=True):
    """One finished call.

    ``cost`` and ``uncached_cost`` (the same call without any prompt cache) are US dollars, ``None`` where
    usage or price is unknown. ``note`` says what kept the call from being cached, where that is certain:
    what was changed since the call before it, at what price, or that the prompt is too short.
    """

    model: str | None
    usage: Usage
    served: Served = "provider"
    cost: Decimal | None = None
    uncached_cost: Decimal | None = None
    note: str | None = None


def call_record(call: RecordedCall) -> CallRecord:
    """Return what a handler keeps of ``call``."""
    served: Served = call.outcome if call.outcome in ("response_cache", "other_cache") else "provider"
    return CallRecord(
        model=call.model,
        usage=call.usage,
        served=served,
        cost=call.cost,
        uncached_cost=call.uncached_cost,
        note=_note(call) if served == "provider" else None,
    )


def _note(call: RecordedCall) -> str | None:
    if call.outcome == "failed":
        return f"failed: {call.error}"
    changed = next((finding.message for finding in call.findings if finding.code in CHANGES), break_line(call))
    if changed is not None:
        return changed
    if call.usage.input_tokens is None:
        return "the provider did not say what this call consumed"
    return _too_short(call.usage, resolve(call.model or "", call.provider))


def _too_short(usage: Usage, profile: CacheProfile) -> str | None:
    short = profile.minimum_tokens - (usage.input_tokens or 0)
    if profile.regime == "none" or not profile.known or usage.cache_read_tokens or usage.cache_write_tokens:
        return None
    return f"{short:,} tokens short of this model's minimum of {profile.minimum_tokens:,}" if short > 0 else None


_HEADS = ("#", "model", "served by", "input", "read", "write", "uncached", "output", "cost $", "uncached $", "note")
_LEFT = {"model", "served by", "note"}


def render(calls: Sequence[CallRecord], totals: Totals) -> str:
    """Return a table with a row per call and the totals under it; ``?`` stands for what is unknown."""
    rows = [_HEADS, *(_row(number, call) for number, call in enumerate(calls, start=1)), _sum(totals)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _row(number: int, call: CallRecord) -> tuple[str, ...]:
    usage = call.usage
    counts = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.uncached_tokens,
        usage.output_tokens,
    )
    return (
        str(number),
        call.model or "?",
        call.served.replace("_", " "),
        *map(_count, counts),
        _dollars(call.cost),
        _dollars(call.uncached_cost) if call.served == "provider" else "",
        call.note or "",
    )


def _sum(totals: Totals) -> tuple[str, ...]:
    counts = (
        totals.input_tokens,
        totals.cache_read_tokens,
        totals.cache_write_tokens,
        totals.uncached_tokens,
        totals.output_tokens,
    )
    unknown = {"usage": totals.unknown.get("input_tokens", 0), "price": totals.unknown.get("cost", 0)}
    return (
        "",
        f"{totals.calls} calls, {totals.hits} hits",
        "",
        *map(_count, counts),
        _dollars(totals.cost),
        _dollars(totals.uncached_cost),
        ", ".join(f"{count} calls without {what}" for what, count in unknown.items() if count),
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.ljust(width) if head in _LEFT else cell.rjust(width)
        for head, cell, width in zip(_HEADS, row, widths, strict=True)
    )
    return "  ".join(cells).rstrip()


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _dollars(value: Decimal | None) -> str:
    return "?" if value is None else f"{value:.6f}"
