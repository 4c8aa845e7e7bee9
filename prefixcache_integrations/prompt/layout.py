"""The plan of one request: what to change so that the provider's cache finds as much of it as it can, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import (
    Finding,
    JsonObject,
    Level,
    Move,
    PromptPlan,
    Request,
    Tokenizer,
    Tool,
)
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.cache_key import CACHE_KEY, Route, route
from prefixcache_integrations.prompt.cache_options import with_options
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
from prefixcache_integrations.prompt.foreign import about_foreign, foreign_markers, without_markers
from prefixcache_integrations.prompt.foresight import Foresight, foresee
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt
from prefixcache_integrations.prompt.markers import placed, repaired
from prefixcache_integrations.prompt.marking import marked, writes
from prefixcache_integrations.prompt.moves import may_move, moves_for, rearranged, with_ranking
from prefixcache_integrations.prompt.noticed import places_of
from prefixcache_integrations.prompt.reading import NOTHING_READ, Begun, Reading, read, with_settings
from prefixcache_integrations.prompt.stability import Sighting, Snapshot
from prefixcache_integrations.prompt.tail_note import Note, note_tokens, with_note, without_values
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
    readings = NOTHING_READ if snapshot is None else snapshot.readings
    begun = readings.begun(request, profile, tokenizer, ordered=level != "mark")
    foreign = foreign_markers(request, profile, begun.count)
    request = without_markers(request, foreign)
    dropped = tuple(copies(request)) if level == "arrange" and documents.drop_copies else ()
    request = without_copies(request, dropped)
    volatile = find_volatile(request, profile, snapshot, level, known)
    cut, note = without_values(request, volatile.moves)
    order = tuple(range(len(request.tools))) if level == "mark" else _tool_order(cut, snapshot)
    limits = bounds(profile, tokenizer)
    tidy, reading, results, repairs = _tidied(cut, order, profile, tokenizer, level=level, begun=begun)
    draft = _Draft(tidy, reading, note)
    enough = draft.tokens(tokenizer) >= limits.enough
    changing = tuple(about_volatile(tidy, volatile, reading, profile)) if enough else ()
    left = tuple(each for each in changing if each.code == "volatile_text")
    told = () if snapshot is None else tuple(places_of(left, tidy, volatile.names))
    way = _route(tidy, reading, profile, namespace, snapshot) if reading.tokens >= limits.enough else None
    keyed: JsonObject = {} if way is None else {CACHE_KEY: way.sent}
    if keyed:
        draft = _with_options(draft, keyed, profile)
        reading = draft.reading
    foresight, moves = None, tuple[Move, ...]()
    if snapshot is not None and profile.regime != "none":
        foresight = _foreseen(
            draft, profile, snapshot, level=level, enough=limits.enough, known=known, documents=documents
        )
        draft, moves = _in_order(draft, foresight, profile, tokenizer, documents)
    marks = marked(draft.request, draft.reading, profile, foresight=foresight, enough=limits.enough, known=known)
    made = PromptPlan(
        level=level,
        profile=profile.name,
        prompt_tokens=draft.tokens(tokenizer),
        exact=tokenizer.exact,
        tool_order=order,
        moves=(*dropped, *volatile.moves, *moves),
        breakpoints=marks.rows,
        foreign=foreign,
        options={**keyed, **marks.options},
        findings=(
            *about_model(profile, tokenizer),
            *about_length(draft.tokens(tokenizer), profile, limits),
            *about_tools(order),
            *results,
            *about_moves(moves, dropped),
            *changing,
            *about_foreign(foreign),
            *repairs,
            *marks.findings,
        ),
    )
    news = left if snapshot is None else snapshot.noticed.unknown(left, told)
    request = _sent(draft.request, made, draft.note, _marked_messages(draft.reading))
    if foresight is None:
        return Decision(plan=made, request=request, news=news)
    seen = foresight.sighting(writes(foresight, draft.reading, marks, profile), way)
    seen = replace(seen, texts=volatile.texts, places=told, reading=reading)
    return Decision(plan=made, request=request, news=news, sighting=seen)


def _tidied(
    request: Request,
    order: Sequence[int],
    profile: CacheProfile,
    tokenizer: Tokenizer,
    *,
    level: Level,
    begun: Begun,
) -> tuple[Request, Reading, tuple[Finding, ...], tuple[Finding, ...]]:
    """Return ``request`` arranged and repaired, its prompt, and what was done to results and markers.

    The messages that have ``begun`` it before need none of that.
    """
    ordered = level != "mark"
    if request.messages is not begun.messages:
        begun = begun.readings.begun(request, profile, tokenizer, ordered=ordered)
    arranged = _arranged(request, order, level, begun.count)
    tidy, repairs = repaired(arranged, begun.count)
    if tidy.messages != request.messages:
        begun = begun.readings.begun(tidy, profile, tokenizer, ordered=ordered)
    results = tuple(about_results(request.messages, arranged.messages))
    return tidy, read(tidy, profile, tokenizer, begun), results, repairs


class _Draft(Struct, frozen=True):
    """A request in the making: its prompt as it was read, and the note that will stand behind it."""

    request: Request
    reading: Reading
    note: Note | None

    def tokens(self, tokenizer: Tokenizer) -> int:
        """Return the length of all of it."""
        return self.reading.tokens + note_tokens(self.note, self.request, tokenizer)


def _with_options(draft: _Draft, options: JsonObject, profile: CacheProfile) -> _Draft:
    request = replace(draft.request, options=with_options(draft.request.options, options))
    return replace(draft, request=request, reading=with_settings(draft.reading, request, profile))


def _foreseen(
    draft: _Draft,
    profile: CacheProfile,
    snapshot: Snapshot,
    *,
    level: Level,
    enough: int,
    known: KnownPrompt,
    documents: DocumentRules,
) -> Foresight:
    return foresee(
        draft.request,
        draft.reading,
        profile,
        snapshot,
        level=level,
        enough=enough,
        rules=documents,
        moving=level == "arrange" and may_move(draft.request, profile, draft.note, documents),
        known=known,
    )


def _in_order(
    draft: _Draft, foresight: Foresight, profile: CacheProfile, tokenizer: Tokenizer, documents: DocumentRules
) -> tuple[_Draft, tuple[Move, ...]]:
    """Return ``draft`` with its documents in the order foreseen, and the moves that this takes."""
    moves = moves_for(draft.reading.pieces, foresight.order, foresight.movable)
    if not moves:
        return draft, ()
    moves = with_ranking(draft.request, moves, profile, documents)
    request, note = rearranged(draft.request, moves, draft.note)
    return _Draft(request, read(request, profile, tokenizer, Begun(NOTHING_READ, request.messages)), note), moves


def _tool_order(request: Request, snapshot: Snapshot | None) -> tuple[int, ...]:
    if snapshot is None or not request.tools:
        return tool_order(request.tools)
    return tool_order(request.tools, snapshot.tools, agent_of(request))


def _route(
    request: Request, reading: Reading, profile: CacheProfile, namespace: str, snapshot: Snapshot | None
) -> Route | None:
    if snapshot is None:
        return route(request, reading.leading.opening, profile, namespace=namespace)
    return route(
        request, reading.leading.opening, profile, namespace=namespace, routes=snapshot.routes, now=snapshot.now
    )


def apply(request: Request, plan: PromptPlan) -> Request:
    """Return ``request`` as ``plan`` wants it, sharing all that does not change; ``request`` itself stays as it is.

    ``plan`` must have been made for this request.
    """
    bare = without_copies(without_markers(request, plan.foreign), plan.moves)
    cut, note = without_values(bare, plan.moves)
    tidy, _ = repaired(_arranged(cut, plan.tool_order, plan.level))
    tidy, note = rearranged(tidy, plan.moves, note)
    return _sent(tidy, plan, note)


def _marked_messages(reading: Reading) -> set[int]:
    places = (reading.pieces[number].at for number in reading.marked)
    return {at.index for at in places if at is not None and at.section == "messages"}


def _sent(request: Request, plan: PromptPlan, note: Note | None, marked: Collection[int] | None = None) -> Request:
    """Return ``request``, in which everything has its place, with markers, options and ``note``.

    ``marked`` are the messages that have markers now, if that is known.
    """
    options = with_options(request.options, plan.options)
    return with_note(replace(placed(request, plan.breakpoints, marked), options=options), note)


def _arranged(request: Request, order: Sequence[int], level: Level, since: int = 0) -> Request:
    """Return ``request`` with its tools in ``order`` and their schemas in canonical form, beyond level ``mark``.

    So are the results of parallel calls, in the order of the calls. Markers stay where they are in the list: one at the
    end of the tools means all of them, whichever is last. Messages before number ``since`` are in order.
    """
    if level == "mark":
        return request
    request = replace(request, messages=results_in_call_order(request.messages, since))
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
