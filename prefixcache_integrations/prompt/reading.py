"""A prompt as planning needs it, read once: of one that goes on from an earlier one, only what is new is read.

What is kept of a prompt are digests, lengths and places. One is known again by a hash of what it says, another in every
process; two prompts with the same one would cost a cache entry and nothing else, as no text is taken from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Part, Request, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.cache_key import opening_digest
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.content_hash import heads_of, marker_hash, part_hash, written
from prefixcache_integrations.prompt.fingerprint import tier_seeds, traits_of
from prefixcache_integrations.prompt.pieces import Blocks, Piece, has_agent, in_place, pieces_of, seeded_digest
from prefixcache_integrations.prompt.segments import added_segments, first_instructions, leading_segments
from prefixcache_integrations.prompt.tools import tools_head

BEGINNINGS = 256
"""Of how many applications and agents what leads their prompts is kept, at most."""

HELD = 500_000
"""How many blocks of earlier prompts are kept, at most; those of one conversation are shared."""


NO_TRAITS = frozenset[str]()


class Said(Struct, frozen=True, gc=False):
    """A prompt up to the end of its messages, as it was read; by the hash of these it is known again.

    ``traits`` are those `PROPERTIES` that some block of them has, ``seeds`` the settings that count for messages.
    ``before`` is the hash of those it went on from, 0 without. ``path`` is as which prefixes it was sent, with ``sent``
    in front: ``leading``, with the settings that it was sent with.
    """

    hash: int
    count: int
    blocks: Blocks
    leading: Leading
    traits: frozenset[str]
    seeds: bytes
    before: int = 0
    sent: Leading | None = None
    path: tuple[int, ...] = ()

    def behind(self, leading: Leading) -> Blocks:
        """Return the prompt with something else in front of its messages."""
        if leading.hash == self.leading.hash != 0 and leading.seeds == self.leading.seeds:
            return self.blocks
        return leading.blocks.with_more(self.blocks.pieces[len(self.leading.blocks.pieces) :])


class Leading(Struct, frozen=True, gc=False):
    """What stands before the messages of a prompt, as it was read; by its hash it is known again.

    ``digests`` are those of its blocks whatever the settings; in ``blocks`` these ``seeds`` are mixed in. ``opening``
    is the `opening_digest` of the prompt, for which the first messages count as well.
    """

    hash: int
    digests: tuple[bytes, ...]
    blocks: Blocks
    opening: bytes
    seeds: bytes = b""

    def seeded(self, seeds: Mapping[Tier, bytes]) -> Leading:
        """Return the same with the settings of each tier mixed in."""
        mixed = _mixed(seeds)
        if mixed == self.seeds:
            return self
        pairs = zip(self.digests, self.blocks.pieces, strict=True)
        pieces = [replace(piece, key=seeded_digest(digest, seeds[piece.tier])) for digest, piece in pairs]
        return replace(self, seeds=mixed, blocks=Blocks().with_more(pieces))


class Reading(Struct, frozen=True):
    """A prompt, block by block; ``traits`` are the `PROPERTIES` of any.

    ``leading`` and ``said`` are what later prompts have in common with it; ``said`` is ``None`` where it could not be
    told that it is the same. ``begun`` is the one that it goes on from.
    """

    blocks: Blocks
    traits: frozenset[str]
    leading: Leading
    said: Said | None = None
    begun: Said | None = None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its blocks."""
        return self.blocks.pieces

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens up to and with each block."""
        return self.blocks.ends

    @property
    def tokens(self) -> int:
        """How long it is."""
        return self.blocks.tokens

    @property
    def path(self) -> tuple[int, ...]:
        """As which prefixes it was sent before, as far as that is known without a look."""
        sent = None if self.begun is None else self.begun.sent
        return self.begun.path if self.begun and sent and sent.blocks.keys == self.leading.blocks.keys else ()


class Readings:
    """What was read of the prompts sent last; a bounded number of blocks, those of the least recent go first.

    Of a conversation its latest prompt is kept, and the one before, of which there may be another attempt.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[int, Said] = OrderedDict()
        self.leading: OrderedDict[int, Leading] = OrderedDict()
        self._held = 0

    def observe(self, reading: Reading, path: Sequence[int] = ()) -> None:
        """Remember a prompt that was sent, as the prefixes of ``path`` if its blocks were sent in their order."""
        if reading.said is None:
            return
        known = tuple(path[: len(reading.said.blocks.pieces)])
        said = replace(reading.said, sent=reading.leading, path=known)
        self.leading[reading.leading.hash] = reading.leading
        self.leading.move_to_end(reading.leading.hash)
        if len(self.leading) > BEGINNINGS:
            self.leading.popitem(last=False)
        before = self._said.get(said.before)
        for each in (said.hash, 0 if before is None else before.before):
            self._forget(each)
        self._said[said.hash] = said
        self._held += len(said.blocks.pieces)
        while self._held > HELD:
            self._forget(next(iter(self._said)))

    def _forget(self, hashed: int) -> None:
        gone = self._said.pop(hashed, None)
        self._held -= 0 if gone is None else len(gone.blocks.pieces)

    def begun(self, request: Request, profile: CacheProfile, tokenizer: Tokenizer, *, ordered: bool) -> Begun:
        """Return what is known of the messages of ``request``: there is nothing in them that a plan would change.

        ``ordered``: that goes for the order of results too.
        """
        model = (profile.name, profile.provider, profile.requests_per_key, tokenizer.name)
        seed = (request.dialect, *model, ordered, bool(request.tools), has_agent(request), bool(request.system))
        try:
            heads = heads_of(request.messages)
        except (ValueError, TypeError):  # what no wire can carry
            return Begun(self, request.messages)
        begun = Begun(self, request.messages, heads, hash(seed), tools_head(request.tools))
        known = map(self._said.get, map(begun.hash, range(len(heads), 0, -1)))
        return replace(begun, said=next(filter(None, known), None))


class Begun(Struct, frozen=True):
    """Which of a request's messages were read before, in a request that was sent: the first ``count`` of them.

    ``heads`` is what `heads_of` returns of the messages, ``seed`` a hash of what else their reading depends on.
    ``tools`` is what `tools_head` returns of the tools.
    """

    readings: Readings
    messages: tuple[Message, ...]
    heads: Sequence[int] = ()
    seed: int = 0
    tools: int = 0
    said: Said | None = None

    @property
    def count(self) -> int:
        """How many they are."""
        return 0 if self.said is None else self.said.count

    def hash(self, count: int) -> int:
        """Return by what the first ``count`` messages are known, how they are read included."""
        return hash((self.seed, self.heads[count - 1]))


NOTHING_READ = Readings()
"""Of prompts of which none is remembered."""


def read(
    request: Request, profile: CacheProfile, tokenizer: Tokenizer, begun: Begun, order: Sequence[int] = ()
) -> Reading:
    """Return the prompt of ``request``; ``begun`` is what is known of its messages.

    Its tools are those of ``begun`` in this ``order``, if they are not the same.

    Raises `MalformedRequest` for text that is no Unicode and values that are no JSON.
    """
    known, added = begun.said, request.messages[begun.count :]
    traits = _joined(known.traits if known else NO_TRAITS, (part for message in added for part in message.parts))
    all_traits = _joined(traits, request.system)
    seeds = tier_seeds(request, profile, all_traits)
    mixed = _mixed(seeds, "system", "messages")
    if known is not None and (known.seeds != mixed or any(message.role in _INSTRUCTIONS for message in added)):
        return read(request, profile, tokenizer, replace(begun, said=None), order)
    leading = _seeded(_leading(request, profile, tokenizer, begun, order), seeds, known)
    before = leading.blocks if known is None else known.behind(leading)
    new = pieces_of(added_segments(request, begun.count), request, tokenizer, seeds)
    blocks = before.with_more(tuple(new))
    said = None
    if begun.heads:
        end = len(blocks.pieces) - COSTS[request.dialect].frames  # what primes the reply ends every prompt
        since = 0 if known is None else known.hash if added else known.before
        said = Said(begun.hash(len(begun.heads)), len(begun.heads), blocks.first(end), leading, traits, mixed, since)
    return Reading(blocks, all_traits, leading, said, known)


def with_settings(reading: Reading, request: Request, profile: CacheProfile) -> Reading:
    """Return ``reading`` for the settings that ``request`` has now; they are others in the tier of the tools alone."""
    leading = _seeded(reading.leading, tier_seeds(request, profile, reading.traits), reading.begun)
    if leading is reading.leading:
        return reading
    return replace(reading, blocks=reading.blocks.behind(leading.blocks), leading=leading)


def in_order(reading: Reading, request: Request, order: Sequence[int]) -> Reading:
    """Return ``reading`` for ``request``, which has the same blocks in this ``order``: nothing is read once more."""
    pieces = tuple(in_place([reading.pieces[number] for number in order], request))
    return replace(reading, blocks=Blocks().with_more(pieces), said=None, begun=None)


def _seeded(leading: Leading, seeds: Mapping[Tier, bytes], known: Said | None) -> Leading:
    """Return ``leading`` with the settings of each tier mixed in; what is ``known`` began so, or went out so."""
    mixed = _mixed(seeds)
    for each in () if known is None else (known.leading, known.sent):
        if each is not None and each.hash == leading.hash != 0 and each.seeds == mixed:
            return each
    return leading.seeded(seeds)


def _joined(traits: frozenset[str], parts: Iterable[Part]) -> frozenset[str]:
    """Return ``traits`` with those of ``parts``: itself where they have none that it has not."""
    others = traits_of(parts)
    return traits if others <= traits else traits | others


def _mixed(seeds: Mapping[Tier, bytes], *tiers: Tier) -> bytes:
    return b"".join(seeds[tier] for tier in tiers or seeds)


def _leading(
    request: Request, profile: CacheProfile, tokenizer: Tokenizer, begun: Begun, order: Sequence[int]
) -> Leading:
    opening = sum(1 for _ in takewhile(lambda message: message.role in _INSTRUCTIONS, request.messages))
    hashed = 0
    if begun.heads and (begun.tools or not request.tools):
        led = begun.hash(opening) if opening else 0
        joined = first_instructions(request) is not None  # which tells what framing OpenAI's tools have
        settings = (request.dialect, tokenizer.name, profile.minimum_tokens, led, opening, joined)
        hashed = _leading_hash(request, (*settings, begun.tools, *order))
    known = begun.readings.leading.get(hashed) if hashed else None
    if known is not None:
        return known
    prompt = leading_segments(request)
    first = added_segments(replace(request, messages=request.messages[:opening]), 0)
    blocks = Blocks().with_more(tuple(pieces_of(prompt, request, tokenizer, {})))
    return Leading(hashed, blocks.keys, blocks, opening_digest((*prompt, *first), profile.minimum_tokens))


def _leading_hash(request: Request, settings: tuple[object, ...]) -> int:
    """Return by what that is known which stands before the messages, 0 for what is no JSON."""
    formats = [request.options.get(name) for name in _FORMATS]
    try:
        marked = [(number, marker_hash(tool.marker)) for number, tool in enumerate(request.tools) if tool.marker]
        return hash((*settings, written(formats), *marked, *map(part_hash, request.system)))
    except (ValueError, TypeError):
        return 0


_FORMATS = ("response_format", "text")
"""Options that are a part of the prompt."""


_INSTRUCTIONS = frozenset({"system", "developer"})
