"""The prompt as the provider reads it: runs of text in wire order, each with its place and identity."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Address, CacheMarker
from prefixcache_integrations.profiles.profile import Tier

SegmentKind: TypeAlias = Literal[
    "tools", "format", "system", "user", "assistant", "tool_call", "tool_result", "thinking", "image", "frame"
]


class Segment(Struct, frozen=True, kw_only=True):
    """A run of the prompt in wire order.

    ``at`` is its place in the request, ``None`` for framing that has none. ``tier`` is the part of the
    prompt it belongs to. ``text`` is what is tokenised; ``fixed_tokens`` counts what no text stands for
    (message framing, image tiles). ``identity`` is what must be equal for the provider to call it the same:
    its bytes in wire order, key order included, markers excluded. ``ends_message`` is true for the last
    segment of a message.
    """

    at: Address | None
    kind: SegmentKind
    tier: Tier
    text: str
    identity: bytes
    fixed_tokens: int = 0
    marker: CacheMarker | None = None
    markable: bool = False
    ends_message: bool = False
