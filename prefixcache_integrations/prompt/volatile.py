"""What changes from call to call inside instructions that are otherwise the same: where it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from msgspec import Struct

from prefixcache_integrations.canonical import Address, Finding, Level, Move, Part, Request, VolatileKind
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.known import KnownPrompt, Slot, SlotKind, conversation, heads
from prefixcache_integrations.prompt.patterns import Pattern, patterns
from prefixcache_integrations.prompt.pricing import read_saving
from prefixcache_integrations.prompt.segments import Segment
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.tail_note import instructions, note_target, placeholders, question
from prefixcache_integrations.prompt.templates import Change, Recognition

CONSTANT = 4
"""After how many calls with the same text what only looks as if it changed is no longer taken for it."""

_IN_TOOLS = frozenset[VolatileKind]({"timestamp", "address"})
"""What no tool's description has as an example; dates and ids it has."""

_CLOCKS = frozenset[VolatileKind]({"timestamp", "time", "epoch"})

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


class Fragment(Struct, frozen=True):
    """A piece of the instructions, ``start`` to ``end`` in characters of the block ``at``, that changes or may.

    ``rate`` is in how many of the calls that went by it was another than in the one before, ``None`` where that is not
    known. ``known``: it changes, which was seen, or goes without saying. ``empty``: in some calls it is not there.
    ``slot`` is what a template calls it, if one fills it in.
    """

    at: Address
    start: int
    end: int
    kind: VolatileKind
    rate: float | None
    known: bool
    empty: bool = False
    slot: SlotKind | None = None


class Volatile(Struct, frozen=True):
    """The fragments of a request in the order of the prompt, the moves they lead to, and what was recognised."""

    fragments: tuple[Fragment, ...] = ()
    moves: tuple[Move, ...] = ()
    texts: tuple[Recognition, ...] = ()


def find_volatile(
    request: Request, profile: CacheProfile, snapshot: Snapshot | None, level: Level, known: KnownPrompt
) -> Volatile:
    """Return what changes in the instructions of ``request``, going by its looks and by earlier requests.

    Where a text is ``known`` from a template, that is what goes. At level ``arrange``, known values move to the end of
    the prompt where that pays; the block of one that stays is split before it.
    """
    if profile.regime == "none":
        return Volatile()
    found, texts = list[Fragment](), list[Recognition]()
    blocks = dict(instructions(request))
    slots = {each.text: each.slots for each in known.texts}
    for at, part in blocks.items():
        if slots.get(part.text):
            found.extend(_filled_in(at, part.text, slots[part.text]))
            continue
        recognised = None if snapshot is None else snapshot.recognise(part.text)
        if recognised is not None:
            texts.append(recognised)
        found.extend(_fragments(at, part.text, recognised))
    moves = tuple(_moves(request, blocks, found, profile)) if level == "arrange" and found else ()
    if level == "arrange" and not any(move.reason == "retrieved" for move in moves):
        moves = (*moves, *_after_head(request, profile, known))
    return Volatile(tuple(found), moves, tuple(texts))


def _filled_in(at: Address, text: str, slots: Sequence[Slot]) -> list[Fragment]:
    """Return what a template fills in to ``text``, and what else in it looks as if it changes."""
    rows = [Fragment(at, slot.start, slot.end, "text", 1.0, known=True, slot=slot.kind) for slot in slots]
    rows += [
        each
        for each in _fragments(at, text, None)
        if not any(slot.start < each.end and each.start < slot.end for slot in slots)
    ]
    return sorted(rows, key=lambda row: (row.start, row.end))


def _after_head(request: Request, profile: CacheProfile, known: KnownPrompt) -> Iterator[Move]:
    """Yield the split of what is said first behind what of it the template says in every call, if that is much."""
    first = heads(request, known)[1]
    if first is None or not profile.max_breakpoints:
        return
    part = dict(conversation(request))[first]
    start = next((each.slots[0].start for each in known.texts if each.slots and each.text == part.text), 0)
    fragment = Fragment(first, start, start, "text", 1.0, known=True)
    if start >= profile.minimum_tokens and _may_split(fragment, part):
        yield _split(fragment, 1, len(part.text))


def _in_tools(request: Request) -> Iterator[Fragment]:
    for index, tool in enumerate(request.tools):
        for each in patterns(tool.description):
            if each.kind in _IN_TOOLS and each.certain:
                yield Fragment(Address("tools", index), each.start, each.end, each.kind, None, known=True)


def _fragments(at: Address, text: str, recognised: Recognition | None) -> Iterator[Fragment]:
    """Yield what changes in ``text``: what was seen to, as far as it looks like one thing, and what looks like it."""
    looks = patterns(text)
    calls = 1 if recognised is None else max(recognised.template.sightings - 1, 1)
    changes = () if recognised is None else _merged(recognised.changes, [*looks, *_taken(text)])
    seen = {(each.start, each.end) for each in changes}
    taken = placeholders(text)
    rows = [
        Fragment(at, each.start, each.end, _kind(each, looks), each.changes / calls, known=True, empty=each.empty)
        for each in changes
    ]
    rows += [
        Fragment(at, each.start, each.end, each.kind, None, known=each.certain)
        for each in looks
        if (each.certain or calls < CONSTANT) and not any(start < each.end and each.start < end for start, end in seen)
    ]
    for row in sorted(rows, key=lambda row: row.start):
        if not any(start < row.end and row.start < end for start, end in taken):
            yield row


def _taken(text: str) -> list[Pattern]:
    return [Pattern(start, end, "text") for start, end in placeholders(text)]


def _merged(changes: Sequence[Change], looks: Sequence[Pattern]) -> list[Change]:
    """Return ``changes`` widened to what they are a part of: a second that changes is a time that does."""
    result = list[Change]()
    for change in changes:
        inside = [each for each in looks if each.start < change.end and change.start < each.end]
        start = min([change.start, *(each.start for each in inside)])
        end = max([change.end, *(each.end for each in inside)])
        wide = Change(start, end, change.changes, change.empty)
        result.append(_one_change(result.pop(), wide) if result and start < result[-1].end else wide)
    return result


def _one_change(one: Change, other: Change) -> Change:
    start, end = min(one.start, other.start), max(one.end, other.end)
    return Change(start, end, max(one.changes, other.changes), one.empty or other.empty)


def _kind(change: Change, looks: Sequence[Pattern]) -> VolatileKind:
    inside = [each.kind for each in looks if change.start <= each.start and each.end <= change.end]
    return inside[0] if inside else "text"


def _moves(
    request: Request, blocks: Mapping[Address, Part], found: Sequence[Fragment], profile: CacheProfile
) -> Iterator[Move]:
    role = profile.late_instructions
    target, asked = (note_target(request, role), question(request)) if _may_add(request, profile) else (None, None)
    splits = retrieved = 0
    for fragment in found:
        part = blocks[fragment.at]
        if not fragment.known:
            continue
        if asked is not None and fragment.slot == "documents":
            place = Address("messages", asked, retrieved)
            yield Move(source=fragment.at, target=place, reason="retrieved", span=(fragment.start, fragment.end))
            retrieved += 1
        elif target is not None and not fragment.empty and _pays(fragment, blocks, profile):
            span = (fragment.start, fragment.end)
            yield Move(source=fragment.at, target=target, reason="volatile", span=span, role=role)
        elif _may_split(fragment, part):
            splits += 1
            yield _split(fragment, splits, len(part.text))


def _may_add(request: Request, profile: CacheProfile) -> bool:
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
    if fragment.rate is None or fragment.rate > 1 / 2 or fragment.kind in _CLOCKS:
        return True
    behind = sum(len(part.text) for at, part in blocks.items() if at > fragment.at)
    after = len(blocks[fragment.at].text) - fragment.end + behind
    write = float(profile.lifetimes[0].write_multiplier) if profile.lifetimes else 1.0
    saving = read_saving(profile)
    return fragment.rate * after * (saving + write - 1) > (fragment.end - fragment.start) * saving


def _may_split(fragment: Fragment, part: Part) -> bool:
    text = part.text
    return part.markable and bool(text[: fragment.start].strip()) and bool(text[fragment.start :].strip())


def _split(fragment: Fragment, splits: int, length: int) -> Move:
    at = fragment.at
    index, number = (at.index + splits, None) if at.part is None else (at.index, at.part + splits)
    target = Address(at.section, index, number)
    return Move(source=at, target=target, reason="split", span=(fragment.start, length))


def about_volatile(
    request: Request, volatile: Volatile, prompt: Sequence[Segment], counts: Sequence[int], profile: CacheProfile
) -> Iterator[Finding]:
    """Yield a finding for every fragment, and for those in the tools of ``request``, with its price.

    ``prompt`` are the segments of ``request``, from which values have been taken out.
    """
    ends = {segment.at: end for segment, end in zip(prompt, accumulate(counts), strict=True) if segment.at is not None}
    lengths = {segment.at: (len(segment.text), count) for segment, count in zip(prompt, counts, strict=True)}
    total, saving = sum(counts), read_saving(profile)
    moved = {(move.source, move.span) for move in volatile.moves if move.reason != "split"}
    for each in (*_in_tools(request), *volatile.fragments):
        characters, tokens = lengths.get(each.at, (0, 0))
        inside = int(tokens * (1 - each.end / characters)) if characters else 0
        end = ends.get(each.at) or ends.get(Address("tools", 0), 0)  # OpenAI's tools are one segment
        after = total - end + inside
        away = (each.at, (each.start, each.end)) in moved
        yield Finding(
            code="volatile_moved" if away else "volatile_text",
            message=_message(each, after, after * saving, away=away),
            at=each.at,
            tokens=after,
            offset=each.start,
            kind=each.kind,
            cost=round(after * saving, 1),
        )


def _message(fragment: Fragment, after: int, cost: float, *, away: bool) -> str:
    what = f"{_NAMES[fragment.kind]} at character {fragment.start}"
    if away:
        return f"{what} was moved to the end: {after} tokens after it can be read again"
    return f"{what}: when it changes, {after} tokens after it are not read again, which costs {cost:.0f} uncached ones"
