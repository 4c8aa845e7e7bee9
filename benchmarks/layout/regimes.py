"""The rules of the providers' caches that workloads are replayed under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from benchmarks.layout.policies import AT_BREAKPOINTS, AT_MARKERS, EVERY_PREFIX, Policy
from benchmarks.layout.rules import Breakpoints, Intervals, Markers, Rule
from prefixcache_integrations import profiles
from prefixcache_integrations.profiles import CacheProfile

FOREVER = 10**9
"""For how many seconds entries stay where they never end."""


@dataclass(frozen=True, slots=True)
class Regime:
    """One rule: how it bills where entries live so many seconds, the planner's profile, and the fixed policies.

    ``reference`` are the policies of which the best is held against the planner. ``write`` is what writing a token
    costs, ``lifetime`` how many seconds an entry lives that nobody reads. ``everything_markable``: tools and the
    model's own messages too.
    """

    name: str
    rule: Callable[[float | None], Rule]
    profile: CacheProfile
    policies: Mapping[str, Policy]
    reference: tuple[str, ...]
    write: float = 1.0
    lifetime: float = 300.0
    everything_markable: bool = True


def lasting(profile: CacheProfile, seconds: float) -> CacheProfile:
    """Return ``profile`` with its default lifetime alone, and that so long."""
    return replace(profile, lifetimes=tuple(replace(row, seconds=int(seconds)) for row in profile.lifetimes[:1]))


def _profile(model: str, **changes: object) -> CacheProfile:
    """Return the row of a model with these changes; counts are exact here."""
    return replace(profiles.resolve(model), tokenizer_uncertainty=0.0, **changes)


CLAUDE = Regime(
    "Claude: entries at markers, found by looking back 20 blocks",
    lambda ttl: Markers(ttl=ttl),
    _profile("claude-sonnet-4-5"),
    AT_MARKERS,
    ("none", "system+last", "last"),
    write=1.25,
)
GPT_5_6 = Regime(
    "GPT-5.6 and later: entries at breakpoints, found at breakpoints",
    lambda ttl: Breakpoints(ttl=ttl),
    _profile("gpt-5.6"),
    AT_BREAKPOINTS,
    ("none", "system+last", "last"),
    write=1.25,
    lifetime=1800.0,
    everything_markable=False,
)
UP_TO_GPT_5_5 = Regime(
    "up to GPT-5.5: every prefix, at multiples of 128 tokens",
    lambda ttl: Intervals(ttl=ttl),
    _profile("gpt-5.2", increment=128),
    EVERY_PREFIX,
    ("as given",),
    everything_markable=False,
)
ENGINE = Regime(
    "engines: every prefix, at multiples of 16 tokens, no minimum",
    lambda ttl: Intervals(1, 16, ttl=ttl),
    _profile("gpt-5.2", minimum_tokens=1, increment=16),
    EVERY_PREFIX,
    ("as given",),
    everything_markable=False,
)
REGIMES = (CLAUDE, GPT_5_6, UP_TO_GPT_5_5, ENGINE)
"""The first three are the providers' rules; the costs that count are those of the first."""
