"""What earlier requests say about this one: in which order to send it, where markers pay, and what to remember."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Level, Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.cache_key import Route
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.documents import Movable, distance, message_of, movable
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, marked_range
from prefixcache_integrations.prompt.orders import Path, longest_path, orders
from prefixcache_integrations.prompt.pieces import Block, Piece
from prefixcache_integrations.prompt.pricing import Ahead, Choice, Prices, best_marks, expected_bill, worth_unmarked
from prefixcache_integrations.prompt.priors import Kind
from prefixcache_integrations.prompt.prospects import Company, ahead, company
from prefixcache_integrations.prompt.reading import Reading
from prefixcache_integrations.prompt.repeats import Attempts, Laid
from prefixcache_integrations.prompt.retrieved import retrieved_last
from prefixcache_integrations.prompt.stability import Sighting, Snapshot
from prefixcache_integrations.prompt.terms import Terms
from prefixcache_integrations.prompt.tool_lists import tool_digests
from prefixcache_integrations.prompt.tools import agent_of
from prefixcache_integrations.prompt.turns import latest_reply, latest_turn

DIGEST_BYTES = 16
WORTH_MOVING = 1.0
"""From how many tokens saved on a document is moved: below that, the application's own order is as good."""


class Foresight(Struct, frozen=True):
    """How to send a prompt. ``order`` are its blocks by number; ``marks`` are numbers too, of blocks to mark.

    ``documents`` are those blocks that are, ``movable`` those of them that may move. ``seen`` is what is to be
    remembered, its steps in the order that was found best even where it is not worth moving anything for it.
    """

    order: Sequence[int]
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


NO_PATH = Path()


class _Candidate(Struct, frozen=True):
    order: Sequence[int]
    choice: Choice
    ahead: Ahead
    previous: int
    instead: tuple[int, ...] = ()


def foresee(request: Request, reading: Reading, terms: Terms, snapshot: Snapshot, *, moving: bool) -> Foresight:
    """Return how to send the prompt of ``request``, as it was read, going by what ``snapshot`` knows.

    Documents move by the rules of ``terms``, and only if they are ``moving`` at all.
    """
    keys = reading.blocks.keys
    found = movable(request, reading.blocks, terms.documents.keep_top)
    settings = _settings(terms.level, terms.profile.name, terms.documents)
    given = _digest(keys, settings)
    laid = snapshot.just_sent(given)
    if laid is not None:
        same = Attempts(given, _digest([keys[number] for number in laid.order], settings), None)
        return _foresight(_once_more(laid, keys, snapshot), found, Sighting((), attempts=same))
    outlook = _outlook(request, reading, found, terms, snapshot)
    kept = outlook.candidate(outlook.as_given)
    sent, remembered = outlook.chosen(kept) if found.documents and moving else (kept, kept)
    laid = Laid(sent.order, tuple(sent.order[place] for place in sent.choice.marks), sent.choice.ttl)
    gone_out = given if sent is kept else _digest([keys[number] for number in sent.order], settings)
    seen = Sighting(
        steps=remembered.ahead.steps,
        documents=outlook.around.documents,
        bill=expected_bill(sent.ahead, sent.choice, terms.profile),
        tools=tool_digests(tuple(tool.name for tool in request.tools)),
        agent=agent_of(request),
        previous=None if remembered.previous < 0 or outlook.goes_on else remembered.previous,
        instead=tuple(keys[number] for number in remembered.instead),
        as_it_came=sent is not remembered,
        attempts=Attempts(given, gone_out, laid),
    )
    return _foresight(laid, found, seen)


def _once_more(laid: Laid, keys: Sequence[bytes], snapshot: Snapshot) -> Laid:
    """Return how to send a prompt once more: what is only just being written is not written again."""
    path = snapshot.path([keys[number] for number in laid.order])
    written = {number for number, prefix in zip(laid.order, path, strict=False) if snapshot.written(prefix)}
    return replace(laid, marks=tuple(number for number in laid.marks if number not in written)) if written else laid


def _foresight(laid: Laid, found: Movable, seen: Sighting) -> Foresight:
    return Foresight(laid.order, found.recognised, found.documents, laid.marks, laid.ttl, seen)


class _Outlook(Struct, frozen=True):
    """A prompt, with all that does not depend on the order it is sent in; ``plain``: nothing of it was looked up."""

    reading: Reading
    blocks: Sequence[Block]
    as_given: Sequence[int]
    path: Sequence[int]
    plain: bool
    found: Movable
    around: Company
    reply: int
    turn: int
    terms: Terms
    snapshot: Snapshot
    prices: Prices

    @property
    def goes_on(self) -> bool:
        """Whether the conversation was sent from here up to its latest reply, whatever stood in front of it."""
        return self.reading.begun is not None and self.reading.begun.count >= self.reply

    def candidate(self, order: Sequence[int], gone_on: Path = NO_PATH) -> _Candidate:
        """Return what one order is worth; ``gone_on`` is what the prompt goes on with, if it was sent in another."""
        profile, given = self.terms.profile, order is self.as_given
        in_order = self.blocks if given else [self.blocks[number] for number in order]
        plain, path = self.reading.blocks if self.plain else None, self.path if given else None
        instead = gone_on.instead if tuple(order[: len(gone_on.all)]) == gone_on.all else ()
        begun = gone_on.prefixes if instead else ()
        moved = frozenset[int]() if given else frozenset(self.found.documents)
        asked = _asked(self.reading.pieces, order, moved, self.turn)
        view = ahead(in_order, self.around, profile, self.snapshot, plain=plain, path=path, begun=begun, asked=asked)
        previous = _previous_tail(self.reading.pieces, order, moved, self.reply)
        choice = _choice(view, self.prices, self.terms.limits.enough, previous)
        return _Candidate(order, choice, view, previous, instead)

    def chosen(self, kept: _Candidate) -> tuple[_Candidate, _Candidate]:
        """Return in which order to send the prompt, and in which to remember it: as it came (``kept``), or a better."""
        profile, rules = self.terms.profile, self.terms.documents
        path = longest_path(self.blocks, self.found, profile, self.snapshot).as_given(self.found)
        if path.instead:
            kept = self.candidate(self.as_given, path)
        given = tuple(self.as_given)
        tried = dict.fromkeys(orders(path, self.blocks, self.around, self.found))
        others = [kept if order == given else self.candidate(order, path) for order in tried]
        best = max(others, key=lambda each: each.choice.worth)
        if rules.max_distance < 1 and distance(best.order, self.found, self.reading.pieces) > rules.max_distance:
            return kept, kept
        return _better(kept, best, profile)


def _outlook(request: Request, reading: Reading, found: Movable, terms: Terms, snapshot: Snapshot) -> _Outlook:
    prompt = reading.pieces
    plain = terms.known is NOTHING_KNOWN and not found.recognised and retrieved_last(request) is None
    return _Outlook(
        reading=reading,
        blocks=prompt if plain else _blocks(prompt, _kinds(request, prompt, found, terms.known)),
        as_given=range(len(prompt)),
        path=snapshot.path(reading.blocks.keys, reading.path),
        plain=plain,
        found=found,
        around=company({prompt[number].key: prompt[number].tokens for number in found.recognised}, snapshot),
        reply=latest_reply(request),
        turn=latest_turn(request),
        terms=terms,
        snapshot=snapshot,
        prices=Prices(terms.profile, snapshot),
    )


def _better(kept: _Candidate, best: _Candidate, profile: CacheProfile) -> tuple[_Candidate, _Candidate]:
    """Return in which order to send a prompt, as it came or the ``best``, and in which to remember it.

    What goes on with its conversation as it came keeps that order, unless another one is worth more.
    """
    if best.ahead.settled < kept.ahead.settled:
        return kept, kept
    goes_on = 0 < best.ahead.settled == kept.ahead.settled
    gain = best.choice.worth - (kept.choice.worth if goes_on else 0.0)
    if gain > WORTH_MOVING and best.ahead.found >= kept.ahead.found:
        return best, best
    return kept, best if profile.max_breakpoints and not kept.choice.marks else kept


@lru_cache(maxsize=256)
def _settings(level: Level, model: str, documents: DocumentRules) -> bytes:
    return b"".join((level.encode(), model.encode(), repr(documents).encode()))


def _digest(keys: Sequence[bytes], settings: bytes) -> bytes:
    """Return the digest of a whole prompt, for planning with these ``settings``."""
    return hashlib.blake2b(b"".join((settings, *keys)), digest_size=DIGEST_BYTES).digest()


def _previous_tail(prompt: Sequence[Piece], order: Sequence[int], moved: frozenset[int], reply: int) -> int:
    """Return the place in ``order`` at which the previous request of the conversation should have ended, or -1.

    It is the last one in the messages before the latest ``reply``, those that documents have ``moved`` to included.
    """
    index = -1
    for place in reversed(range(len(order))):
        number = order[place]
        index = index if number in moved else message_of(prompt[number])
        if 0 <= index < reply and prompt[number].markable:
            return place
    return -1


def _asked(prompt: Sequence[Piece], order: Sequence[int], moved: frozenset[int], turn: int) -> int:
    """Return the place in ``order`` with which the message ``turn`` begins; ``moved`` documents belong to any."""
    place = len(order)
    for number in reversed(order):
        if number not in moved and prompt[number].at is not None and message_of(prompt[number]) < turn:
            return place
        place -= 1
    return place


def _choice(view: Ahead, prices: Prices, enough: int, anchor: int) -> Choice:
    if prices.profile.max_breakpoints:
        return best_marks(view, prices, enough, anchor=anchor)
    return Choice(worth_unmarked(view, prices))


def _blocks(prompt: Sequence[Piece], kinds: Sequence[Kind]) -> list[Block]:
    return [Block(piece.key, kind, piece.tokens, piece.markable) for piece, kind in zip(prompt, kinds, strict=True)]


def _kinds(request: Request, prompt: Sequence[Piece], found: Movable, known: KnownPrompt) -> list[Kind]:
    documents = set(found.recognised)
    loose = {at for number in found.documents if (at := prompt[number].at) is not None}
    head, until = marked_range(request, known, loose)  # wherever documents are moved to
    return ["document" if number in documents else _kind(piece, head, until) for number, piece in enumerate(prompt)]


def _kind(piece: Piece, head: Address | None, until: Address | None) -> Kind:
    """Return the kind of what is no document: up to ``head`` all calls are the same, from ``until`` on none are."""
    at = piece.at
    if at is None:
        return piece.kind
    if piece.tier == "messages" and head is not None and at <= head:
        return "static"
    return "filled" if piece.tier == "messages" and until is not None and at >= until else piece.kind
