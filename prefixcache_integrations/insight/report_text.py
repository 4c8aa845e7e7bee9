"""Numbers of a report as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from prefixcache_integrations.insight.recording import RecordedCall

UNKNOWN = "?"

_DIGITS = ((Decimal(1), 2), (Decimal("0.01"), 4), (Decimal(0), 6))


def count(value: float | None) -> str:
    """Write a whole number with thousands apart."""
    return UNKNOWN if value is None else f"{round(value):,}"


def dollars(value: Decimal | None) -> str:
    """Write an amount of money, small ones with the digits that tell them from nothing."""
    if value is None:
        return UNKNOWN
    digits = next(digits for least, digits in _DIGITS if abs(value) >= least or value == 0)
    return f"{'-' if value < 0 else ''}${abs(value):,.{digits}f}"


def share(value: float | None) -> str:
    """Write a share as a percentage."""
    return UNKNOWN if value is None else f"{value:.1%}"


def moment(seconds: float, *, date: bool = False) -> str:
    """Write a moment (UTC)."""
    return f"{datetime.fromtimestamp(seconds, UTC):{'%Y-%m-%d %H:%M' if date else '%H:%M:%S'}}"


def duration(seconds: float | None) -> str:
    """Write how long something took."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:  # noqa: PLR2004 - a hit of a cache takes less than a millisecond
        return f"{seconds * 1000:.2f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def break_line(call: RecordedCall) -> str | None:
    """Say why a call read less than it could, where, and what that cost; ``None`` where it lost nothing."""
    found = call.broken
    if found is None:
        return None
    place = "" if found.path is None else f" at {found.path}"
    character = f", character {found.offset:,}" if found.path is not None and found.offset else ""
    price = "" if found.lost_cost is None else f", {dollars(found.lost_cost)}"
    return f"{found.reason.replace('_', ' ')}{place}{character}: {found.lost_tokens:,} tokens lost{price}"


def outcome_line(call: RecordedCall) -> str | None:
    """Say how a call went that was not simply answered by the provider; ``None`` for one that was."""
    lines = {
        "response_cache": "answered from the response cache",
        "other_cache": "answered from another cache",
        "abandoned": "abandoned while it answered: what it cost is unknown",
        "failed": f"failed: {call.error}",
    }
    return lines.get(call.outcome)
