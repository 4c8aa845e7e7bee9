"""What changes from call to call inside instructions that are otherwise the same: where it is, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

from msgspec import Struct, field
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Finding, Level, Move, Part, Request, VolatileKind
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.content import is_document
from prefixcache_integrations.prompt.fragments import CLOCKS, Fragment, filled_in, fragments, in_blocks, named
from prefixcache_integrations.prompt.known import (
    RETRIEVED,
    KnownPrompt,
    Slot,
    conversation,
    filled_texts,
    heads,
    was_cut,
)
from prefixcache_integrations.prompt.patterns import patterns
from prefixcache_integrations.prompt.pricing import lost_read, read_saving
from prefixcache_integrations.prompt.reading import Reading
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.tail_note import can_be_stated, instructions, note_target, own_words, question
from prefixcache_integrations.prompt.templates import Recognition

_IN_TOOLS = frozenset[VolatileKind]({"timestamp", "address"})
"""What no tool's description has as an example; dates and ids it has."""

_NAMES: Mapping[VolatileKind, str] = {
    "timestamp": "a date with the time of day",
    "date": "today's date",
    "time": "the time of day",
    "epoch": "a time in seconds",
    "uuid": "a UUID",
    "address": "the address of an object",
    "id": "an id",
    "counter": "a counter",
    "text": "text that changes",
}

_IN_TOOL = "describe the tool in words of its own: what is said of a running program's objects is never said again"
_IN_INSTRUCTIONS = 'say it in the latest message instead; level "arrange" does that by itself where it pays'
"""What to do about a value that changes, by where it is."""


class Volatile(Struct, frozen=True):
    """The fragments of a request in the order of the prompt, the moves they lead to, and what was recognised.

    ``names`` are those by which the texts that hold fragments are known from call to call. ``heads`` are the blocks of
    the cut request behind which a value changes: what precedes it is the same in every call.
    """

    fragments: tuple[Fragment, ...] = ()
    moves: tuple[Move, ...] = ()
    texts: tuple[Recognition, ...] = ()
    names: Mapping[Address, bytes] = field(default_factory=dict)
    heads: tuple[Address, ...] = ()


def find_volatile(
    request: Request, profile: CacheProfile, snapshot: Snapshot | None, level: Level, known: KnownPrompt
) -> Volatile:
    """Return what changes in the instructions of ``request``, going by its looks and by earlier requests.

    Where a text is ``known`` from a template, that is what goes. At level ``arrange``, known values move to the end of
    the prompt where that pays; the block of one that stays, and was seen to change, is split before it.
    """
    if profile.regime == "none":
        return Volatile()
    blocks = dict(instructions(request))
    slots = filled_texts(blocks.values(), known)
    seen = [_seen(together, slots, snapshot) for together in _held_together(blocks, slots, known)]
    found = [fragment for each in seen for fragment in each.fragments]
    moves = tuple(_moves(request, blocks, found, profile)) if level == "arrange" and found else ()
    if level == "arrange" and not any(move.reason == "retrieved" for move in moves):
        moves = (*moves, *_after_head(request, profile, known))
    texts = tuple(each.recognised for each in seen if each.recognised is not None)
    names = {fragment.at: each.name for each in seen for fragment in each.fragments}
    places = tuple(_heads(blocks, found, moves)) if found or moves else ()
    return Volatile(tuple(found), moves, texts, names, places)


class _Seen(Struct, frozen=True):
    """What was found in a text: its fragments, by which ``name`` it is known, and how it was recognised."""

    fragments: tuple[Fragment, ...] = ()
    name: bytes = b""
    recognised: Recognition | None = None


def _seen(
    together: Sequence[tuple[Address, Part]], slots: Mapping[str, Sequence[Slot]], snapshot: Snapshot | None
) -> _Seen:
    (at, part), *others = together
    if not others and part.text in slots:
        rows = filled_in(at, part, slots[part.text])
        return _Seen(tuple(rows), named(part.text, rows))
    text = "".join(part.text for _, part in together)
    if own_words(text) != text:  # an earlier plan has done all there is to do
        return _Seen()
    recognised = None if snapshot is None else snapshot.recognise(text)
    rows = list(fragments(text, recognised))
    name = named(text, rows) if recognised is None else recognised.template.name
    return _Seen(tuple(in_blocks(rows, together)), name, recognised)


def _held_together(
    blocks: Mapping[Address, Part], slots: Mapping[str, Sequence[Slot]], known: KnownPrompt
) -> Iterator[list[tuple[Address, Part]]]:
    """Yield the blocks of the system prompt, then those of each message; what a template fills in stands alone.

    Where an earlier plan has cut what a template filled in, a block is no text of a template's, though it may read so.
    """
    for _, held in groupby(blocks.items(), key=lambda pair: _holder(pair[0])):
        together = list(held)
        texts = [part.text for _, part in together]
        if not slots.keys().isdisjoint(texts) and not was_cut(texts, known):
            yield from ([each] for each in together)
        else:
            yield together


def _holder(at: Address) -> int | None:
    """Return whose block it is: a message by its number, ``None`` for the system prompt."""
    return None if at.part is None else at.index


def _after_head(request: Request, profile: CacheProfile, known: KnownPrompt) -> Iterator[Move]:
    """Yield the split of what is said first behind what of it the template says in every call, if that is much."""
    if not any(each.slots for each in known.texts):
        return
    said = dict(conversation(request))
    first = heads(request, known, [at for at, part in said.items() if is_document(part)])[1]
    texts = [part.text for part in said.values()]
    if first is None or not profile.max_breakpoints or any(text.startswith(RETRIEVED) for text in texts):
        return
    if was_cut(texts, known):
        return
    part = said[first]
    start = next((each.slots[0].start for each in known.texts if each.slots and each.text == part.text), 0)
    fragment = Fragment(first, start, start, "text", 1.0, known=True)
    if start >= profile.minimum_tokens and _may_split(fragment, part):
        yield _split(fragment, 1, len(part.text))


@lru_cache(maxsize=64)
def _in_tools(descriptions: tuple[str, ...]) -> tuple[Fragment, ...]:
    found = ((index, each) for index, text in enumerate(descriptions) for each in patterns(text))
    return tuple(
        Fragment(Address("tools", index), each.start, each.end, each.kind, None, known=True)
        for index, each in found
        if each.kind in _IN_TOOLS and each.certain
    )


def _moves(
    request: Request, blocks: Mapping[Address, Part], found: Sequence[Fragment], profile: CacheProfile
) -> Iterator[Move]:
    role = profile.late_instructions
    target, asked = (note_target(request, role), question(request)) if may_add_note(request, profile) else (None, None)
    splits, since, retrieved = Counter[int | None](), dict[Address, int](), 0
    for fragment in found:
        part = blocks[fragment.at]
        if not fragment.known:
            continue
        if asked is not None and fragment.slot == "documents":
            place = Address("messages", asked, retrieved)
            yield Move(source=fragment.at, target=place, reason="retrieved", span=(fragment.start, fragment.end))
            retrieved += 1
        elif target is not None and _may_leave(fragment, part) and _pays(fragment, blocks, profile):
            span = (fragment.start, fragment.end)
            yield Move(source=fragment.at, target=target, reason="volatile", span=span, role=role)
        elif fragment.rate is not None and _may_split(fragment, part, since.get(fragment.at, 0)):
            splits[_holder(fragment.at)] += 1
            since[fragment.at] = fragment.start
            yield _split(fragment, splits[_holder(fragment.at)], len(part.text))


def _heads(blocks: Mapping[Address, Part], found: Sequence[Fragment], moves: Sequence[Move]) -> Iterator[Address]:
    """Yield the blocks that end before a value that changes and stays: cut there, or by the application itself."""
    splits = [move for move in moves if move.reason == "split"]
    yield from (_shifted(move.target, -1) for move in splits)
    treated = {(move.source, move.span[0]) for move in moves if move.span is not None}
    for each in found:
        before = _shifted(each.at, -1)
        if each.known and each.rate is not None and (each.at, each.start) not in treated and before in blocks:
            earlier = (move.source for move in splits if _holder(move.source) == _holder(before))
            yield _shifted(before, sum(at <= before for at in earlier))


def _shifted(at: Address, by: int) -> Address:
    """Return the address of the block so many behind ``at``, in the system prompt or in the same message."""
    return replace(at, index=at.index + by) if at.part is None else replace(at, part=at.part + by)


def may_add_note(request: Request, profile: CacheProfile) -> bool:
    """Tell whether a note may be added to this request and to those that follow it in its conversation.

    Where the provider keeps the conversation, the note would become a part of it. On models that drop earlier
    thinking when a user says something after tools were used, a note in the user's message would be that. Where it
    goes to the user's message, and tools answer in messages of their own, it would stand in front of these.
    """
    if any(request.options.get(name) for name in ("previous_response_id", "conversation")):
        return False
    if profile.late_instructions is not None:
        return True
    if request.dialect != "anthropic_messages":
        return not request.tools and not any(message.role == "tool" for message in request.messages)
    return not (profile.strips_thinking and _thinks(request))


def _thinks(request: Request) -> bool:
    asked = as_object(request.options.get("thinking")) or {}
    spoken = (part for message in request.messages for part in message.parts)
    return asked.get("type", "disabled") != "disabled" or any(part.kind == "thinking" for part in spoken)


def _pays(fragment: Fragment, blocks: Mapping[Address, Part], profile: CacheProfile) -> bool:
    """Tell whether what follows a value is worth more than the value, which is then never read from a cache.

    A clock, and what changes in most calls, loses the conversation that follows as well: for them it always pays.
    """
    if fragment.rate is None or fragment.rate > 1 / 2 or fragment.kind in CLOCKS:
        return True
    behind = sum(len(part.text) for at, part in blocks.items() if at > fragment.at)
    after = len(blocks[fragment.at].text) - fragment.end + behind
    write = float(profile.lifetimes[0].write_multiplier) if profile.lifetimes else 1.0
    saving = read_saving(profile)
    return fragment.rate * after * (saving + write - 1) > (fragment.end - fragment.start) * saving


def _may_leave(fragment: Fragment, part: Part) -> bool:
    return not fragment.stays and can_be_stated(part.text[fragment.start : fragment.end])


def _may_split(fragment: Fragment, part: Part, since: int = 0) -> bool:
    """Tell whether a block can be split before ``fragment``, which begins ``since`` the split before."""
    text = part.text
    return part.markable and bool(text[since : fragment.start].strip()) and bool(text[fragment.start :].strip())


def _split(fragment: Fragment, splits: int, length: int) -> Move:
    target = _shifted(fragment.at, splits)
    return Move(source=fragment.at, target=target, reason="split", span=(fragment.start, length))


def about_volatile(request: Request, volatile: Volatile, reading: Reading, profile: CacheProfile) -> Iterator[Finding]:
    """Yield a finding for every fragment, and for those in the tools of ``request``, with its price.

    ``reading`` is that of ``request``, from which values have been taken out.
    """
    found = (*_in_tools(tuple(tool.description for tool in request.tools)), *volatile.fragments)
    if not found:
        return
    ends = {piece.at: end for piece, end in zip(reading.pieces, reading.ends, strict=True) if piece.at is not None}
    lengths = {piece.at: (piece.length, piece.tokens) for piece in reading.pieces}
    total, price = reading.tokens, lost_read(profile)
    moved = {(move.source, move.span) for move in volatile.moves if move.reason != "split"}
    for each in found:
        characters, tokens = lengths.get(each.at, (0, 0))
        inside = int(tokens * (1 - each.end / characters)) if characters else 0
        end = ends.get(each.at) or ends.get(Address("tools", 0), 0)  # OpenAI's tools are one segment
        after = total - end + inside
        away = (each.at, (each.start, each.end)) in moved
        yield Finding(
            code="volatile_moved" if away else "volatile_text",
            message=_message(each, after, after * price, away=away),
            at=each.at,
            tokens=after,
            offset=each.start,
            kind=each.kind,
            cost=round(after * price, 1),
            remedies=() if away else (_IN_TOOL if each.at.section == "tools" else _IN_INSTRUCTIONS,),
        )


def _message(fragment: Fragment, after: int, cost: float, *, away: bool) -> str:
    what = f"{_NAMES[fragment.kind]} at character {fragment.start}"
    if away:
        return f"{what} was moved to the end: {after:,} tokens after it can be read again"
    return (
        f"{what}: when it changes, {after:,} tokens after it are not read again, which costs {cost:,.0f} uncached ones"
    )
