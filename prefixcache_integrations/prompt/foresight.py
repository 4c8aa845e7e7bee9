"""What earlier requests say about this one: in which order to send it, where markers pay, and what to remember."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Level, Request
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.documents import Movable, distance, message_of, movable, orders
from prefixcache_integrations.prompt.fingerprint import tier_seeds
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, marked_range
from prefixcache_integrations.prompt.pricing import Ahead, Choice, best_marks, expected_bill, worth_unmarked
from prefixcache_integrations.prompt.prospects import Block, ahead, company
from prefixcache_integrations.prompt.rates import Kind
from prefixcache_integrations.prompt.repeats import Attempts, Laid
from prefixcache_integrations.prompt.segments import Segment
from prefixcache_integrations.prompt.stability import Sighting, Snapshot
from prefixcache_integrations.prompt.tool_lists import tool_digest
from prefixcache_integrations.prompt.tools import agent_of
from prefixcache_integrations.prompt.turns import latest_reply

DIGEST_BYTES = 16
WORTH_MOVING = 1.0
"""From how many tokens saved on a document is moved: below that, the application's own order is as good."""


class Foresight(Struct, frozen=True):
    """How to send a prompt. ``order`` are its blocks by number; ``marks`` are numbers too, of blocks to mark.

    ``documents`` are those blocks that are, ``movable`` those of them that may move. ``seen`` is what is to be
    remembered, its steps in the order that was found best even where it is not worth moving anything for it.
    """

    order: tuple[int, ...]
    documents: tuple[int, ...]
    movable: tuple[int, ...]
    marks: tuple[int, ...]
    ttl: str | None
    seen: Sighting

    def sighting(self, writes: Mapping[int, float], cache_key: str | None = None) -> Sighting:
        """Return what to remember of the request, with the lifetime in seconds that is asked for at each block."""
        by_place = {place: writes[number] for place, number in enumerate(self.order) if number in writes}
        steps = (replace(step, writes=by_place.get(place, 0.0)) for place, step in enumerate(self.seen.steps))
        return replace(self.seen, steps=tuple(steps), cache_key=cache_key)


class _Candidate(Struct, frozen=True):
    order: tuple[int, ...]
    choice: Choice
    ahead: Ahead
    previous: int


def foresee(
    request: Request,
    prompt: Sequence[Segment],
    counts: Sequence[int],
    profile: CacheProfile,
    snapshot: Snapshot,
    *,
    level: Level,
    enough: int,
    rules: DocumentRules,
    moving: bool,
    known: KnownPrompt = NOTHING_KNOWN,
) -> Foresight:
    """Return how to send ``prompt``, the segments of ``request``, going by what ``snapshot`` knows.

    Documents move by the ``rules``, and only if they are ``moving`` at all. ``enough`` are the tokens from which on a
    marker is worth setting. ``known`` is what a template says of the request: which text is its own, and what this call
    filled in.
    """
    keys = block_keys(prompt, tier_seeds(request, profile))
    found = movable(request, prompt, keys, rules.keep_top)
    settings = b"".join((level.encode(), profile.name.encode(), repr(rules).encode()))
    given = _digest(keys, settings)
    laid = snapshot.just_sent(given)
    if laid is not None:
        same = Attempts(given, _digest([keys[number] for number in laid.order], settings), None)
        return Foresight(
            laid.order, found.recognised, found.documents, laid.marks, laid.ttl, Sighting((), attempts=same)
        )
    blocks = _blocks(prompt, counts, _kinds(request, prompt, found, known), keys)
    documents, reply = frozenset(found.documents), latest_reply(request)
    around = company({keys[number]: counts[number] for number in found.recognised}, snapshot)

    def candidate(order: tuple[int, ...]) -> _Candidate:
        view = ahead([blocks[number] for number in order], around, profile, snapshot)
        previous = _previous_tail(prompt, order, documents, reply)
        return _Candidate(order, _choice(view, profile, snapshot, enough, previous), view, previous)

    kept = sent = remembered = candidate(tuple(range(len(prompt))))
    if found.documents and moving:
        others = [candidate(order) for order in dict.fromkeys(orders(blocks, around, found, profile, snapshot))]
        best = max(others, key=lambda each: each.choice.worth)
        if rules.max_distance >= 1 or distance(best.order, found, prompt) <= rules.max_distance:
            sent, remembered = _better(kept, best, profile)
    marks = tuple(sent.order[place] for place in sent.choice.marks)
    laid = Laid(sent.order, marks, sent.choice.ttl)
    seen = Sighting(
        steps=remembered.ahead.steps,
        documents=around.documents,
        bill=expected_bill(sent.ahead, sent.choice, profile),
        tools=tuple(tool_digest(tool.name) for tool in request.tools),
        agent=agent_of(request),
        previous=None if remembered.previous < 0 else remembered.previous,
        attempts=Attempts(given, _digest([keys[number] for number in sent.order], settings), laid),
    )
    return Foresight(sent.order, found.recognised, found.documents, marks, sent.choice.ttl, seen)


def _better(kept: _Candidate, best: _Candidate, profile: CacheProfile) -> tuple[_Candidate, _Candidate]:
    """Return in which order to send a prompt, as it came or the ``best``, and in which to remember it."""
    if best.choice.worth > WORTH_MOVING and best.ahead.found >= kept.ahead.found:
        return best, best
    return kept, best if profile.max_breakpoints and not kept.choice.marks else kept


def _digest(keys: Sequence[bytes], settings: bytes) -> bytes:
    """Return the digest of a whole prompt, for planning with these ``settings``."""
    return hashlib.blake2b(b"".join((settings, *keys)), digest_size=DIGEST_BYTES).digest()


def _previous_tail(prompt: Sequence[Segment], order: Sequence[int], documents: frozenset[int], reply: int) -> int:
    """Return the place in ``order`` at which the previous request of the conversation should have ended, or -1.

    It is the last one in the messages before the latest ``reply``, those that documents move to included.
    """
    given, index = list(order) == list(range(len(prompt))), -1
    for place in reversed(range(len(order))):
        number = order[place]
        index = index if number in documents and not given else message_of(prompt[number])
        if 0 <= index < reply and _markable(prompt[number]):
            return place
    return -1


def _choice(view: Ahead, profile: CacheProfile, snapshot: Snapshot, enough: int, anchor: int) -> Choice:
    if profile.max_breakpoints:
        return best_marks(view, profile, snapshot, enough, anchor=anchor)
    return Choice(worth_unmarked(view, profile, snapshot))


def block_keys(prompt: Sequence[Segment], seeds: Mapping[Tier, bytes]) -> list[bytes]:
    """Return the digest of every segment, which does not depend on its place, but on the settings of its tier."""
    return [
        hashlib.blake2b(segment.identity, digest_size=DIGEST_BYTES, key=seeds.get(segment.tier, b"")).digest()
        for segment in prompt
    ]


def _blocks(
    prompt: Sequence[Segment], counts: Sequence[int], kinds: Sequence[Kind], keys: Sequence[bytes]
) -> list[Block]:
    rows = zip(prompt, counts, kinds, keys, strict=True)
    return [Block(key, kind, tokens, _markable(segment)) for segment, tokens, kind, key in rows]


def _kinds(request: Request, prompt: Sequence[Segment], found: Movable, known: KnownPrompt) -> list[Kind]:
    documents = set(found.recognised)
    head, until = marked_range(request, known)
    return ["document" if number in documents else _kind(segment, head, until) for number, segment in enumerate(prompt)]


def _kind(segment: Segment, head: Address | None, until: Address | None) -> Kind:
    """Return the kind of what is no document: up to ``head`` all calls are the same, from ``until`` on none are."""
    at = segment.at
    if at is None:
        return "framing"
    if segment.tier != "messages" or (head is not None and at <= head):
        return "static"
    return "filled" if until is not None and at >= until else "turn"


def _markable(segment: Segment) -> bool:
    return segment.markable and bool(segment.fixed_tokens or segment.text.strip())
