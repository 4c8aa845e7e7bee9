"""The blocks of a prompt as planning needs them: digests, lengths and places, no text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from prefixcache_integrations.canonical import Address, CacheMarker, Request, Tokenizer
from prefixcache_integrations.profiles.profile import Tier
from prefixcache_integrations.prompt.content import is_document
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.rates import Kind, Likeness
from prefixcache_integrations.prompt.segments import Segment, token_counts

DIGEST_BYTES = 16


class Block(Struct, frozen=True):
    """One step of a prompt before it has a place: its digest, kind, tokens, and whether it may carry a marker."""

    key: bytes
    kind: Kind
    tokens: int
    markable: bool


class Piece(Block, frozen=True, kw_only=True):
    """A block in its place, ``at``; ``None`` for framing.

    Its digest does not depend on its place, but on the settings of its ``tier``. ``takes_marker``: the wire format lets
    it carry one, which is of use if it is not ``blank``. ``length`` is in characters. ``answers``: it is the result of
    a tool. ``is_document``: it is one that may move.
    """

    at: Address | None
    tier: Tier
    length: int
    takes_marker: bool
    blank: bool
    answers: bool
    is_document: bool
    marker: CacheMarker | None


def pieces_of(
    prompt: Sequence[Segment], request: Request, tokenizer: Tokenizer, seeds: Mapping[Tier, bytes]
) -> Iterator[Piece]:
    """Yield the blocks of ``prompt``, segments of ``request``; ``seeds`` are the settings of each tier."""
    for segment, tokens in zip(prompt, token_counts(prompt, tokenizer), strict=True):
        blank = not segment.fixed_tokens and not segment.text.strip()
        yield Piece(
            seeded_digest(segment.identity, seeds.get(segment.tier, b"")),
            _kind(segment),
            tokens,
            segment.markable and not blank,
            at=segment.at,
            tier=segment.tier,
            length=len(segment.text),
            takes_marker=segment.markable,
            blank=blank,
            answers=segment.kind == "tool_result",
            is_document=_is_document(segment, request),
            marker=segment.marker,
        )


def _kind(segment: Segment) -> Kind:
    if segment.at is None:
        return "framing"
    return "turn" if segment.tier == "messages" else "static"


def _is_document(segment: Segment, request: Request) -> bool:
    at = segment.at
    if at is None or at.section != "messages" or at.part is None or request.messages[at.index].role != "user":
        return False
    return is_document(request.messages[at.index].parts[at.part])


def step_of(piece: Piece) -> Step:
    """Return a block as it is to be remembered, if it does not end the prompt."""
    return Step(piece.key, Likeness(piece.kind))


def seeded_digest(digest: bytes, seed: bytes) -> bytes:
    """Return the digest of a block with the settings of its tier mixed in."""
    return hashlib.blake2b(digest, digest_size=DIGEST_BYTES, key=seed).digest()
