"""A provider's prompt cache, simulated: what a request reads, what it writes, and what it is billed as.

Pure: the time comes in as ``now``, in seconds of any clock that does not run backwards. Not modelled: routing
between machines, eviction under load, tokens the provider adds and hides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, Request, Tokenizer, Usage
from prefixcache_integrations.insight.simulator_boundaries import Boundaries, Boundary, Rendering, boundaries, render
from prefixcache_integrations.insight.simulator_rules import Refusal, Rule
from prefixcache_integrations.insight.simulator_rules_anthropic import ANTHROPIC_RULES, hoisted
from prefixcache_integrations.insight.simulator_rules_openai import OPENAI_CHAT_RULES, OPENAI_RESPONSES_RULES
from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime
from prefixcache_integrations.prompt.segment_memory import SegmentMemory

_RULES: Mapping[DialectName, tuple[Rule, ...]] = {
    "anthropic_messages": ANTHROPIC_RULES,
    "openai_chat": OPENAI_CHAT_RULES,
    "openai_responses": OPENAI_RESPONSES_RULES,
}

_FALLBACK_SECONDS = 300
"""Lifetime of an entry where the profile names none: the shortest any provider documents."""


class CacheSettings(Struct, frozen=True, kw_only=True):
    """What the providers leave open; the defaults are the readings that promise least.

    ``tool_runs_are_one_position``: a run of tool calls, or of tool results, counts once in the lookback; false
    counts every block; ``None`` follows the profile. ``refresh_shorter``: a read also refreshes the shorter
    entries of the same prefix that the request looked up. ``max_entries`` bounds the memory: beyond it the
    entries that expire first are dropped.
    """

    tool_runs_are_one_position: bool | None = None
    refresh_shorter: bool = False
    max_entries: int = 200_000


class Entry(Struct, frozen=True, kw_only=True):
    """A cached prefix that can be read until ``expires``; ``seconds`` is its lifetime, renewed by every read."""

    key: bytes
    seconds: int
    expires: float


class Ticket(Struct, frozen=True, kw_only=True):
    """A request on its way: its input usage, and the entries it leaves once its response has begun."""

    usage: Usage
    entries: tuple[Entry, ...] = ()


def refusal(request: Request, profile: CacheProfile) -> Refusal | None:
    """Return the first reason for which the provider would answer 400, ``None`` where it would not."""
    seen = hoisted(request)
    return next((found for rule in _RULES[request.dialect] if (found := rule(seen, profile))), None)


class PromptCache:
    """One provider's prompt cache. Not thread-safe: its owner serialises calls.

    `begin` decides what a request reads; `started` makes its own entries readable, and is to be called when the first
    byte of the response leaves. A request that fails before that leaves nothing.
    """

    def __init__(self, tokenizer: Tokenizer, settings: CacheSettings | None = None) -> None:
        self._tokenizer = tokenizer
        self._settings = settings or CacheSettings()
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, request: Request, profile: CacheProfile, *, scope: str, now: float) -> Ticket:
        """Return what ``request`` reads and would write; ``scope`` is whoever shares entries: an organisation."""
        # Each request comes as objects of its own: there is nothing to remember them by.
        how = Rendering(SegmentMemory(self._tokenizer, size=0))
        rendered = render(hoisted(request), profile, how, scope=scope)
        runs = self._settings.tool_runs_are_one_position
        return self.ticket(boundaries(rendered, tool_runs_are_one_position=runs), now=now)

    def ticket(self, found: Boundaries, *, now: float) -> Ticket:
        """Return what a request with these boundaries reads and would write."""
        hits = [row for row in found.reads if self._live(row.key, now)]
        longest = max(hits, key=_length, default=None)
        read_tokens = longest.tokens if longest else 0
        written = [row for row in found.writes if row.tokens > read_tokens]
        refreshed = hits if self._settings.refresh_shorter or not found.billed else [longest] if longest else []
        renewed = [self._entries[row.key].seconds for row in refreshed]
        return Ticket(
            usage=_usage(found, read_tokens, written),
            entries=(
                *(_entry(row.key, seconds, now) for row, seconds in zip(refreshed, renewed, strict=True)),
                *(_entry(row.key, row.lifetime.seconds if row.lifetime else _FALLBACK_SECONDS, now) for row in written),
            ),
        )

    def started(self, ticket: Ticket, *, now: float) -> None:
        """Make the entries of ``ticket`` readable: its response has begun. They live from the request's start."""
        for entry in ticket.entries:
            known = self._entries.pop(entry.key, None)
            self._entries[entry.key] = known if known and known.expires > entry.expires else entry
        if len(self._entries) > self._settings.max_entries:
            self._evict(now)

    def clear(self) -> None:
        """Forget every entry."""
        self._entries.clear()

    def _live(self, key: bytes, now: float) -> bool:
        entry = self._entries.get(key)
        return entry is not None and now < entry.expires

    def _evict(self, now: float) -> None:
        """Drop the expired, then the first to expire, down to nine tenths of the bound: not on every call."""
        live = sorted((row for row in self._entries.values() if now < row.expires), key=lambda row: row.expires)
        self._entries = {row.key: row for row in live[-(self._settings.max_entries * 9 // 10) :]}


def _length(row: Boundary) -> int:
    return row.tokens


def _entry(key: bytes, seconds: int, now: float) -> Entry:
    return Entry(key=key, seconds=seconds, expires=now + seconds)


def _usage(found: Boundaries, read_tokens: int, written: Sequence[Boundary]) -> Usage:
    by_ttl = _writes_by_ttl(read_tokens, written) if found.billed else None
    return Usage(
        input_tokens=found.prompt_tokens,
        cache_read_tokens=read_tokens,
        cache_write_tokens=sum(by_ttl.values()) if by_ttl is not None else None,
        cache_write_by_ttl=by_ttl,
    )


def _writes_by_ttl(read_tokens: int, written: Sequence[Boundary]) -> dict[str, int]:
    """Split the written tokens: the longest lifetime pays up to its last boundary, the next from there on.

    This is Claude's rule for mixed TTLs (Claude docs, prompt caching: mixing different TTLs).
    """
    split: dict[str, int] = {}
    reached = read_tokens
    lifetimes: dict[str, Lifetime] = {row.lifetime.name: row.lifetime for row in written if row.lifetime}
    for lifetime in sorted(lifetimes.values(), key=lambda row: row.seconds, reverse=True):
        end = max(row.tokens for row in written if row.lifetime == lifetime)
        split[lifetime.name] = max(end - reached, 0)
        reached = max(end, reached)
    return split
