"""A prompt as planning needs it, read once: of one that goes on from an earlier one, only what is new is read.

What is kept of a prompt are digests, lengths and places. One is known again by a hash of what it says, another in every
process; two prompts with the same one would cost a cache entry and nothing else, as no text is taken from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import accumulate, compress, count, takewhile
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Part, Request, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.cache_key import opening_digest
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.content_hash import marker_hash, message_hashes, part_hash, written
from prefixcache_integrations.prompt.fingerprint import PROPERTIES, all_parts, tier_seeds
from prefixcache_integrations.prompt.pieces import Piece, pieces_of, seeded_digest, step_of
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.segments import added_segments, first_instructions, leading_segments

_tokens, _marker = attrgetter("tokens"), attrgetter("marker")

BEGINNINGS = 256
"""Of how many applications and agents what leads their prompts is kept, at most."""

HELD = 500_000
"""How many blocks of earlier prompts are kept, at most; those of one conversation are shared."""


class Said(Struct, frozen=True):
    """The messages of a prompt from the first on, as they were read; by their hash they are known again.

    ``steps`` are as they are to be remembered, if they do not end the prompt. ``traits`` are those `PROPERTIES` that
    some block has, ``seeds`` the settings that count for messages. ``before`` is the hash of those it went on from, 0
    without.
    """

    hash: int
    count: int
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    traits: frozenset[str]
    seeds: bytes
    before: int = 0


class Leading(Struct, frozen=True):
    """What stands before the messages of a prompt, as it was read; by its hash it is known again.

    ``digests`` are those of its blocks whatever the settings; in ``pieces`` these ``seeds`` are mixed in. ``opening``
    is the `opening_digest` of the prompt, for which the first messages count as well.
    """

    hash: int
    digests: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    opening: bytes
    seeds: bytes = b""
    steps: tuple[Step, ...] = ()

    def seeded(self, seeds: Mapping[Tier, bytes]) -> Leading:
        """Return the same with the settings of each tier mixed in."""
        mixed = _mixed(seeds)
        if mixed == self.seeds:
            return self
        keys = map(seeded_digest, self.digests, (seeds[piece.tier] for piece in self.pieces))
        pieces = tuple(replace(piece, key=key) for piece, key in zip(self.pieces, keys, strict=True))
        return replace(self, seeds=mixed, pieces=pieces, steps=tuple(map(step_of, pieces)))


class Reading(Struct, frozen=True):
    """A prompt, block by block; ``ends`` are the tokens up to and with each, ``traits`` the `PROPERTIES` of any.

    ``leading`` and ``said`` are what later prompts have in common with it; ``said`` is ``None`` where it could not be
    told that it is the same.
    """

    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    ends: tuple[int, ...]
    traits: frozenset[str]
    leading: Leading
    said: Said | None = None

    @property
    def tokens(self) -> int:
        """How long it is."""
        return self.ends[-1] if self.ends else 0

    @property
    def marked(self) -> tuple[int, ...]:
        """The blocks that carry markers, by number."""
        return tuple(compress(count(), map(_marker, self.pieces)))


class Readings:
    """What was read of the prompts sent last; a bounded number of blocks, those of the least recent go first.

    Of a conversation its latest prompt is kept, and the one before, of which there may be another attempt.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[int, Said] = OrderedDict()
        self.leading: OrderedDict[int, Leading] = OrderedDict()
        self._held = 0

    def observe(self, reading: Reading) -> None:
        """Remember a prompt that was sent."""
        said = reading.said
        if said is None:
            return
        self.leading[reading.leading.hash] = reading.leading
        self.leading.move_to_end(reading.leading.hash)
        if len(self.leading) > BEGINNINGS:
            self.leading.popitem(last=False)
        before = self._said.get(said.before)
        for each in (said.hash, 0 if before is None else before.before):
            self._forget(each)
        self._said[said.hash] = said
        self._held += len(said.pieces)
        while self._held > HELD:
            self._forget(next(iter(self._said)))

    def _forget(self, hashed: int) -> None:
        gone = self._said.pop(hashed, None)
        self._held -= 0 if gone is None else len(gone.pieces)

    def begun(self, request: Request, profile: CacheProfile, tokenizer: Tokenizer, *, ordered: bool) -> Begun:
        """Return what is known of the messages of ``request``: there is nothing in them that a plan would change.

        ``ordered``: that goes for the order of results too.
        """
        model = (profile.name, profile.provider, profile.requests_per_key, tokenizer.name)
        seed = (request.dialect, *model, ordered, bool(request.tools), bool(request.system))
        try:
            hashes = tuple(message_hashes(request.messages, hash(seed)))
        except (ValueError, TypeError):  # what no wire can carry
            return Begun(self, request.messages)
        for each in reversed(hashes):
            said = self._said.get(each)
            if said is not None:
                return Begun(self, request.messages, hashes, said)
        return Begun(self, request.messages, hashes)


class Begun(Struct, frozen=True):
    """Which of a request's messages were read before, in a request that was sent: the first ``count`` of them."""

    readings: Readings
    messages: tuple[Message, ...]
    hashes: tuple[int, ...] = ()
    said: Said | None = None

    @property
    def count(self) -> int:
        """How many they are."""
        return 0 if self.said is None else self.said.count


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
    mixed = _mixed(seeds, "system", "messages")
    if known is not None and (known.seeds != mixed or any(message.role in _INSTRUCTIONS for message in added)):
        return read(request, profile, tokenizer, replace(begun, said=None))
    before = (known.pieces, known.steps) if known else ((), ())
    leading = _leading(request, profile, tokenizer, begun).seeded(seeds)
    new = tuple(pieces_of(added_segments(request, begun.count), request, tokenizer, seeds))
    pieces, steps = (*before[0], *new), (*before[1], *map(step_of, new))
    said = None
    if begun.hashes:
        end = len(pieces) - COSTS[request.dialect].frames  # what primes the reply ends every prompt
        since = 0 if known is None else known.hash if added else known.before
        said = Said(begun.hashes[-1], len(request.messages), pieces[:end], steps[:end], traits, mixed, since)
    whole = (*leading.pieces, *pieces)
    ends = tuple(accumulate(map(_tokens, whole)))
    return Reading(whole, (*leading.steps, *steps), ends, all_traits, leading, said)


def with_settings(reading: Reading, request: Request, profile: CacheProfile) -> Reading:
    """Return ``reading`` for the settings that ``request`` has now; they are others in the tier of the tools alone."""
    leading = reading.leading.seeded(tier_seeds(request, profile, reading.traits))
    if leading is reading.leading:
        return reading
    count = len(leading.pieces)
    pieces, steps = (*leading.pieces, *reading.pieces[count:]), (*leading.steps, *reading.steps[count:])
    return replace(reading, pieces=pieces, steps=steps, leading=leading)


def _mixed(seeds: Mapping[Tier, bytes], *tiers: Tier) -> bytes:
    return b"".join(seeds[tier] for tier in tiers or seeds)


def _leading(request: Request, profile: CacheProfile, tokenizer: Tokenizer, begun: Begun) -> Leading:
    opening = sum(1 for _ in takewhile(lambda message: message.role in _INSTRUCTIONS, request.messages))
    led = begun.hashes[opening - 1] if begun.hashes and opening else None
    formats = [request.options.get(name) for name in _FORMATS]
    try:
        body = written([[tool.raw for tool in request.tools], formats])
        marked = (marker_hash(tool.marker) for tool in request.tools)
        joined = first_instructions(request) is not None  # which tells what framing OpenAI's tools have
        settings = (request.dialect, tokenizer.name, profile.minimum_tokens, led, opening, joined)
        hashed = hash((*settings, body, *marked, *map(part_hash, request.system)))
    except (ValueError, TypeError):
        hashed = 0
    known = begun.readings.leading.get(hashed) if hashed and begun.hashes else None
    if known is not None:
        return known
    prompt = leading_segments(request)
    first = added_segments(replace(request, messages=request.messages[:opening]), 0)
    pieces = tuple(pieces_of(prompt, request, tokenizer, {}))
    digest = opening_digest((*prompt, *first), profile.minimum_tokens)
    return Leading(hashed, tuple(piece.key for piece in pieces), pieces, digest)


_FORMATS = ("response_format", "text")
"""Options that are a part of the prompt."""


_INSTRUCTIONS = frozenset({"system", "developer"})


def _traits(parts: Iterable[Part]) -> frozenset[str]:
    blocks = list(all_parts(parts))
    return frozenset(name for name, has in PROPERTIES.items() if any(map(has, blocks)))
