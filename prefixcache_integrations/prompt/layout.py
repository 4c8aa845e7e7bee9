"""The plan of one request: what to change so that the provider's cache finds as much of it as it can, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Finding, JsonObject, Level, Move, PromptPlan, Request, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.cache_key import CACHE_KEY, Route, route
from prefixcache_integrations.prompt.cache_options import with_options
from prefixcache_integrations.prompt.copies import without_copies
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules
from prefixcache_integrations.prompt.findings import about_length, about_model, about_moves, about_tools, bounds
from prefixcache_integrations.prompt.foreign import about_foreign, without_markers
from prefixcache_integrations.prompt.foresight import Foresight, foresee
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt
from prefixcache_integrations.prompt.markers import placed, repaired
from prefixcache_integrations.prompt.marking import Marked, marked, writes
from prefixcache_integrations.prompt.moves import may_move, moves_for, rearranged, with_ranking
from prefixcache_integrations.prompt.noticed import places_of
from prefixcache_integrations.prompt.reading import NOTHING_READ, Begun, Reading, in_order, with_settings
from prefixcache_integrations.prompt.stability import Sighting, Snapshot
from prefixcache_integrations.prompt.tail_note import Note, note_tokens, with_note, without_values
from prefixcache_integrations.prompt.terms import Terms
from prefixcache_integrations.prompt.tidying import Tidy, arranged, tidied
from prefixcache_integrations.prompt.volatile import about_volatile


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
    terms = Terms(
        profile=profile,
        tokenizer=tokenizer,
        level=level,
        namespace=namespace,
        known=known,
        documents=documents,
        limits=bounds(profile, tokenizer),
    )
    tidy = tidied(request, terms, snapshot)
    changing = _changing(tidy, terms)
    routed, way = _routed(tidy, terms, snapshot)
    draft, foresight, moves = routed, None, tuple[Move, ...]()
    if snapshot is not None and profile.regime != "none":
        moving = level == "arrange" and may_move(routed.request, profile, routed.note, documents)
        foresight = foresee(routed.request, routed.reading, terms, snapshot, moving=moving)
        draft, moves = _in_order(routed, foresight, terms)
    enough = terms.limits.enough
    heads = tidy.volatile.heads
    marks = marked(draft.request, draft.reading, profile, foresight=foresight, enough=enough, known=known, heads=heads)
    made = _plan(tidy, draft, terms, moves=moves, marks=marks, way=way, changing=changing)
    left = tuple(each for each in changing if each.code == "volatile_text")
    told = () if snapshot is None else tuple(places_of(left, tidy.request, tidy.volatile.names))
    news = left if snapshot is None else snapshot.noticed.unknown(left, told)
    laid_out = _sent(draft.request, made, draft.note, _marked_messages(draft.reading))
    if foresight is None:
        return Decision(plan=made, request=laid_out, news=news)
    seen = foresight.sighting(writes(foresight, draft.reading, marks, profile), way)
    seen = replace(seen, texts=tidy.volatile.texts, places=told, reading=routed.reading)
    return Decision(plan=made, request=laid_out, news=news, sighting=seen)


class _Draft(Struct, frozen=True):
    """A request in the making: its prompt as it was read, and the note that will stand behind it."""

    request: Request
    reading: Reading
    note: Note | None

    def tokens(self, tokenizer: Tokenizer) -> int:
        """Return the length of all of it."""
        return self.reading.tokens + note_tokens(self.note, self.request, tokenizer)


def _changing(tidy: Tidy, terms: Terms) -> tuple[Finding, ...]:
    """Return what is to be said about values that change, in a prompt long enough for a cache."""
    total = tidy.reading.tokens + note_tokens(tidy.note, tidy.request, terms.tokenizer)
    if total < terms.limits.enough:
        return ()
    return tuple(about_volatile(tidy.request, tidy.volatile, tidy.reading, terms.profile))


def _routed(tidy: Tidy, terms: Terms, snapshot: Snapshot | None) -> tuple[_Draft, Route | None]:
    """Return the tidy request with the key by which its provider routes it, if there is one."""
    request, reading, profile = tidy.request, tidy.reading, terms.profile
    way = None
    if reading.tokens >= terms.limits.enough:
        way = _route(request, reading, profile, terms.namespace, snapshot)
    if way is not None:
        request = replace(request, options=with_options(request.options, _keyed(way)))
        reading = with_settings(reading, request, profile)
    return _Draft(request, reading, tidy.note), way


def _keyed(way: Route | None) -> JsonObject:
    return {} if way is None else {CACHE_KEY: way.sent}


def _in_order(draft: _Draft, foresight: Foresight, terms: Terms) -> tuple[_Draft, tuple[Move, ...]]:
    """Return ``draft`` with its documents in the order foreseen, and the moves that this takes."""
    moves = moves_for(draft.reading.pieces, foresight.order, foresight.movable)
    if not moves:
        return draft, ()
    moves = with_ranking(draft.request, moves, terms.profile, terms.documents)
    request, note = rearranged(draft.request, moves, draft.note)
    return _Draft(request, in_order(draft.reading, request, foresight.order), note), moves


def _plan(
    tidy: Tidy,
    draft: _Draft,
    terms: Terms,
    *,
    moves: tuple[Move, ...],
    marks: Marked,
    way: Route | None,
    changing: Sequence[Finding],
) -> PromptPlan:
    total = draft.tokens(terms.tokenizer)
    return PromptPlan(
        level=terms.level,
        profile=terms.profile.name,
        prompt_tokens=total,
        exact=terms.tokenizer.exact,
        tool_order=tidy.order,
        moves=(*tidy.dropped, *tidy.volatile.moves, *moves),
        breakpoints=marks.rows,
        foreign=tidy.foreign,
        options={**_keyed(way), **marks.options},
        findings=(
            *about_model(terms.profile, terms.tokenizer),
            *about_length(total, terms.profile, terms.limits),
            *about_tools(tidy.order),
            *tidy.results,
            *about_moves(moves, tidy.dropped),
            *changing,
            *about_foreign(tidy.foreign),
            *tidy.repairs,
            *marks.findings,
        ),
    )


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
    tidy, _ = repaired(arranged(cut, plan.tool_order, plan.level, Begun(NOTHING_READ, cut.messages)))
    tidy, note = rearranged(tidy, plan.moves, note)
    return _sent(tidy, plan, note)


def _marked_messages(reading: Reading) -> set[int]:
    places = (reading.pieces[number].at for number in reading.blocks.marked)
    return {at.index for at in places if at is not None and at.section == "messages"}


def _sent(request: Request, plan: PromptPlan, note: Note | None, marked: Collection[int] | None = None) -> Request:
    """Return ``request``, in which everything has its place, with markers, options and ``note``.

    ``marked`` are the messages that have markers now, if that is known.
    """
    options = with_options(request.options, plan.options)
    return with_note(replace(placed(request, plan.breakpoints, marked), options=options), note)
