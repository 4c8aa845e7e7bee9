"""How much of a prompt the request before it left in the cache, and how much of that is read: by the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import CacheMarker, Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.insight.diagnosis_assumed import assumed
from prefixcache_integrations.insight.diagnosis_tokens import PrefixNames, shared_tokens
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.insight.simulator_boundaries import (
    EARLIER_MESSAGE_ENDINGS,
    Boundaries,
    Boundary,
    Rendered,
    Rendering,
    boundaries,
    render,
)
from prefixcache_integrations.insight.simulator_rules_anthropic import hoisted
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.fingerprint import DIGEST_BYTES, PrefixNumbers
from prefixcache_integrations.prompt.segment_memory import SegmentMemory
from prefixcache_integrations.prompt.segments import Segment, token_counts, token_ids

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
    """Two requests of one conversation, each with its profile.

    ``weighed``: the markers of the earlier one were chosen by what they are worth, so that none is missing.
    """

    previous: Request
    current: Request
    previous_profile: CacheProfile
    profile: CacheProfile
    weighed: bool = False


def measure(
    pair: Pair, memory: SegmentMemory, timing: Timing, earlier: Sequence[Sent] | None, beside: Sequence[Sent] = ()
) -> Reach:
    """Play the conversation to a simulated cache and see what it reads.

    ``earlier`` are the requests before, oldest first; ``None`` takes it that there was one for each answer in the
    history, marked as these two are. Those ``beside`` come before them.
    """
    how = Rendering(memory, PrefixNumbers())
    previous, current = _sides(pair, how, alone=not (earlier or beside))
    cache = PromptCache(memory.tokenizer)
    for sent in (*beside, *(earlier or ())):
        whole = render(hoisted(sent.request), sent.profile, how, scope=_SCOPE)
        _play(cache, boundaries(replace(whole, ids=current.rendered.ids)), -sent.seconds_before)
    if earlier is None:
        looked_up = {row.tokens for row in (*previous.found.reads, *current.found.reads)}
        for cut in assumed(previous.rendered, pair.current, looked_up):
            _play(cache, boundaries(cut), 0)
    before = cache.ticket(previous.found, now=0)
    elapsed = timing.elapsed or 0
    pending = None if timing.begun else cache.ticket(current.found, now=elapsed)
    cache.started(before, now=0)
    at_once = cache.ticket(current.found, now=0)
    late = cache.ticket(current.found, now=elapsed) if elapsed else at_once
    return _reach(previous, current, before.usage, at_once.usage, (pending or late).usage)


class _Side(NamedTuple):
    """One request of a pair as the provider reads it, and what it looks up and writes."""

    rendered: Rendered
    found: Boundaries
    weighed: bool = False


def _sides(pair: Pair, how: Rendering, *, alone: bool) -> tuple[_Side, _Side]:
    """Render both requests; ``alone``: nothing else is compared with them."""
    previous = render(hoisted(pair.previous), pair.previous_profile, how, scope=_SCOPE)
    current = render(hoisted(pair.current), pair.profile, how, scope=_SCOPE)
    if "intervals" in (pair.previous_profile.regime, pair.profile.regime):
        previous, current = (_named if alone else _numbered)(previous, current, how.memory.tokenizer)
    return _Side(previous, boundaries(previous), pair.weighed), _Side(current, boundaries(current))


def _named(previous: Rendered, current: Rendered, tokenizer: Tokenizer) -> tuple[Rendered, Rendered]:
    shared = shared_tokens(previous, current, tokenizer)
    return replace(previous, names=PrefixNames(shared, b"p")), replace(current, names=PrefixNames(shared, b"c"))


def _numbered(previous: Rendered, current: Rendered, tokenizer: Tokenizer) -> tuple[Rendered, Rendered]:
    """What they begin with alike is counted, not encoded: any numbers do that both have."""
    rows = enumerate(zip(previous.segments, current.segments, strict=False))
    alike = takewhile(lambda row: _likeness(row[1][0]) == _likeness(row[1][1]), rows)
    starts = {_likeness(segment): -1 - (number << 32) for number, (segment, _) in alike}

    def ids(segment: Segment) -> Sequence[int]:
        start = starts.get(_likeness(segment))
        if start is None:
            return token_ids(segment, tokenizer)
        return range(start, start - token_counts((segment,), tokenizer)[0], -1)

    return replace(previous, ids=ids), replace(current, ids=ids)


def _likeness(segment: Segment) -> tuple[bytes, str]:
    return segment.identity, segment.text


def _play(cache: PromptCache, found: Boundaries, now: float) -> None:
    cache.started(cache.ticket(found, now=now), now=now)


def _reach(previous: _Side, current: _Side, before: Usage, at_once: Usage, usage: Usage) -> Reach:
    profile = previous.rendered.profile
    left = _left(previous, before.cache_read_tokens or 0)
    target = _longest(_markable(previous.rendered))
    minimum = -(-profile.minimum_tokens // profile.increment) * profile.increment
    unmarked = (
        not previous.weighed
        and target is not None
        and target.tokens >= minimum
        and (left is None or (target.tokens > left.tokens and _marks_tail(current.found, target)))
        and _is_prefix(target, current)
    )
    available = target if unmarked else left
    tokens = available.tokens if available else 0
    return Reach(
        available=tokens,
        readable=usage.cache_read_tokens or 0,
        prompt_readable=at_once.cache_read_tokens or 0,
        shared=available is None or _is_prefix(available, current),
        passed=_is_passed(current, tokens),
        unmarked=unmarked,
        shortfall=_shortfall(previous, target, minimum) if left is None else None,
        usage=usage,
    )


def _longest(rows: Sequence[Boundary]) -> Boundary | None:
    return max(rows, key=lambda row: row.tokens, default=None)


def _left(previous: _Side, read: int) -> Boundary | None:
    """Return the longest entry that ``previous`` wrote or read, but for what only primes the reply."""
    reply = COSTS[previous.rendered.request.dialect].reply
    rows = [*previous.found.writes, *(row for row in previous.found.reads if row.tokens == read)]
    return _longest([row for row in rows if row.tokens <= previous.found.prompt_tokens - reply])


def _markable(previous: Rendered) -> Sequence[Boundary]:
    """Return what ``previous`` would write with its end marked, however short."""
    request, profile = previous.request, previous.profile
    if profile.regime != "breakpoints":
        return ()
    options = request.options
    if profile.automatic_tail and as_object(options.get("prompt_cache_options")):
        options = without(options, "prompt_cache_options")
    marked = replace(request, options=options, marker=request.marker or CacheMarker())
    return boundaries(replace(previous, request=marked, profile=replace(profile, minimum_tokens=0))).writes


def _marks_tail(found: Boundaries, target: Boundary) -> bool:
    return any(row.tokens >= target.tokens for row in found.writes)


def _is_prefix(row: Boundary, current: _Side) -> bool:
    if current.rendered.profile.regime != "breakpoints":
        return any(read.key == row.key for read in current.found.reads)
    return row.key[-DIGEST_BYTES:] in current.rendered.digests


def _is_passed(current: _Side, tokens: int) -> bool:
    if current.rendered.profile.automatic_tail:
        return sum(row.tokens > tokens for row in current.found.reads) >= EARLIER_MESSAGE_ENDINGS
    return any(row.tokens > tokens for row in current.found.writes)


def _shortfall(previous: _Side, target: Boundary | None, minimum: int) -> int | None:
    regime = previous.rendered.profile.regime
    if regime == "none":
        return None
    length = target.tokens if target else previous.found.prompt_tokens if regime == "intervals" else 0
    return minimum - length if length < minimum else None
