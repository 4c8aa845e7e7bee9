"""The requests before a pair, where nobody kept them: one for each answer in the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from prefixcache_integrations.canonical import CacheMarker, Request
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.insight.simulator_boundaries import Rendered, render
from prefixcache_integrations.profiles.profile import Tier
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.fingerprint import tier_seeds, traits
from prefixcache_integrations.prompt.thinking import dropped_thinking


def assumed(previous: Rendered, current: Request, looked_up: AbstractSet[int]) -> Iterator[Rendered]:
    """Yield the requests that ``previous`` goes on from, oldest first, as far as anybody may look for their entries.

    Each ends before one of its answers, marked there as these two are at their ends. ``looked_up`` are the lengths in
    tokens of the prefixes that are looked for; where entries end by themselves, the last request leaves those of all.
    """
    request, starts = previous.request, _starts(previous)
    if is_explicit(request) and not is_explicit(current):
        request = replace(request, options=without(request.options, "prompt_cache_options"))
    marker = _tail_marker(request) or _tail_marker(current)
    known = traits(previous.request)
    seeds = tier_seeds(previous.request, previous.profile, known)
    for end in _ends(previous, starts, looked_up):
        cut = replace(request, messages=request.messages[:end], marker=request.marker or marker)
        own = tier_seeds(cut, previous.profile, known and None)  # a part has none where the whole has none
        yield _cut(previous, cut, starts[end], None if own == seeds else own)


def _ends(whole: Rendered, starts: Sequence[int], looked_up: AbstractSet[int]) -> list[int]:
    """Return the numbers of the answers that a request whose entries may be looked for was sent to get."""
    roles = [message.role for message in whole.request.messages]
    ends = [end for end in range(1, len(roles)) if roles[end] == "assistant" and roles[end - 1] != "assistant"]
    if whole.profile.regime == "intervals":
        return ends[-1:]
    return [end for end in ends if not looked_up.isdisjoint(whole.tokens[starts[end - 1] : starts[end]])]


def is_explicit(request: Request) -> bool:
    """Tell whether the application has turned GPT-5.6's implicit breakpoint off."""
    return (as_object(request.options.get("prompt_cache_options")) or {}).get("mode") == "explicit"


def _starts(whole: Rendered) -> list[int]:
    """Return the number of the segment with which each message begins: OpenAI frames every one, and the reply."""
    frame = COSTS[whole.request.dialect].frames
    unread = Counter(at.index for at in dropped_thinking(whole.request, whole.profile))
    lengths = [len(message.parts) + frame - unread[at] for at, message in enumerate(whole.request.messages)]
    at = len(whole.segments) - frame - sum(lengths)
    starts = []
    for length in lengths:
        starts.append(at)
        at += length
    return starts


def _cut(whole: Rendered, request: Request, end: int, seeds: Mapping[Tier, bytes] | None) -> Rendered:
    """Return ``request`` as the model reads it: the first ``end`` segments of ``whole``, and thinking dropped since.

    ``seeds`` are its own where they are others than those of ``whole``.
    """
    dropped = (at for at in dropped_thinking(whole.request, whole.profile) if at.index < len(request.messages))
    if dropped_thinking(request, whole.profile) != frozenset(dropped):
        anew = render(request, whole.profile, whole.how, scope="")
        return replace(anew, namespace=whole.namespace, ids=whole.ids)
    segments = whole.segments[:end]
    digests = whole.digests[:end] if seeds is None else whole.how.digests(segments, seeds)
    return replace(whole, request=request, segments=segments, tokens=whole.tokens[:end], digests=digests)


def _tail_marker(request: Request) -> CacheMarker | None:
    """Return the marker at the end of the messages, the automatic one included."""
    blocks = (part for message in reversed(request.messages) for part in reversed(message.parts) if part.markable)
    last = next(blocks, None)
    if last is None or request.marker is not None:
        return request.marker
    return last.marker or (last.content[-1].marker if last.content else None)
