"""Where the entries of a provider's prompt cache may begin to be looked for, and where they may end.

A boundary is a place in the prompt that a cached prefix may reach. Each regime of a profile says which boundaries
of a request are looked up and which are written; the engine then only compares them with what is live.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, compress, count, islice
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from prefixcache_integrations.canonical import Address, CacheMarker, Message, Request
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime, Regime, Tier
from prefixcache_integrations.prompt.fingerprint import TIERS, prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segment_memory import SegmentMemory
from prefixcache_integrations.prompt.segments import Segment, SegmentKind, token_ids
from prefixcache_integrations.prompt.thinking import read_segments

EARLIER_MESSAGE_ENDINGS = 20
"""How many earlier message endings GPT-5.6's implicit mode looks up (OpenAI guide, prompt caching: lookups)."""

EXPLICIT_WRITES_BESIDE_IMPLICIT = 3
"""How many explicit breakpoints are written beside the implicit one (OpenAI guide, prompt caching: breakpoints)."""


class Boundary(Struct, frozen=True, kw_only=True):
    """A place a cached prefix may reach: ``key`` identifies the whole prefix, ``tokens`` is its length.

    ``lifetime`` is what an entry written here is asked to live; reads ignore it.
    """

    key: bytes
    tokens: int
    lifetime: Lifetime | None = None


class Boundaries(Struct, frozen=True, kw_only=True):
    """What one request looks up and what it may write, in prompt order. ``billed``: writes are reported."""

    prompt_tokens: int
    reads: tuple[Boundary, ...] = ()
    writes: tuple[Boundary, ...] = ()
    billed: bool = False


class Rendering(NamedTuple):
    """How requests are rendered: ``memory`` reads their messages, ``digests`` tells equal prefixes from others."""

    memory: SegmentMemory
    digests: Callable[[Sequence[Segment], Mapping[Tier, bytes]], tuple[bytes, ...]] = prefix_digests


class Rendered(Struct, frozen=True, kw_only=True):
    """A request as the provider reads it.

    ``tokens`` and ``digests`` are of the prefix up to and with each segment; there are no digests where entries end
    inside segments. ``ids`` returns the tokens of one. ``how`` says how it was rendered, ``names`` the length and the
    name of each token prefix, ``None`` to go by the tokens.
    """

    request: Request
    profile: CacheProfile
    segments: tuple[Segment, ...]
    tokens: tuple[int, ...]
    digests: tuple[bytes, ...]
    namespace: bytes
    ids: Callable[[Segment], Sequence[int]]
    how: Rendering
    names: Callable[[Rendered], Iterable[tuple[int, bytes]]] | None = None

    def boundary(self, index: int, ttl: str | None = None) -> Boundary:
        """Return the boundary after segment ``index``."""
        key = self.namespace + self.digests[index]
        return Boundary(key=key, tokens=self.tokens[index], lifetime=self.profile.lifetime(ttl))


def render(request: Request, profile: CacheProfile, how: Rendering, *, scope: str) -> Rendered:
    """Return ``request`` as the provider reads it; ``scope`` is who shares entries with whom."""
    runs, counts = read_segments(request, profile, how.memory)
    return Rendered(
        request=request,
        profile=profile,
        segments=runs,
        tokens=tuple(accumulate(counts)),
        digests=() if profile.regime == "intervals" else how.digests(runs, tier_seeds(request, profile)),
        namespace=hashlib.blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        ids=partial(token_ids, tokenizer=how.memory.tokenizer),
        how=how,
    )


def boundaries(rendered: Rendered, *, tool_runs_are_one_position: bool | None = None) -> Boundaries:
    """Return the boundaries of a request under its profile; what it says of runs of tool calls may be overruled."""
    profile, total = rendered.profile, rendered.tokens[-1] if rendered.tokens else 0
    if profile.regime == "breakpoints" and not profile.automatic_tail:
        runs = profile.tool_runs_are_one_position if tool_runs_are_one_position is None else tool_runs_are_one_position
        return _marked(rendered, total, tool_runs_are_one_position=runs)
    return _REGIMES[profile.regime](rendered, total)


# Claude: entries end at markers, each marker looks back a bounded number of positions.


def _marked(rendered: Rendered, total: int, *, tool_runs_are_one_position: bool) -> Boundaries:
    """Return boundaries at blocks: each tool, system block and content block is one segment."""
    blocks = [*compress(count(), map(_at, rendered.segments))]
    kinds = [rendered.segments[index].kind for index in blocks]
    marked = _marked_blocks(rendered, blocks)
    lookback = rendered.profile.lookback
    reachable: set[int] = set()
    for number in marked:
        reachable.update(_window(kinds, number, lookback, tool_runs_are_one_position=tool_runs_are_one_position))
    writes = (rendered.boundary(blocks[number], ttl) for number, ttl in sorted(marked.items()))
    return Boundaries(
        prompt_tokens=total,
        reads=tuple(rendered.boundary(blocks[number]) for number in sorted(reachable)),
        writes=tuple(row for row in writes if row.tokens >= rendered.profile.minimum_tokens),
        billed=True,
    )


def _marked_blocks(rendered: Rendered, blocks: Sequence[int]) -> dict[int, str | None]:
    """Return the numbers of the marked blocks with their TTLs, the automatic marker resolved to its block."""
    segments = [rendered.segments[index] for index in blocks]
    marked = {number: marker.ttl for number, marker in enumerate(map(_marker, segments)) if marker is not None}
    automatic = rendered.request.marker
    eligible = (number for number in reversed(range(len(segments))) if segments[number].markable)
    if automatic is not None and (last := next(eligible, None)) is not None:
        marked.setdefault(last, automatic.ttl)
    return marked


def _window(
    kinds: Sequence[SegmentKind], start: int, lookback: int | None, *, tool_runs_are_one_position: bool
) -> Iterator[int]:
    """Yield the blocks at most ``lookback`` positions behind the one at ``start``, which is position 1."""
    position = 0
    for number in range(start, -1, -1):
        kind = kinds[number]
        in_run = kind in _RUNS and number < start and kinds[number + 1] == kind
        position += not (tool_runs_are_one_position and in_run)
        if lookback is not None and position > lookback:
            return
        yield number


_at: Callable[[Segment], Address | None] = attrgetter("at")
_marker: Callable[[Segment], CacheMarker | None] = attrgetter("marker")

_RUNS = frozenset({"tool_call", "tool_result"})


# GPT-5.6 and later: explicit breakpoints, and in implicit mode the end of the latest message as well.


def _automatic_tail(rendered: Rendered, total: int) -> Boundaries:
    options = as_object(rendered.request.options.get("prompt_cache_options")) or {}
    implicit = options.get("mode") != "explicit"
    default_ttl = as_text(options.get("ttl"))
    explicit = [index for index, segment in enumerate(rendered.segments) if segment.marker is not None]
    endings, opening = _message_endings(rendered)
    budget = rendered.profile.max_breakpoints
    written = {*explicit[-EXPLICIT_WRITES_BESIDE_IMPLICIT:], *endings[-1:]} if implicit else {*explicit[-budget:]}
    looked_up = {*explicit[-(rendered.profile.max_lookups or len(explicit)) :]}
    if implicit:
        looked_up |= {*endings[-1 - EARLIER_MESSAGE_ENDINGS :], *opening}
    writes = (rendered.boundary(index, _ttl(rendered.segments[index], default_ttl)) for index in sorted(written))
    return Boundaries(
        prompt_tokens=total,
        reads=tuple(rendered.boundary(index) for index in sorted(looked_up)),
        writes=tuple(row for row in writes if row.tokens >= rendered.profile.minimum_tokens),
        billed=True,
    )


def _ttl(segment: Segment, default: str | None) -> str | None:
    return (segment.marker.ttl if segment.marker else None) or default


def _message_endings(rendered: Rendered) -> tuple[list[int], list[int]]:
    """Return the latest eligible message endings, and the end of the initial developer block, as segment indices.

    Eligible are user messages, the last tool response of a run, and the last of the initial system and
    developer messages, a top-level system prompt included. As many are returned as are looked up.
    """
    messages = rendered.request.messages
    initial = next((n for n, message in enumerate(messages) if message.role not in _INSTRUCTIONS), len(messages))
    latest = (index for number, index in _ends(rendered.segments, initial) if is_ending(messages, number))
    opening = _end_of_opening(rendered.segments, initial)
    return opening + [*islice(latest, EARLIER_MESSAGE_ENDINGS + 1)][::-1], opening


def _ends(segments: Sequence[Segment], first: int) -> Iterator[tuple[int, int]]:
    """Yield message numbers from the last down to ``first``, and the segment that each ends with."""
    last: int | None = None
    for index in range(len(segments) - 1, -1, -1):
        at = segments[index].at
        if at is None or (at.section == "messages" and at.index == last):
            continue
        if at.section != "messages" or at.index < first:
            return
        last = at.index
        yield last, index


def _end_of_opening(segments: Sequence[Segment], initial: int) -> list[int]:
    found: list[int] = []
    for index, segment in enumerate(segments):
        if segment.at is None or segment.at.section == "tools":
            continue
        if segment.at.section == "messages" and segment.at.index >= initial:
            break
        found = [index]
    return found


_INSTRUCTIONS = frozenset({"system", "developer"})


def is_ending(messages: Sequence[Message], number: int) -> bool:
    """Tell whether GPT-5.6's implicit mode may end an entry with a message: a user's, or the last tool's of a run."""
    role = messages[number].role
    last_of_run = number + 1 == len(messages) or messages[number + 1].role != "tool"
    return role == "user" or (role == "tool" and last_of_run)


# Up to GPT-5.5: entries end by themselves at every multiple of the increment, counted in tokens.


def _intervals(rendered: Rendered, total: int) -> Boundaries:
    profile = rendered.profile
    lifetime = profile.lifetime(as_text(rendered.request.options.get("prompt_cache_retention"))) or profile.lifetime(
        None
    )
    steps = tuple(
        Boundary(key=rendered.namespace + digest, tokens=length, lifetime=lifetime)
        for length, digest in (rendered.names or _token_prefixes)(rendered)
        if length >= profile.minimum_tokens
    )
    return Boundaries(prompt_tokens=total, reads=steps, writes=steps)


def _token_prefixes(rendered: Rendered) -> Iterator[tuple[int, bytes]]:
    """Yield the length and the digest of every prefix that is a multiple of the increment long, in tokens.

    Settings that are part of the prefix from some tier on are mixed in where that tier begins.
    """
    seeds = tier_seeds(rendered.request, rendered.profile)
    increment = rendered.profile.increment
    digest = hashlib.blake2b(digest_size=16)
    length, begun = 0, 0
    for segment in rendered.segments:
        while begun <= TIERS.index(segment.tier):
            digest.update(seeds[TIERS[begun]])
            begun += 1
        ids = rendered.ids(segment)
        start = 0
        while start < len(ids):
            step = ids[start : start + increment - length % increment]
            digest.update(array("q", step).tobytes())
            start += len(step)
            length += len(step)
            if length % increment == 0:
                yield length, digest.copy().digest()


def _none(_: Rendered, total: int) -> Boundaries:
    return Boundaries(prompt_tokens=total)


_REGIMES: Mapping[Regime, Callable[[Rendered, int], Boundaries]] = {
    "breakpoints": _automatic_tail,
    "intervals": _intervals,
    "none": _none,
}
