"""Facts, told to observers as they happen: frozen, small, and never with prompt or answer text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical.plan import PromptPlan
from prefixcache_integrations.canonical.usage import Usage

_logger = logging.getLogger("prefixcache_integrations")


class CacheHit(Struct, frozen=True, kw_only=True):
    """A request was answered from the response cache. ``key`` is the hashed response key."""

    key: str
    model: str | None = None


class CacheMiss(Struct, frozen=True, kw_only=True):
    """The response cache had no entry."""

    key: str
    model: str | None = None


class EntryStored(Struct, frozen=True, kw_only=True):
    """An answer was put into the response cache; ``size`` in bytes as stored."""

    key: str
    size: int


class EntryRejected(Struct, frozen=True, kw_only=True):
    """An answer was not stored, or a stored one not served; ``reason`` in a few words."""

    key: str
    reason: str


class StoreDegraded(Struct, frozen=True, kw_only=True):
    """A store failed; the call went on without it."""

    operation: Literal["get", "put", "delete", "clear"]
    error: str


class UsageRecorded(Struct, frozen=True, kw_only=True):
    """A call's tokens became known. ``cost`` in US dollars, ``None`` where no price is known.

    ``uncached_cost`` is what the same call would have cost with no prompt cache at all.
    """

    model: str | None
    usage: Usage
    cost: Decimal | None = None
    uncached_cost: Decimal | None = None


class PromptPlanned(Struct, frozen=True, kw_only=True):
    """A request was laid out; ``plan`` lists every breakpoint and finding."""

    model: str
    plan: PromptPlan


class PassedThrough(Struct, frozen=True, kw_only=True):
    """A request was left exactly as it was, because it could not be understood; ``reason`` quotes no text."""

    reason: str
    model: str | None = None


Event: TypeAlias = (
    CacheHit
    | CacheMiss
    | EntryStored
    | EntryRejected
    | StoreDegraded
    | UsageRecorded
    | PromptPlanned
    | PassedThrough
)
Observer: TypeAlias = Callable[[Event], None]


def tell(observers: Sequence[Observer], event: Event) -> None:
    """Tell every observer; one that raises is logged and does not stop the call or the others."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            _logger.exception("An observer failed on %s", type(event).__name__)
