"""The plan of one request: what to change so that the provider's cache finds as much of it as it can, and why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import (
    Address,
    Breakpoint,
    Finding,
    JsonObject,
    Level,
    Move,
    PromptPlan,
    Request,
    Tokenizer,
    Tool,
)
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.breakpoints import Reason, breakpoints, chosen, marker_rules, places
from prefixcache_integrations.prompt.cache_key import CACHE_KEY, Route, route
from prefixcache_integrations.prompt.cache_options import explicit_mode, repaired_options, with_options
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.copies import copies, without_copies
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules
from prefixcache_integrations.prompt.findings import (
    about_length,
    about_model,
    about_moves,
    about_results,
    about_tools,
    bounds,
)
from prefixcache_integrations.prompt.foresight import Foresight, foresee
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, marked_range
from prefixcache_integrations.prompt.markers import placed, repaired
from prefixcache_integrations.prompt.moves import may_move, moves_for, rearranged, with_ranking
from prefixcache_integrations.prompt.noticed import places_of
from prefixcache_integrations.prompt.segments import Segment, segments, token_counts
from prefixcache_integrations.prompt.stability import Sighting, Snapshot
from prefixcache_integrations.prompt.tail_note import note_tokens, with_note, without_values
from prefixcache_integrations.prompt.tools import agent_of, canonical_tool, tool_order
from prefixcache_integrations.prompt.volatile import about_volatile, find_volatile


class Decision(Struct, frozen=True, kw_only=True):
    """A plan, the request as it wants it, and what to remember of that (`PromptMemory.observe`) once it is sent.

    ``news`` are findings of the plan about places that change, stay, and were not told of before. ``sighting`` is
    ``None`` where nothing is remembered.
    """

    plan: PromptPlan
    request: Request
    news: tuple[Finding, ...] = ()
    sighting: Sighting | None = None


def plan(
    request: Request,
    profile: CacheProfile,
    tokenizer: Tokenizer,
    *,
    level: Level = "canonical",
    snapshot: Snapshot | None = None,
    namespace: str = "",
    documents: DocumentRules = ANY_ORDER,
) -> PromptPlan:
    """Decide how ``request`` should be laid out; `apply` does it. Pure: nothing is changed and nothing remembered.

    With a ``snapshot`` of what was sent before, markers stand where they are expected to pay, and nowhere else.
    Planning a request that a plan was applied to changes nothing, for one snapshot. ``namespace`` is the tenant, whose
    requests are routed by a key of their own. ``documents`` is what may be done with them at level ``arrange``. Raises
    `MalformedRequest` for text that is no Unicode and values that are no JSON.
    """
    return decide(
        request, profile, tokenizer, level=level, snapshot=snapshot, namespace=namespace, documents=documents
    ).plan


def decide(
    request: Request,
    profile: CacheProfile,
    tokenizer: Tokenizer,
    *,
    level: Level = "canonical",
    snapshot: Snapshot | None = None,
    namespace: str = "",
    known: KnownPrompt = NOTHING_KNOWN,
    documents: DocumentRules = ANY_ORDER,
) -> Decision:
    """Return the `plan` of a request together with all that comes of it; ``known`` is what a template says of it."""
    dropped = tuple(copies(request)) if level == "arrange" and documents.drop_copies else ()
    request = without_copies(request, dropped)
    volatile = find_volatile(request, profile, snapshot, level, known)
    cut, note = without_values(request, volatile.moves)
    order = tuple(range(len(request.tools))) if level == "mark" else _tool_order(cut, snapshot)
    arranged = _arranged(cut, order, level)
    tidy, repairs = repaired(arranged)
    limits = bounds(profile, tokenizer)
    prompt = segments(tidy)
    counts = token_counts(prompt, tokenizer)
    total = sum(counts) + note_tokens(note, tidy, tokenizer)
    changing = tuple(about_volatile(tidy, volatile, prompt, counts, profile)) if total >= limits.enough else ()
    left = tuple(each for each in changing if each.code == "volatile_text")
    told = () if snapshot is None else tuple(places_of(left, tidy, volatile.names))
    way = _route(tidy, prompt, profile, namespace, snapshot) if sum(counts) >= limits.enough else None
    keyed: JsonObject = {} if way is None else {CACHE_KEY: way.sent}
    tidy = replace(tidy, options=with_options(tidy.options, keyed))
    foresight, moves = None, tuple[Move, ...]()
    if snapshot is not None and profile.regime != "none":
        foresight = foresee(
            tidy,
            prompt,
            counts,
            profile,
            snapshot,
            level=level,
            enough=limits.enough,
            rules=documents,
            moving=level == "arrange" and may_move(tidy, profile, note, documents),
            known=known,
        )
        moves = with_ranking(tidy, moves_for(prompt, foresight.order, foresight.movable), profile, documents)
    if foresight is not None and moves:
        tidy, note = rearranged(tidy, moves, note)
        prompt, counts = segments(tidy), tuple(counts[number] for number in foresight.order)
        total = sum(counts) + note_tokens(note, tidy, tokenizer)
    marked = _marked(tidy, prompt, counts, profile, foresight=foresight, enough=limits.enough, known=known)
    made = PromptPlan(
        level=level,
        profile=profile.name,
        prompt_tokens=total,
        exact=tokenizer.exact,
        tool_order=order,
        moves=(*dropped, *volatile.moves, *moves),
        breakpoints=marked.rows,
        options={**keyed, **marked.options},
        findings=(
            *about_model(profile, tokenizer),
            *about_length(total, profile, limits),
            *about_tools(order),
            *about_results(cut.messages, arranged.messages),
            *about_moves(moves, dropped),
            *changing,
            *repairs,
            *marked.findings,
        ),
    )
    sent = replace(placed(tidy, marked.rows), options=with_options(tidy.options, marked.options))
    sighting = None
    if foresight is not None:
        writes = _writes(foresight, prompt, marked, profile)
        seen = foresight.sighting(writes, None if way is None else way.key)
        sighting = replace(seen, texts=volatile.texts, places=told)
    news = left if snapshot is None else snapshot.noticed.unknown(left, told)
    return Decision(plan=made, request=with_note(sent, note), news=news, sighting=sighting)


def _tool_order(request: Request, snapshot: Snapshot | None) -> tuple[int, ...]:
    if snapshot is None or not request.tools:
        return tool_order(request.tools)
    return tool_order(request.tools, snapshot.tools, agent_of(request))


def _route(
    request: Request, prompt: Sequence[Segment], profile: CacheProfile, namespace: str, snapshot: Snapshot | None
) -> Route | None:
    if snapshot is None:
        return route(request, prompt, profile, namespace=namespace)
    return route(request, prompt, profile, namespace=namespace, routes=snapshot.routes, now=snapshot.now)


class _Marked(Struct, frozen=True, kw_only=True):
    """Where markers stand, and the fields that go with them; ``tail`` is a block that the provider marks by itself."""

    rows: tuple[Breakpoint, ...]
    options: JsonObject
    findings: tuple[Finding, ...]
    tail: Address | None = None


def _marked(
    request: Request,
    prompt: Sequence[Segment],
    counts: Sequence[int],
    profile: CacheProfile,
    *,
    foresight: Foresight | None,
    enough: int,
    known: KnownPrompt,
) -> _Marked:
    ends = tuple(accumulate(counts))
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
    return _Marked(rows=rows, options=options, findings=(*surplus, *lifetimes, *refused), tail=tail)


def _wanted(foresight: Foresight, prompt: Sequence[Segment]) -> dict[Address, Reason]:
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


def _writes(
    foresight: Foresight, prompt: Sequence[Segment], marked: _Marked, profile: CacheProfile
) -> dict[int, float]:
    """Return for how many seconds each block is written that ends an entry."""
    asked = {row.at: row.ttl for row in marked.rows if row.prefix_tokens >= profile.minimum_tokens}
    asked |= {} if marked.tail is None else {marked.tail: None}
    writes: dict[int, float] = {}
    for number, segment in zip(foresight.order, prompt, strict=True):
        if segment.at in asked:
            lifetime = profile.lifetime(asked[segment.at]) or profile.lifetime(None)
            writes[number] = float(lifetime.seconds) if lifetime else 0.0
    return writes


def apply(request: Request, plan: PromptPlan) -> Request:
    """Return ``request`` as ``plan`` wants it, sharing all that does not change; ``request`` itself stays as it is.

    ``plan`` must have been made for this request.
    """
    cut, note = without_values(without_copies(request, plan.moves), plan.moves)
    tidy, _ = repaired(_arranged(cut, plan.tool_order, plan.level))
    tidy, note = rearranged(tidy, plan.moves, note)
    sent = replace(placed(tidy, plan.breakpoints), options=with_options(tidy.options, plan.options))
    return with_note(sent, note)


def _arranged(request: Request, order: Sequence[int], level: Level) -> Request:
    """Return ``request`` with its tools in ``order`` and their schemas in canonical form, beyond level ``mark``.

    So are the results of parallel calls, in the order of the calls. Markers stay where they are in the list: one at the
    end of the tools means all of them, whichever is last.
    """
    if level == "mark":
        return request
    request = replace(request, messages=results_in_call_order(request.messages))
    if not request.tools:
        return request
    tools = [canonical_tool(request.tools[index], request.dialect) for index in order]
    if any(index != place for place, index in enumerate(order)):
        tools = _with_markers_of(tools, request.tools)
    return replace(request, tools=tuple(tools))


def _with_markers_of(tools: Sequence[Tool], before: Sequence[Tool]) -> list[Tool]:
    result = [replace(tool, marker=None) if tool.markable else tool for tool in tools]
    for place, old in enumerate(before):
        if old.marker is None or not old.markable:
            continue
        free = (index for index in range(place, -1, -1) if result[index].markable and result[index].marker is None)
        index = next(free, None)
        if index is not None:
            result[index] = replace(result[index], marker=old.marker)
    return result
