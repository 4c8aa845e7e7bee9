"""Where a prompt is marked, with the fields that go with markers, and for how long that makes entries."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Breakpoint, Finding, JsonObject, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.breakpoints import Reason, breakpoints, chosen, marker_rules, places
from prefixcache_integrations.prompt.cache_options import explicit_mode, repaired_options
from prefixcache_integrations.prompt.foresight import Foresight
from prefixcache_integrations.prompt.known import KnownPrompt, marked_range
from prefixcache_integrations.prompt.reading import Piece, Reading


class Marked(Struct, frozen=True, kw_only=True):
    """Where markers stand, and the fields that go with them; ``tail`` is a block that the provider marks by itself."""

    rows: tuple[Breakpoint, ...]
    options: JsonObject
    findings: tuple[Finding, ...]
    tail: Address | None = None


def marked(
    request: Request,
    reading: Reading,
    profile: CacheProfile,
    *,
    foresight: Foresight | None,
    enough: int,
    known: KnownPrompt,
) -> Marked:
    """Return where the prompt of ``request``, as it was read, is marked.

    ``foresight`` says what pays, ``known`` what a template tells where that is not known. ``enough`` are the tokens
    from which on a marker is worth setting.
    """
    prompt, ends = reading.pieces, reading.ends
    head, until = marked_range(request, known)
    until = until if foresight is None else None
    found, rules = places(request, prompt, ends, until=until), marker_rules(request, profile)
    options, refused = repaired_options(request, profile)
    if until is not None and ends[-1] >= enough and _marks_tail_itself(request, profile):
        options = {**options, **explicit_mode(request, options)}
        rules = marker_rules(replace(request, options={**request.options, **options}), profile)
    wanted = None if foresight is None else _wanted(foresight, prompt)
    tail = None
    if wanted is not None and found and _marks_tail_itself(request, profile):
        tail = found[-1].at if found[-1].at in wanted else None
        if tail is None and ends[-1] >= enough:
            rules = replace(rules, budget=profile.max_breakpoints)
            options = {**options, **explicit_mode(request, options)}
    rules = replace(rules, head=head)
    reasons, surplus = chosen(request, found, rules, enough=enough, wanted=wanted, itself=tail)
    ttl = foresight.ttl if foresight is not None and not any(place.markers for place in found) else None
    rows, lifetimes = breakpoints(found, reasons, rules, profile, ttl=ttl)
    return Marked(rows=rows, options=options, findings=(*surplus, *lifetimes, *refused), tail=tail)


def _wanted(foresight: Foresight, prompt: Sequence[Piece]) -> dict[Address, Reason]:
    """Return the places that pay, with what they are for; ``prompt`` is in the order to send."""
    marked, documents = set(foresight.marks), set(foresight.documents)
    places_ = [place for place, number in enumerate(foresight.order) if number in marked]
    reasons: dict[Address, Reason] = {}
    for place in reversed(places_):
        segment = prompt[place]
        if segment.at is None:
            continue
        if segment.tier != "messages":
            reasons[segment.at] = "tools" if segment.tier == "tools" else "system"
        elif foresight.order[place] in documents:
            reasons[segment.at] = "documents"
        else:
            reasons[segment.at] = "tail" if place == places_[-1] else "anchor"
    return reasons


def _marks_tail_itself(request: Request, profile: CacheProfile) -> bool:
    """Tell whether the provider will mark the latest message, and the application did not say whether it should."""
    asked = as_object(request.options.get("prompt_cache_options")) or {}
    return profile.automatic_tail and asked.get("mode") is None


def writes(foresight: Foresight, prompt: Sequence[Piece], made: Marked, profile: CacheProfile) -> dict[int, float]:
    """Return for how many seconds each block is written that ends an entry."""
    asked = {row.at: row.ttl for row in made.rows if row.prefix_tokens >= profile.minimum_tokens}
    asked |= {} if made.tail is None else {made.tail: None}
    lifetimes: dict[int, float] = {}
    for number, segment in zip(foresight.order, prompt, strict=True):
        if segment.at in asked:
            lifetime = profile.lifetime(asked[segment.at]) or profile.lifetime(None)
            lifetimes[number] = float(lifetime.seconds) if lifetime else 0.0
    return lifetimes
