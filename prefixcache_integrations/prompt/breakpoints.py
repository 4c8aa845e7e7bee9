"""Where the provider should be told to write the prefix: which places are worth a marker, and which get one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Breakpoint, CacheMarker, Finding, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.pieces import Piece
from prefixcache_integrations.prompt.reading import Reading
from prefixcache_integrations.prompt.turns import before_question, latest_reply

Reason: TypeAlias = Literal["tools", "system", "anchor", "documents", "lead", "tail", "application"]


class Place(Struct, frozen=True, kw_only=True):
    """A block that may carry a marker. ``tokens`` counts the prefix up to and with it; ``markers`` stand here already.

    ``automatic``: the request's top-level marker lands here. ``blank``: nothing but white space, not worth a marker.
    """

    at: Address
    tokens: int
    markers: tuple[CacheMarker, ...] = ()
    automatic: bool = False
    blank: bool = False


class MarkerRules(Struct, frozen=True, kw_only=True):
    """What markers a model takes, as far as the planner is concerned.

    ``wanted`` are the places we would mark, the most valuable first; the application's own markers come after
    ``anchor``. ``budget`` is how many a request may carry, ``None`` where that is not ours to judge. ``keeps``: the
    application's markers may stay. ``ordered``: a longer lifetime must not come after a shorter one. ``head`` is the
    last block that every call begins with, where that comes after the instructions; ``heads`` are blocks of these
    behind which a value changes.
    """

    wanted: tuple[Reason, ...] = ()
    budget: int | None = None
    keeps: bool = True
    ordered: bool = False
    head: Address | None = None
    heads: tuple[Address, ...] = ()


def marker_rules(request: Request, profile: CacheProfile) -> MarkerRules:
    """Return the rules for this request.

    Where the provider marks the latest message by itself, that takes one of its writes, and the rest is ours; an
    application that turned it off (``prompt_cache_options.mode: explicit``) gets the tail marked instead. Without
    markers in the regime none is added, and one that OpenAI would refuse is taken out, unless we do not know the model.
    """
    if profile.regime != "breakpoints":
        return MarkerRules(keeps=not profile.known or request.dialect == "anthropic_messages")
    if not profile.automatic_tail:
        return MarkerRules(
            wanted=("tail", "anchor", "system", "tools", "lead"), budget=profile.max_breakpoints, ordered=True
        )
    options = as_object(request.options.get("prompt_cache_options")) or {}
    if options.get("mode") == "explicit":
        return MarkerRules(wanted=("tail", "anchor", "system", "lead"), budget=profile.max_breakpoints)
    return MarkerRules(wanted=("anchor", "system", "lead"), budget=profile.max_breakpoints - 1)


def places(
    request: Request, reading: Reading, numbers: Iterable[int], *, until: Address | None = None
) -> tuple[Place, ...]:
    """Return those blocks of ``request`` that may carry a marker, in render order.

    ``reading`` is its prompt, of which the blocks ``numbers`` are looked at: the last that may carry one is among them.
    ``until`` is the first message block that no later request is expected to have: from there on only the application's
    markers have a place.
    """
    found = [
        _place(piece, reading.ends[number])
        for number, piece in ((number, reading.pieces[number]) for number in numbers)
        if piece.takes_marker and (piece.marker is not None or not _from(until, piece.at))
    ]
    if request.marker is not None and found:
        last = found[-1]
        found[-1] = replace(last, automatic=True, markers=(request.marker, *last.markers))
    return tuple(found)


def _from(until: Address | None, at: Address | None) -> bool:
    return until is not None and at is not None and at.section == "messages" and at >= until


def _place(piece: Piece, end: int) -> Place:
    if piece.at is None:
        raise ValueError("framing carries no marker")
    return Place(
        at=piece.at,
        tokens=end,
        markers=() if piece.marker is None else (piece.marker,),
        blank=piece.blank,
    )


def chosen(
    request: Request,
    found: Sequence[Place],
    rules: MarkerRules,
    enough: int,
    *,
    wanted: Mapping[Address, Reason] | None = None,
    itself: Address | None = None,
) -> tuple[dict[Address, Reason], tuple[Finding, ...]]:
    """Return the places to mark and what for, and a finding for each of the application's markers that has to go.

    A place whose prefix has fewer than ``enough`` tokens is not worth a marker of ours; an application's marker
    there is harmless, and stays while there is room. ``wanted`` are places that are known to pay, the most valuable
    first; to these come, as far as the prompt is written anyway, those that pay in most applications: another
    process may have written there. Without ``wanted`` it is those alone. ``itself`` is a wanted place that the
    provider marks by itself.
    """
    ranked = _ranked(request, found, rules, enough, wanted)
    if itself is not None and not any(place.markers for place in found if place.at == itself):
        ranked.pop(itself, None)
    ranked = dict(list(ranked.items())[: rules.budget])
    gone = (place.at for place in found if place.markers and place.at not in ranked)
    return ranked, tuple(_surplus(at, rules) for at in gone)


def _surplus(at: Address, rules: MarkerRules) -> Finding:
    reason = f"the provider takes {rules.budget}" if rules.keeps else "the model takes none"
    return Finding(code="marker_removed", message=f"a marker was removed: {reason}", at=at)


def _ranked(
    request: Request,
    found: Sequence[Place],
    rules: MarkerRules,
    enough: int,
    wanted: Mapping[Address, Reason] | None,
) -> dict[Address, Reason]:
    """Return every place that deserves a marker, the most deserving first."""
    worth = [place for place in found if place.tokens >= enough]
    usual = _reasons(request, worth, rules)
    reasons = usual if wanted is None else _with_free(wanted, usual, worth) if rules.wanted else {}
    theirs = [place.at for place in reversed(found) if place.markers] if rules.keeps else []
    static = _opening(request)
    worthy = {place.at for place in worth}
    order = [
        *(place.at for place in found if place.automatic),
        *(at for at, reason in reasons.items() if reason in _BEFORE_THEIRS),
        *(at for at in theirs if at in worthy and _is_static(at, static)),
        *(at for at in theirs if at in worthy),
        *reasons,
        *theirs,
    ]
    return {at: reasons.get(at, "application") for at in order}


def _with_free(
    wanted: Mapping[Address, Reason], usual: Mapping[Address, Reason], found: Sequence[Place]
) -> dict[Address, Reason]:
    """Add to the ``wanted`` places those usual ones that lie before the last of them: a marker there costs nothing."""
    last = max((number for number, place in enumerate(found) if place.at in wanted), default=0)
    before = {place.at for place in found[:last]}
    return {**wanted, **{at: reason for at, reason in usual.items() if at in before and at not in wanted}}


_BEFORE_THEIRS = frozenset({"tail", "anchor", "documents"})


def _reasons(request: Request, found: Sequence[Place], rules: MarkerRules) -> dict[Address, Reason]:
    """Return the places that we would mark by ourselves.

    ``anchor`` is where the previous request of this conversation had its tail: the last block before the most recent
    run of assistant messages. Marked again, it is found however many blocks the turn has added since. ``lead`` is what
    stands before the question, in blocks or messages of its own: the same documents may come with another question.
    """
    opening, reply = _opening(request), latest_reply(request)
    leading = before_question(request)
    candidates: Mapping[Reason, Callable[[Place], bool]] = {
        "tail": lambda place: place.automatic or (place.at.section == "messages" and not place.blank),
        "anchor": lambda place: place.at.section == "messages" and place.at.index < reply and not place.blank,
        "system": lambda place: (
            place.at.section != "tools"
            and not place.blank
            and (_is_static(place.at, opening) or (rules.head is not None and place.at <= rules.head))
        ),
        "tools": lambda place: place.at.section == "tools",
        "lead": lambda place: place.at in leading and not place.blank,
    }
    reasons: dict[Address, Reason] = {}
    for reason in rules.wanted:
        if reason == "system":
            reasons |= {place.at: reason for place in found if place.at in rules.heads and place.at not in reasons}
        place = next(filter(candidates[reason], reversed(found)), None)
        if place is not None:
            reasons.setdefault(place.at, reason)
    return reasons


def _is_static(at: Address, opening: int) -> bool:
    return at.section != "messages" or at.index < opening


def _opening(request: Request) -> int:
    """Return how many messages of instructions the conversation begins with."""
    roles = (message.role in _INSTRUCTIONS for message in request.messages)
    return next((index for index, is_instruction in enumerate(roles) if not is_instruction), len(request.messages))


_INSTRUCTIONS = frozenset({"system", "developer"})


def breakpoints(
    found: Sequence[Place],
    reasons: Mapping[Address, Reason],
    rules: MarkerRules,
    profile: CacheProfile,
    *,
    ttl: str | None = None,
) -> tuple[tuple[Breakpoint, ...], tuple[Finding, ...]]:
    """Return the breakpoints of a request in render order, with the lifetimes they get and what changed about them.

    Where longer lifetimes must come first, one of the application's that comes after a shorter one of its own is
    lowered to it; ours take the longest that follows them, so that no lifetime the application asked for is lost.
    ``ttl`` is the one that ours ask for, where the application asks for none.
    """
    findings: list[Finding] = []
    rows = [_breakpoint(place, reasons[place.at], profile, findings, ttl) for place in found if place.at in reasons]
    if rules.ordered and any(row.ttl is not None for row in rows):
        rows = _raised(_lowered(rows, profile, findings), profile)
    return tuple(rows), tuple(findings)


def _breakpoint(
    place: Place, reason: Reason, profile: CacheProfile, findings: list[Finding], ttl: str | None
) -> Breakpoint:
    ttls = [_known_ttl(marker, place, profile, findings) for marker in place.markers]
    if len(ttls) > 1:
        message = "a marker was removed: the request's top-level marker stands on the same block"
        findings.append(Finding(code="marker_removed", message=message, at=place.at))
    return Breakpoint(
        at=place.at,
        reason=reason,
        prefix_tokens=place.tokens,
        ttl=max(ttls, key=lambda ttl: _seconds(ttl, profile), default=ttl),
        ours=not place.markers,
        automatic=place.automatic,
    )


def _known_ttl(marker: CacheMarker, place: Place, profile: CacheProfile, findings: list[Finding]) -> str | None:
    if marker.ttl is None or not profile.lifetimes or profile.lifetime(marker.ttl) is not None:
        return marker.ttl
    message = "a marker's lifetime was removed: the model does not have it"
    findings.append(Finding(code="ttl_removed", message=message, at=place.at))
    return None


def _lowered(rows: Sequence[Breakpoint], profile: CacheProfile, findings: list[Finding]) -> list[Breakpoint]:
    result: list[Breakpoint] = []
    shortest: Breakpoint | None = None
    for found in rows:
        row = found
        if shortest is not None and not row.ours and _seconds(row.ttl, profile) > _seconds(shortest.ttl, profile):
            row = replace(row, ttl=shortest.ttl)
            message = "a marker's lifetime was lowered: it came after a marker with a shorter one"
            findings.append(Finding(code="ttl_lowered", message=message, at=row.at))
        shortest = shortest if row.ours else row
        result.append(row)
    return result


def _raised(rows: Sequence[Breakpoint], profile: CacheProfile) -> list[Breakpoint]:
    result: list[Breakpoint] = []
    longest: str | None = None
    for row in reversed(rows):
        result.append(
            replace(row, ttl=longest) if row.ours and _seconds(longest, profile) > _seconds(row.ttl, profile) else row
        )
        longest = result[-1].ttl if _seconds(result[-1].ttl, profile) > _seconds(longest, profile) else longest
    return result[::-1]


def _seconds(ttl: str | None, profile: CacheProfile) -> int:
    lifetime = profile.lifetime(ttl)
    return lifetime.seconds if lifetime else 0
