"""Which token prefixes two prompts share, by how many tokens both begin with: little has to be encoded for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, compress, count

from prefixcache_integrations.canonical import Tokenizer
from prefixcache_integrations.insight.simulator_boundaries import Rendered
from prefixcache_integrations.profiles.profile import Tier
from prefixcache_integrations.prompt.fingerprint import TIERS, tier_seeds
from prefixcache_integrations.prompt.segments import Segment, token_ids


class PrefixNames:
    """Names the token prefixes of one of two prompts, and of what is cut off it: those that both have alike.

    A prefix goes by its length, by the settings that count in it, and by whose ``side`` it is where it is longer than
    what is ``shared``.
    """

    def __init__(self, shared: int, side: bytes) -> None:
        self._shared = shared
        self._side = side

    def __call__(self, rendered: Rendered) -> Iterator[tuple[int, bytes]]:
        """Yield the length and the name of every prefix that is a multiple of the increment long."""
        seeds, begins = tier_seeds(rendered.request, rendered.profile), _begins(rendered)
        increment, total = rendered.profile.increment, rendered.tokens[-1] if rendered.tokens else 0
        settings = b""
        for length in range(increment, total + 1, increment):
            while begins and begins[0][1] < length:
                settings += seeds[begins.pop(0)[0]]
            side = b"" if length <= self._shared else self._side
            yield length, settings + side + length.to_bytes(8, "big")


def _begins(rendered: Rendered) -> list[tuple[Tier, int]]:
    """Return after how many tokens each tier begins: with its first segment, or that of a later one."""
    places = [TIERS.index(segment.tier) for segment in rendered.segments]
    firsts = ((tier, next((at for at, place in enumerate(places) if place >= n), None)) for n, tier in enumerate(TIERS))
    return [(tier, rendered.tokens[at - 1] if at else 0) for tier, at in firsts if at is not None]


def shared_tokens(previous: Rendered, current: Rendered, tokenizer: Tokenizer) -> int:
    """Return how many tokens both prompts begin with, whatever the settings."""
    old, new = previous.segments, current.segments
    alike = next(compress(count(), map(_differ, old, new)), min(len(old), len(new)))
    one, other = (_tokens(each[alike:], tokenizer) for each in (old, new))
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    return same + (previous.tokens[alike - 1] if alike else 0)


def _differ(one: Segment, other: Segment) -> bool:
    return one is not other and _likeness(one) != _likeness(other)


def _likeness(segment: Segment) -> tuple[bytes, str, int]:
    """Return what the tokens of a segment depend on."""
    return segment.identity, segment.text, segment.fixed_tokens


def _tokens(segments: Iterable[Segment], tokenizer: Tokenizer) -> Iterator[int]:
    return chain.from_iterable(token_ids(segment, tokenizer) for segment in segments)
