"""The blocks of a prompt as planning needs them: digests, lengths and places, no text."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import get_args

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, CacheMarker, Part, Request, Tokenizer
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import Tier
from prefixcache_integrations.prompt.classes import Likeness
from prefixcache_integrations.prompt.content import is_document
from prefixcache_integrations.prompt.priors import OWN, Kind
from prefixcache_integrations.prompt.segments import Segment, token_counts
from prefixcache_integrations.prompt.steps import Step

DIGEST_BYTES = 16

_FORCED = frozenset({"tool", "function", "custom"})
"""Types of ``tool_choice`` that name one tool."""


class Block(Struct, frozen=True, gc=False):
    """One step of a prompt before it has a place: its digest, kind, tokens, and whether it may carry a marker."""

    key: bytes
    kind: Kind
    tokens: int
    markable: bool


class Piece(Block, frozen=True, kw_only=True, gc=False):
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
    opening = _opening(request)
    for segment, tokens in zip(prompt, token_counts(prompt, tokenizer), strict=True):
        blank = not segment.fixed_tokens and not segment.text.strip()
        yield Piece(
            seeded_digest(segment.identity, seeds.get(segment.tier, b"")),
            _kind(segment, opening),
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


def in_place(pieces: Iterable[Piece], request: Request) -> Iterator[Piece]:
    """Yield the blocks of ``request``, which says what was read as ``pieces`` before, in this order now."""
    opening = _opening(request)
    parts = _parts(request)
    for piece in pieces:
        if piece.at is None or piece.at.section != "messages":
            yield piece
            continue
        at, part = next(parts)
        if at == piece.at and part.marker is piece.marker:
            yield piece
        else:
            kind = _said(at, opening) if piece.tier == "messages" else piece.kind
            yield replace(piece, at=at, kind=kind, marker=part.marker)


def _parts(request: Request) -> Iterator[tuple[Address, Part]]:
    for index, message in enumerate(request.messages):
        for number, part in enumerate(message.parts):
            yield Address("messages", index, number), part


def has_agent(request: Request) -> bool:
    """Tell whether tools may be called; one that has to be is the form of an answer."""
    choice = as_object(request.options.get("tool_choice")) or {}
    return bool(request.tools) and choice.get("type") not in _FORCED


def _opening(request: Request) -> int:
    """Return before which message a user has no answer yet, 0 with an agent."""
    said = () if has_agent(request) else request.messages
    return next((index for index, message in enumerate(said) if message.role == "assistant"), len(said))


def _kind(segment: Segment, opening: int) -> Kind:
    if segment.at is None:
        return "framing"
    if segment.tier != "messages":
        return "tools" if segment.tier == "tools" else "static"
    return _said(segment.at, opening)


def _said(at: Address, opening: int) -> Kind:
    return "opening" if at.index < opening else "turn"


def _is_document(segment: Segment, request: Request) -> bool:
    at = segment.at
    if at is None or at.section != "messages" or at.part is None or request.messages[at.index].role != "user":
        return False
    return is_document(request.messages[at.index].parts[at.part])


class Blocks(Struct, frozen=True, gc=False):
    """Blocks in the order of a prompt, by what planning asks of all of them at once: each is a row of its own.

    ``steps`` are as they are to be remembered, if they do not end the prompt. ``ends`` are the tokens up to and with
    each. By number, ``marked`` and ``documents`` are those that carry a marker, and that may move, ``firsts`` the first
    of each kind, and ``own`` what is an application's own and can be marked.
    """

    pieces: tuple[Piece, ...] = ()
    steps: tuple[Step, ...] = ()
    keys: tuple[bytes, ...] = ()
    markable: tuple[bool, ...] = ()
    ends: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()
    documents: tuple[int, ...] = ()
    firsts: tuple[int, ...] = ()
    own: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """How long they are."""
        return self.ends[-1] if self.ends else 0

    def with_more(self, pieces: Sequence[Piece]) -> Blocks:
        """Return these and, behind them, ``pieces``."""
        rows = list(enumerate(pieces, len(self.pieces)))
        tokens = accumulate([piece.tokens for piece in pieces], initial=self.tokens)
        return Blocks(
            self.pieces + tuple(pieces),
            self.steps + tuple([Step(piece.key, _LIKENESSES[piece.kind]) for piece in pieces]),
            self.keys + tuple([piece.key for piece in pieces]),
            self.markable + tuple([piece.markable for piece in pieces]),
            self.ends + tuple(islice(tokens, 1, None)),
            self.marked + tuple([number for number, piece in rows if piece.marker is not None]),
            self.documents + tuple([number for number, piece in rows if piece.is_document]),
            self.firsts + tuple(self._new_kinds(pieces)),
            self.own + tuple([number for number, piece in rows if piece.markable and piece.kind in OWN]),
        )

    def _new_kinds(self, pieces: Sequence[Piece]) -> Iterator[int]:
        seen = {self.pieces[number].kind for number in self.firsts}
        for number, piece in enumerate(pieces, len(self.pieces)):
            if piece.kind not in seen:
                seen.add(piece.kind)
                yield number

    def behind(self, leading: Blocks) -> Blocks:
        """Return these with as many of them in front as ``leading`` has replaced by those: other settings, no more."""
        count = len(leading.pieces)
        return replace(
            self,
            pieces=(*leading.pieces, *self.pieces[count:]),
            steps=(*leading.steps, *self.steps[count:]),
            keys=(*leading.keys, *self.keys[count:]),
        )

    def first(self, count: int) -> Blocks:
        """Return the first ``count`` of them."""
        return Blocks(
            self.pieces[:count],
            self.steps[:count],
            self.keys[:count],
            self.markable[:count],
            self.ends[:count],
            self.marked[: bisect_left(self.marked, count)],
            self.documents[: bisect_left(self.documents, count)],
            self.firsts[: bisect_left(self.firsts, count)],
            self.own[: bisect_left(self.own, count)],
        )


_LIKENESSES: Mapping[Kind, Likeness] = {kind: Likeness(kind) for kind in get_args(Kind)}


def seeded_digest(digest: bytes, seed: bytes) -> bytes:
    """Return the digest of a block with the settings of its tier mixed in."""
    return hashlib.blake2b(digest, digest_size=DIGEST_BYTES, key=seed).digest()
