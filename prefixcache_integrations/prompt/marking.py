"""Where a prompt is marked, with the fields that go with markers, and for how long that makes entries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Breakpoint, Finding, JsonObject, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.breakpoints import (
    Reason,
    breakpoints,
    chosen,
    marker_rules,
    places,
)
from prefixcache_integrations.prompt.cache_options import explicit_mode, repaired_options
from prefixcache_integrations.prompt.documents import message_of
from prefixcache_integrations.prompt.foresight import Foresight
from prefixcache_integrations.prompt.known import KnownPrompt, marked_range
from prefixcache_integrations.prompt.pieces import Piece
from prefixcache_integrations.prompt.reading import Reading
from prefixcache_integrations.prompt.turns import latest_reply


class Marked(Struct, frozen=True, kw_only=True):
    """Where markers stand, and the fields that go with them; ``tail`` is a block that the provider marks by itself.

    ``places`` are the blocks, by number, among which all of these are.
    """

    rows: tuple[Breakpoint, ...]
    options: JsonObject
    findings: tuple[Finding, ...]
    places: tuple[int, ...]
    tail: Address | None = None


def marked(
    request: Request,
    reading: Reading,
    profile: CacheProfile,
    *,
    foresight: Foresight | None,
    enough: int,
    known: KnownPrompt,
    heads: tuple[Address, ...] = (),
) -> Marked:
    """Return where the prompt of ``request``, as it was read, is marked.

    ``foresight`` says what pays, ``known`` what a template tells where that is not known. ``enough`` are the tokens
    from which on a marker is worth setting.
    """
    head, until = marked_range(request, known)
    until = until if foresight is None else None
    numbers: Sequence[int] = range(len(reading.pieces))
    if foresight is not None and head is None:
        numbers = _worth_a_look(request, reading, foresight)
    found, rules = places(request, reading, numbers, until=until), marker_rules(request, profile)
    options, refused = repaired_options(request, profile)
    if until is not None and reading.tokens >= enough and _marks_tail_itself(request, profile):
        options = {**options, **explicit_mode(request, options)}
        rules = marker_rules(replace(request, options={**request.options, **options}), profile)
    wanted = None if foresight is None else _wanted(foresight, reading.pieces)
    tail = None
    if wanted is not None and found and _marks_tail_itself(request, profile):
        tail = found[-1].at if found[-1].at in wanted else None
        if tail is None and reading.tokens >= enough:
            rules = replace(rules, budget=profile.max_breakpoints)
            options = {**options, **explicit_mode(request, options)}
    rules = replace(rules, head=head, heads=heads)
    reasons, surplus = chosen(request, found, rules, enough=enough, wanted=wanted, itself=tail)
    ttl = foresight.ttl if foresight is not None and not any(place.markers for place in found) else None
    rows, lifetimes = breakpoints(found, reasons, rules, profile, ttl=ttl)
    return Marked(
        rows=rows, options=options, findings=(*surplus, *lifetimes, *refused), places=tuple(numbers), tail=tail
    )


def _wanted(foresight: Foresight, prompt: Sequence[Piece]) -> dict[Address, Reason]:
    """Return the places that pay, with what they are for; ``prompt`` is in the order to send."""
    documents = set(foresight.documents)
    places_ = sorted(map(foresight.order.index, foresight.marks))
    reasons: dict[Address, Reason] = {}
    for place in reversed(places_):
        piece = prompt[place]
        if piece.at is None:
            continue
        if piece.tier != "messages":
            reasons[piece.at] = "tools" if piece.tier == "tools" else "system"
        elif foresight.order[place] in documents:
            reasons[piece.at] = "documents"
        else:
            reasons[piece.at] = "tail" if place == places_[-1] else "anchor"
    return reasons


def _marks_tail_itself(request: Request, profile: CacheProfile) -> bool:
    """Tell whether the provider will mark the latest message, and the application did not say whether it should."""
    asked = as_object(request.options.get("prompt_cache_options")) or {}
    return profile.automatic_tail and asked.get("mode") is None


def _worth_a_look(request: Request, reading: Reading, foresight: Foresight) -> list[int]:
    """Return the blocks that may get a marker or have one, by number: those that lead, that pay, and of the last turn.

    Of tools one marker means all of them. Further back nothing is looked at, so that a turn costs what is new in it.
    """
    pieces, reply = reading.pieces, latest_reply(request)
    tools = bisect_left(pieces, 1, key=lambda piece: piece.tier != "tools")
    leading = takewhile(lambda number: pieces[number].tier != "messages", range(max(tools - 1, 0), len(pieces)))
    numbers = {*leading, *reading.blocks.marked, *map(foresight.order.index, foresight.marks)}
    for number in reversed(range(len(pieces))):
        numbers.add(number)
        if pieces[number].markable and message_of(pieces[number]) < reply:
            break
    return sorted(numbers)


def writes(foresight: Foresight, reading: Reading, made: Marked, profile: CacheProfile) -> dict[int, float]:
    """Return for how many seconds each block is written that ends an entry."""
    asked = {row.at: row.ttl for row in made.rows if row.prefix_tokens >= profile.minimum_tokens}
    asked |= {} if made.tail is None else {made.tail: None}
    lifetimes: dict[int, float] = {}
    for place in made.places:
        at = reading.pieces[place].at
        if at in asked:
            lifetime = profile.lifetime(asked[at]) or profile.lifetime(None)
            lifetimes[foresight.order[place]] = float(lifetime.seconds) if lifetime else 0.0
    return lifetimes
