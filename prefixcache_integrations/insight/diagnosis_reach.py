"""How much of a prompt the request before it left in the cache, and how much of that is read: by the simulator."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import CacheMarker, Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.insight.simulator_boundaries import (
    EARLIER_MESSAGE_ENDINGS,
    Boundaries,
    Boundary,
    boundaries,
)
from prefixcache_integrations.insight.simulator_rules_anthropic import hoisted
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.fingerprint import DIGEST_BYTES, prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segments import REPLY_TOKENS, segments

_SCOPE = "conversation"


class Sent(Struct, frozen=True, kw_only=True):
    """A request of the conversation, before the previous one. ``seconds_before``: how long before that one started."""

    request: Request
    profile: CacheProfile
    seconds_before: float = 0.0


class Timing(Struct, frozen=True, kw_only=True):
    """When the later request is sent: ``elapsed`` seconds after the earlier one was, whose response has ``begun``."""

    elapsed: float | None = None
    begun: bool = True


class Reach(Struct, frozen=True, kw_only=True):
    """What a pair of requests amounts to, in tokens.

    ``available``: left by the earlier request, or by what it should have marked (``unmarked``). ``readable``: read by
    the later one now; ``prompt_readable``: if it came at once. ``shared``: all that is available is in its prefix.
    ``passed``: it has a place to look from that lies behind what is available. ``shortfall``: how many tokens the
    earlier request is short of being cached. ``usage`` is the later request's, as predicted.
    """

    available: int
    readable: int
    prompt_readable: int
    shared: bool
    passed: bool
    unmarked: bool
    shortfall: int | None
    usage: Usage


class Pair(Struct, frozen=True, kw_only=True):
    """Two requests of one conversation, each with its profile."""

    previous: Request
    current: Request
    previous_profile: CacheProfile
    profile: CacheProfile


def measure(
    pair: Pair, tokenizer: Tokenizer, timing: Timing, earlier: Sequence[Sent] | None, beside: Sequence[Sent] = ()
) -> Reach:
    """Play the conversation to a simulated cache and see what it reads.

    ``earlier`` are the requests before, oldest first; ``None`` takes it that there was one for each answer in the
    history, marked as these two are. Those ``beside`` come before them.
    """
    cache = PromptCache(tokenizer)
    for sent in (*beside, *(_assumed(pair) if earlier is None else earlier)):
        _play(cache, sent.request, sent.profile, -sent.seconds_before)
    before = cache.begin(pair.previous, pair.previous_profile, scope=_SCOPE, now=0)
    elapsed = timing.elapsed or 0
    pending = None if timing.begun else cache.begin(pair.current, pair.profile, scope=_SCOPE, now=elapsed)
    cache.started(before, now=0)
    at_once = cache.begin(pair.current, pair.profile, scope=_SCOPE, now=0)
    late = cache.begin(pair.current, pair.profile, scope=_SCOPE, now=elapsed) if elapsed else at_once
    usage = (pending or late).usage
    return _reach(pair, tokenizer, before.usage.cache_read_tokens or 0, at_once.usage, usage)


def _play(cache: PromptCache, request: Request, profile: CacheProfile, now: float) -> None:
    cache.started(cache.begin(request, profile, scope=_SCOPE, now=now), now=now)


def _reach(pair: Pair, tokenizer: Tokenizer, read_before: int, at_once: Usage, usage: Usage) -> Reach:
    left = _left(pair.previous, pair.previous_profile, tokenizer, read_before)
    target = _longest(_markable(pair.previous, pair.previous_profile, tokenizer))
    found = _boundaries(pair.current, pair.profile, tokenizer)
    minimum = _first_cacheable(pair.previous_profile)
    unmarked = (
        target is not None
        and target.tokens >= minimum
        and (left is None or (target.tokens > left.tokens and _marks_tail(found, target)))
        and _is_prefix(target, pair, found)
    )
    available = target if unmarked else left
    tokens = available.tokens if available else 0
    return Reach(
        available=tokens,
        readable=usage.cache_read_tokens or 0,
        prompt_readable=at_once.cache_read_tokens or 0,
        shared=available is None or _is_prefix(available, pair, found),
        passed=_is_passed(found, tokens, pair.profile),
        unmarked=unmarked,
        shortfall=_shortfall(pair, tokenizer, target, minimum) if left is None else None,
        usage=usage,
    )


def _boundaries(request: Request, profile: CacheProfile, tokenizer: Tokenizer) -> Boundaries:
    runs = profile.tool_runs_are_one_position
    return boundaries(hoisted(request), profile, tokenizer, scope=_SCOPE, tool_runs_are_one_position=runs)


def _longest(rows: Sequence[Boundary]) -> Boundary | None:
    return max(rows, key=lambda row: row.tokens, default=None)


def _left(request: Request, profile: CacheProfile, tokenizer: Tokenizer, read: int) -> Boundary | None:
    """Return the longest entry that ``request`` wrote or read, but for what only primes the reply."""
    found = _boundaries(request, profile, tokenizer)
    longest = found.prompt_tokens - (REPLY_TOKENS if request.dialect != "anthropic_messages" else 0)
    rows = [*found.writes, *(row for row in found.reads if row.tokens == read)]
    return _longest([row for row in rows if row.tokens <= longest])


def _markable(request: Request, profile: CacheProfile, tokenizer: Tokenizer) -> Sequence[Boundary]:
    """Return what ``request`` would write with its end marked, however short."""
    if profile.regime != "breakpoints":
        return ()
    options = request.options
    if profile.automatic_tail and as_object(options.get("prompt_cache_options")):
        options = without(options, "prompt_cache_options")
    marked = replace(request, options=options, marker=request.marker or CacheMarker())
    return _boundaries(marked, replace(profile, minimum_tokens=0), tokenizer).writes


def _marks_tail(found: Boundaries, target: Boundary) -> bool:
    return any(row.tokens >= target.tokens for row in found.writes)


def _is_prefix(row: Boundary, pair: Pair, found: Boundaries) -> bool:
    if pair.profile.regime != "breakpoints":
        return any(read.key == row.key for read in found.reads)
    seeds = tier_seeds(pair.current, pair.profile)
    return row.key[-DIGEST_BYTES:] in prefix_digests(segments(hoisted(pair.current)), seeds)


def _is_passed(found: Boundaries, tokens: int, profile: CacheProfile) -> bool:
    if profile.automatic_tail:
        return sum(row.tokens > tokens for row in found.reads) >= EARLIER_MESSAGE_ENDINGS
    return any(row.tokens > tokens for row in found.writes)


def _first_cacheable(profile: CacheProfile) -> int:
    return -(-profile.minimum_tokens // profile.increment) * profile.increment


def _shortfall(pair: Pair, tokenizer: Tokenizer, target: Boundary | None, minimum: int) -> int | None:
    if pair.previous_profile.regime == "none":
        return None
    whole = _boundaries(pair.previous, pair.previous_profile, tokenizer).prompt_tokens
    length = target.tokens if target else whole if pair.previous_profile.regime == "intervals" else 0
    return minimum - length if length < minimum else None


# The requests before, where nobody kept them.


def _assumed(pair: Pair) -> list[Sent]:
    """Return one request for each answer in the history of ``previous``, its end marked where these two have theirs."""
    previous = pair.previous
    if is_explicit(previous) and not is_explicit(pair.current):
        previous = replace(previous, options=without(previous.options, "prompt_cache_options"))
    marker = _tail_marker(previous) or _tail_marker(pair.current)
    ends = [
        index
        for index, message in enumerate(previous.messages)
        if index and message.role == "assistant" and previous.messages[index - 1].role != "assistant"
    ]
    return [Sent(request=_cut(previous, end, marker), profile=pair.previous_profile) for end in ends]


def is_explicit(request: Request) -> bool:
    """Tell whether the application has turned GPT-5.6's implicit breakpoint off."""
    return (as_object(request.options.get("prompt_cache_options")) or {}).get("mode") == "explicit"


def _cut(request: Request, end: int, marker: CacheMarker | None) -> Request:
    return replace(request, messages=request.messages[:end], marker=request.marker or marker)


def _tail_marker(request: Request) -> CacheMarker | None:
    """Return the marker at the end of the messages, the automatic one included."""
    blocks = (part for message in reversed(request.messages) for part in reversed(message.parts) if part.markable)
    last = next(blocks, None)
    if last is None or request.marker is not None:
        return request.marker
    return last.marker or (last.content[-1].marker if last.content else None)
