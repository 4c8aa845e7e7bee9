"""A prompt as planning needs it, read once: of one that goes on from an earlier one, only what is new is read.

What is kept of a prompt are digests, lengths and places. One is known again by a hash of what it says, another in every
process; two prompts with the same one would cost a cache entry and nothing else, as no text is taken from here.
"""

from __future__ import annotations

import hashlib
import marshal
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, takewhile

from msgspec import Struct, field
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, CacheMarker, Message, Part, Request, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.cache_key import opening_digest
from prefixcache_integrations.prompt.content import is_document
from prefixcache_integrations.prompt.fingerprint import PROPERTIES, all_parts, tier_seeds
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.rates import Kind, Likeness
from prefixcache_integrations.prompt.segments import Segment, added_segments, leading_segments, token_counts

DIGEST_BYTES = 16

BEGINNINGS = 256
"""Of how many applications and agents what leads their prompts is kept, at most."""

HELD = 500_000
"""How many blocks of earlier prompts are kept, at most; those of one conversation are shared."""


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


class Said(Struct, frozen=True):
    """The messages of a prompt from the first on, as they were read; by their hash they are known again.

    ``steps`` are as they are to be remembered, if they do not end the prompt. ``traits`` are those `PROPERTIES` that
    some block has, ``seeds`` the settings that count.
    """

    hash: int
    count: int
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    traits: frozenset[str]
    seeds: bytes


class Leading(Struct, frozen=True):
    """What stands before the messages of a prompt, as it was read; by its hash it is known again.

    ``opening`` is the `opening_digest` of the prompt, for which the first messages count as well.
    """

    hash: int
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    opening: bytes


class Reading(Struct, frozen=True):
    """A prompt, block by block. ``leading`` and ``said`` are what later ones have in common with it.

    ``said`` is ``None`` where it could not be told that it is the same.
    """

    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    leading: Leading
    said: Said | None = None

    @property
    def counts(self) -> list[int]:
        """The tokens of each block."""
        return [piece.tokens for piece in self.pieces]

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens up to and with each block."""
        return tuple(accumulate(self.counts))


class Begun(Struct, frozen=True):
    """Which of a request's messages were read before, in a request that was sent: the first ``count`` of them."""

    messages: tuple[Message, ...]
    hashes: tuple[int, ...] = ()
    said: Said | None = None
    leading: Mapping[int, Leading] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many they are."""
        return 0 if self.said is None else self.said.count


class Readings:
    """What was read of the prompts sent last; a bounded number of blocks, those of the least recent go first."""

    def __init__(self) -> None:
        self._said: OrderedDict[int, Said] = OrderedDict()
        self._leading: OrderedDict[int, Leading] = OrderedDict()
        self._held = 0

    def observe(self, reading: Reading) -> None:
        """Remember a prompt that was sent."""
        said = reading.said
        if said is None:
            return
        self._leading[reading.leading.hash] = reading.leading
        self._leading.move_to_end(reading.leading.hash)
        if len(self._leading) > BEGINNINGS:
            self._leading.popitem(last=False)
        before = self._said.pop(said.hash, None)
        self._said[said.hash] = said
        self._held += len(said.pieces) - (0 if before is None else len(before.pieces))
        while self._held > HELD:
            _, gone = self._said.popitem(last=False)
            self._held -= len(gone.pieces)

    def begun(self, request: Request, tokenizer: Tokenizer, *, ordered: bool) -> Begun:
        """Return what is known of the messages of ``request``; ``ordered``: results are in the order of their calls."""
        seed = (request.dialect, tokenizer.name, ordered, bool(request.tools), bool(request.system))
        try:
            hashes = tuple(accumulate(map(_hash, request.messages), _chained, initial=hash(seed)))[1:]
        except (ValueError, TypeError):  # what no wire can carry
            return Begun(request.messages)
        for each in reversed(hashes):
            said = self._said.get(each)
            if said is not None:
                return Begun(request.messages, hashes, said, self._leading)
        return Begun(request.messages, hashes, None, self._leading)


NOTHING_READ = Readings()
"""Of prompts of which none is remembered."""


def read(request: Request, profile: CacheProfile, tokenizer: Tokenizer, begun: Begun) -> Reading:
    """Return the prompt of ``request``; ``begun`` is what is known of its messages.

    Raises `MalformedRequest` for text that is no Unicode and values that are no JSON.
    """
    known, added = begun.said, request.messages[begun.count :]
    traits = (known.traits if known else frozenset()) | _traits(part for message in added for part in message.parts)
    all_traits = traits | _traits(request.system)
    seeds = tier_seeds(request, profile, all_traits)
    mixed = b"".join(seeds.values())
    if known is not None and (known.seeds != mixed or any(message.role in _INSTRUCTIONS for message in added)):
        return read(request, profile, tokenizer, replace(begun, said=None))
    before = (known.pieces, known.steps) if known else ((), ())
    leading = _leading(request, profile, tokenizer, begun, seeds)
    new = tuple(_pieces(added_segments(request, begun.count), request, tokenizer, seeds))
    pieces, steps = (*before[0], *new), (*before[1], *map(_step, new))
    said = None
    if begun.hashes:
        end = len(pieces) - (request.dialect != "anthropic_messages")  # what primes the reply ends every prompt
        said = Said(begun.hashes[-1], len(request.messages), pieces[:end], steps[:end], traits, mixed)
    return Reading((*leading.pieces, *pieces), (*leading.steps, *steps), leading, said)


def _leading(
    request: Request, profile: CacheProfile, tokenizer: Tokenizer, begun: Begun, seeds: dict[Tier, bytes]
) -> Leading:
    opening = sum(1 for _ in takewhile(lambda message: message.role in _INSTRUCTIONS, request.messages))
    led = begun.hashes[opening - 1] if begun.hashes and opening else None
    formats = [request.options.get(name) for name in _FORMATS]
    try:
        written = _written([[tool.raw for tool in request.tools], formats])
        marked = (_marker_hash(tool.marker) for tool in request.tools)
        settings = (request.dialect, tokenizer.name, profile.minimum_tokens, led, opening, *seeds.values())
        hashed = hash((*settings, written, *marked, *map(_part_hash, request.system)))
    except (ValueError, TypeError):
        hashed = 0
    known = begun.leading.get(hashed) if hashed and begun.hashes else None
    if known is not None:
        return known
    prompt = leading_segments(request)
    first = added_segments(replace(request, messages=request.messages[:opening]), 0)
    pieces = tuple(_pieces(prompt, request, tokenizer, seeds))
    return Leading(hashed, pieces, tuple(map(_step, pieces)), opening_digest((*prompt, *first), profile.minimum_tokens))


_FORMATS = ("response_format", "text")
"""Options that are a part of the prompt."""


_INSTRUCTIONS = frozenset({"system", "developer"})


def _traits(parts: Iterable[Part]) -> frozenset[str]:
    blocks = list(all_parts(parts))
    return frozenset(name for name, has in PROPERTIES.items() if any(map(has, blocks)))


def _pieces(
    prompt: Sequence[Segment], request: Request, tokenizer: Tokenizer, seeds: dict[Tier, bytes]
) -> Iterator[Piece]:
    for segment, tokens in zip(prompt, token_counts(prompt, tokenizer), strict=True):
        blank = not segment.fixed_tokens and not segment.text.strip()
        digest = hashlib.blake2b(segment.identity, digest_size=DIGEST_BYTES, key=seeds[segment.tier])
        yield Piece(
            digest.digest(),
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


def _step(piece: Piece) -> Step:
    return Step(piece.key, Likeness(piece.kind))


def _chained(before: int, hashed: int) -> int:
    return hash((before, hashed))


def _hash(message: Message) -> int:
    raw = message.raw
    own = _written(raw) if len(raw) > 1 else len(raw)
    return hash((message.role, message.bare, own, *map(_part_hash, message.parts)))


def _part_hash(part: Part) -> int:
    raw = part.raw
    if part.kind == "text" and len(raw) == 2 and raw.get("text") is part.text:  # noqa: PLR2004 - and its type
        own: object = (*raw, raw.get("type"))
    else:
        own = _written(raw)
    marked = _marker_hash(part.marker)
    return hash((part.kind, part.text, own, marked, part.markable, part.bare, *map(_part_hash, part.content)))


def _marker_hash(marker: CacheMarker | None) -> int:
    return 0 if marker is None else hash((marker.ttl, _written(marker.raw)))


def _written(value: object) -> bytes:
    """Return ``value`` as bytes that tell it from any other, with the order of its keys and the types of its numbers.

    Raises ValueError for what is no JSON. Several times as fast as writing JSON.
    """
    return marshal.dumps(value, 2)  # type: ignore[arg-type] # that is what it tells
