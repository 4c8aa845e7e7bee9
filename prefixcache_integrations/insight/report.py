"""What a recording shows: conversations as rows of bars, sums, and how they went over time. Rendering is elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.events import BreakReason
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.prompt_runs import Group
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.insight.report_changes import Change, changes_of

State: TypeAlias = Literal["read", "written", "uncached", "unknown"]
"""What became of a part of the prompt; ``unknown`` where the provider did not say."""

SLICES = 48
"""Into how many slices of time a recording is cut."""

_CACHES = ("response_cache", "other_cache")


class Piece(Struct, frozen=True, kw_only=True):
    """A part of a bar; ``group`` is ``None`` where nothing is known of what the prompt was made of."""

    group: Group | None
    state: State
    tokens: float


class Row(Struct, frozen=True, kw_only=True):
    """One call as a bar. ``tokens`` is its length, ``marks`` are the places of breakpoints in it, in tokens."""

    number: int
    call: RecordedCall
    tokens: int
    pieces: tuple[Piece, ...]
    marks: tuple[float, ...]


class Talk(Struct, frozen=True, kw_only=True):
    """One conversation; ``longest`` is the length of its longest prompt in tokens."""

    name: str
    rows: tuple[Row, ...]
    totals: Totals
    longest: int


class Slice(Struct, frozen=True, kw_only=True):
    """What was recorded from ``start`` on, in seconds since the epoch."""

    start: float
    totals: Totals


class Loss(Struct, frozen=True, kw_only=True):
    """All breaks for one reason. ``cost`` is of those whose price is known."""

    reason: BreakReason
    remedy: str | None
    count: int
    tokens: int
    cost: Decimal


class Report(Struct, frozen=True, kw_only=True):
    """A whole recording. ``abandoned`` calls are among the calls: answered, with nothing known of the bill.

    ``slices`` are of ``slice_seconds`` each, those in which nothing happened left out; ``models`` by cost.
    """

    talks: tuple[Talk, ...]
    totals: Totals
    abandoned: int
    models: tuple[tuple[str, Totals], ...]
    slices: tuple[Slice, ...]
    slice_seconds: float
    losses: tuple[Loss, ...]
    changes: tuple[Change, ...]


def report(calls: Iterable[RecordedCall]) -> Report:
    """Sort ``calls`` into conversations, in the order in which they began, and add them up."""
    ordered = sorted(calls, key=lambda call: call.at)
    talks: defaultdict[str, list[RecordedCall]] = defaultdict(list)
    models: defaultdict[str, Totals] = defaultdict(Totals)
    for call in ordered:
        talks[call.conversation].append(call)
        models[call.model or "unknown"] += totals_of(call)
    seconds = max((ordered[-1].at - ordered[0].at) / SLICES, 1e-3) if ordered else 1.0
    return Report(
        talks=tuple(_talk(name, rows) for name, rows in talks.items()),
        totals=sum(map(totals_of, ordered), Totals()),
        abandoned=sum(call.outcome == "abandoned" for call in ordered),
        models=tuple(sorted(models.items(), key=lambda pair: pair[1].cost, reverse=True)),
        slices=tuple(_slices(ordered, seconds)),
        slice_seconds=seconds,
        losses=tuple(_losses(ordered)),
        changes=changes_of(ordered),
    )


def totals_of(call: RecordedCall) -> Totals:
    """Return what one recorded call adds to the totals."""
    if call.outcome == "failed":
        return Totals(failed=1)
    if call.outcome in _CACHES:
        return Totals.of_hit()
    totals = Totals.of_call(call.usage, call.cost, call.uncached_cost)
    lost = call.broken
    if lost is None:
        return totals
    return totals + Totals(breaks=1, lost_tokens=lost.lost_tokens, lost_cost=lost.lost_cost or Decimal(0))


def _talk(name: str, calls: Sequence[RecordedCall]) -> Talk:
    rows = tuple(_row(number, call) for number, call in enumerate(calls, start=1))
    return Talk(
        name=name,
        rows=rows,
        totals=sum(map(totals_of, calls), Totals()),
        longest=max(row.tokens for row in rows),
    )


def _row(number: int, call: RecordedCall) -> Row:
    counted = sum(run.tokens for run in call.prompt)
    told = call.usage.input_tokens
    tokens = counted if told is None or call.outcome in _CACHES else told
    scale = tokens / counted if counted else 1.0
    ends = [end * scale for end in accumulate((run.tokens for run in call.prompt), initial=0)]
    parts: list[tuple[Group | None, float, float]] = [
        (run.group, start, end) for run, (start, end) in zip(call.prompt, pairwise(ends), strict=True)
    ]
    return Row(
        number=number,
        call=call,
        tokens=tokens,
        pieces=tuple(_pieces(call, parts or [(None, 0.0, float(tokens))])),
        marks=tuple(end for run, end in zip(call.prompt, ends[1:], strict=True) if run.marker is not None),
    )


def _pieces(call: RecordedCall, parts: Sequence[tuple[Group | None, float, float]]) -> Iterator[Piece]:
    """Cut the parts of a prompt where what was read, and then what was written, ends."""
    states = _states(call)
    for group, start, end in parts:
        for state, since, until in states:
            length = min(end, until) - max(start, since)
            if length > 0:
                yield Piece(group=group, state=state, tokens=length)


def _states(call: RecordedCall) -> list[tuple[State, float, float]]:
    usage, endless = call.usage, float("inf")
    if call.outcome != "provider" or usage.input_tokens is None or usage.cache_read_tokens is None:
        return [("unknown", 0.0, endless)]
    read, written = usage.cache_read_tokens, usage.cache_read_tokens + (usage.cache_write_tokens or 0)
    return [("read", 0.0, read), ("written", read, written), ("uncached", written, endless)]


def _slices(calls: Sequence[RecordedCall], seconds: float) -> Iterator[Slice]:
    sums: defaultdict[int, Totals] = defaultdict(Totals)
    for call in calls:
        sums[min(int((call.at - calls[0].at) / seconds), SLICES - 1)] += totals_of(call)
    for index, totals in sums.items():
        yield Slice(start=calls[0].at + index * seconds, totals=totals)


def _losses(calls: Sequence[RecordedCall]) -> list[Loss]:
    found: defaultdict[BreakReason, list[RecordedCall]] = defaultdict(list)
    for call in calls:
        if call.broken is not None:
            found[call.broken.reason].append(call)
    losses = [_loss(reason, rows) for reason, rows in found.items()]
    return sorted(losses, key=lambda loss: (loss.cost, loss.tokens), reverse=True)


def _loss(reason: BreakReason, calls: Sequence[RecordedCall]) -> Loss:
    breaks = [call.broken for call in calls if call.broken is not None]
    return Loss(
        reason=reason,
        remedy=breaks[0].remedy,
        count=len(breaks),
        tokens=sum(row.lost_tokens for row in breaks),
        cost=sum((row.lost_cost for row in breaks if row.lost_cost is not None), Decimal(0)),
    )
