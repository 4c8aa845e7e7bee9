"""What earlier requests say about this one: in which order to send it, where markers pay, and what to remember."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Level, Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.cache_key import Route
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.documents import Movable, distance, message_of, movable, orders
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, marked_range
from prefixcache_integrations.prompt.pieces import Block, Piece
from prefixcache_integrations.prompt.pricing import Ahead, Choice, best_marks, expected_bill, worth_unmarked
from prefixcache_integrations.prompt.prospects import ahead, company
from prefixcache_integrations.prompt.rates import Kind
from prefixcache_integrations.prompt.reading import Reading
from prefixcache_integrations.prompt.repeats import Attempts, Laid
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

    def sighting(self, writes: Mapping[int, float], route: Route | None = None) -> Sighting:
        """Return what to remember of the request, with the lifetime in seconds that is asked for at each block."""
        steps = list(self.seen.steps)
        for number, seconds in writes.items() if steps else ():
            place = self.order.index(number)
            steps[place] = replace(steps[place], writes=seconds)
        return replace(self.seen, steps=tuple(steps), route=route)


class _Candidate(Struct, frozen=True):
    order: tuple[int, ...]
    choice: Choice
    ahead: Ahead
    previous: int


def foresee(
    request: Request,
    reading: Reading,
    profile: CacheProfile,
    snapshot: Snapshot,
    *,
    level: Level,
    enough: int,
    rules: DocumentRules,
    moving: bool,
    known: KnownPrompt = NOTHING_KNOWN,
) -> Foresight:
    """Return how to send the prompt of ``request``, as it was read, going by what ``snapshot`` knows.

    Documents move by the ``rules``, and only if they are ``moving`` at all. ``enough`` are the tokens from which on a
    marker is worth setting. ``known`` is what a template says of the request: which text is its own, and what this call
    filled in.
    """
    prompt = reading.pieces
    keys = list(map(attrgetter("key"), prompt))
    # Where documents may move, what is settled would depend on the order they come in, and planning twice on that.
    settled = 0 if moving else snapshot.gone_on_with(keys)
    found = movable(request, prompt, rules.keep_top, settled)
    settings = b"".join((level.encode(), profile.name.encode(), repr(rules).encode()))
    given = _digest(keys, settings)
    laid = snapshot.just_sent(given)
    if laid is not None:
        same = Attempts(given, _digest([keys[number] for number in laid.order], settings), None)
        return Foresight(
            laid.order, found.recognised, found.documents, laid.marks, laid.ttl, Sighting((), attempts=same)
        )
    as_given = tuple(range(len(prompt)))
    plain = known is NOTHING_KNOWN and not found.recognised
    blocks = prompt if plain else _blocks(prompt, _kinds(request, prompt, found, known))
    documents, reply = frozenset(found.documents), latest_reply(request)
    around = company({keys[number]: prompt[number].tokens for number in found.recognised}, snapshot)

    def candidate(order: tuple[int, ...]) -> _Candidate:
        in_order = blocks if order is as_given else [blocks[number] for number in order]
        view = ahead(in_order, around, profile, snapshot, reading if plain else None)
        previous = _previous_tail(prompt, order, documents, reply)
        return _Candidate(order, _choice(view, profile, snapshot, enough, previous), view, previous)

    kept = sent = remembered = candidate(as_given)
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
        attempts=Attempts(
            given, _digest([keys[number] for number in sent.order], settings) if sent is not kept else given, laid
        ),
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


def _previous_tail(prompt: Sequence[Piece], order: Sequence[int], documents: frozenset[int], reply: int) -> int:
    """Return the place in ``order`` at which the previous request of the conversation should have ended, or -1.

    It is the last one in the messages before the latest ``reply``, those that documents move to included.
    """
    given, index = list(order) == list(range(len(prompt))), -1
    for place in reversed(range(len(order))):
        number = order[place]
        index = index if number in documents and not given else message_of(prompt[number])
        if 0 <= index < reply and prompt[number].markable:
            return place
    return -1


def _choice(view: Ahead, profile: CacheProfile, snapshot: Snapshot, enough: int, anchor: int) -> Choice:
    if profile.max_breakpoints:
        return best_marks(view, profile, snapshot, enough, anchor=anchor)
    return Choice(worth_unmarked(view, profile, snapshot))


def _blocks(prompt: Sequence[Piece], kinds: Sequence[Kind]) -> list[Block]:
    return [Block(piece.key, kind, piece.tokens, piece.markable) for piece, kind in zip(prompt, kinds, strict=True)]


def _kinds(request: Request, prompt: Sequence[Piece], found: Movable, known: KnownPrompt) -> list[Kind]:
    documents = set(found.looked_up)
    head, until = marked_range(request, known)
    return ["document" if number in documents else _kind(piece, head, until) for number, piece in enumerate(prompt)]


def _kind(piece: Piece, head: Address | None, until: Address | None) -> Kind:
    """Return the kind of what is no document: up to ``head`` all calls are the same, from ``until`` on none are."""
    at = piece.at
    if at is None:
        return "framing"
    if piece.tier != "messages" or (head is not None and at <= head):
        return "static"
    return "filled" if until is not None and at >= until else "turn"
