"""A request as it is to be planned: with nothing in it that its provider refuses, tools and results in their order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from operator import ne

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Finding, Level, Move, Request, Tool
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.copies import copies, without_copies
from prefixcache_integrations.prompt.findings import about_results
from prefixcache_integrations.prompt.foreign import foreign_markers, without_markers
from prefixcache_integrations.prompt.markers import repaired
from prefixcache_integrations.prompt.reading import NOTHING_READ, Begun, Reading, read
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.tail_note import Note, without_values
from prefixcache_integrations.prompt.terms import Terms
from prefixcache_integrations.prompt.tools import agent_of, canonical_tools, tool_order
from prefixcache_integrations.prompt.volatile import Volatile, find_volatile


class Tidy(Struct, frozen=True, kw_only=True):
    """A request as it is to be planned, its prompt, and what was done for that.

    ``foreign`` is the field of another provider's markers, which were taken out, ``dropped`` are the documents left
    out as copies, ``volatile`` is what changes from call to call and where that goes, ``order`` that of its tools.
    ``results`` and ``repairs`` are findings, about results of tools and about markers. ``note`` will stand behind it.
    """

    request: Request
    reading: Reading
    note: Note | None
    order: tuple[int, ...]
    foreign: str
    dropped: tuple[Move, ...]
    volatile: Volatile
    results: tuple[Finding, ...]
    repairs: tuple[Finding, ...]


def tidied(request: Request, terms: Terms, snapshot: Snapshot | None) -> Tidy:
    """Return ``request`` as it is to be planned.

    The messages that have begun it before need nothing of that.
    """
    profile, level = terms.profile, terms.level
    readings = NOTHING_READ if snapshot is None else snapshot.readings
    begun = readings.begun(request, profile, terms.tokenizer, ordered=level != "mark")
    foreign = foreign_markers(request, profile, begun.count)
    bare = without_markers(request, foreign)
    dropped = tuple(copies(bare)) if level == "arrange" and terms.documents.drop_copies else ()
    bare = without_copies(bare, dropped)
    volatile = find_volatile(bare, profile, snapshot, level, terms.known)
    cut, note = without_values(bare, volatile.moves)
    order = tuple(range(len(request.tools))) if level == "mark" else _tool_order(cut, snapshot)
    tidy, reading, results, repairs = _repaired(cut, order, terms, begun)
    return Tidy(
        request=tidy,
        reading=reading,
        note=note,
        order=order,
        foreign=foreign,
        dropped=dropped,
        volatile=volatile,
        results=results,
        repairs=repairs,
    )


def _repaired(
    request: Request, order: Sequence[int], terms: Terms, begun: Begun
) -> tuple[Request, Reading, tuple[Finding, ...], tuple[Finding, ...]]:
    """Return ``request`` arranged and repaired, its prompt, and what was done to results and markers."""
    profile, tokenizer, ordered = terms.profile, terms.tokenizer, terms.level != "mark"
    if request.messages is not begun.messages:
        begun = begun.readings.begun(request, profile, tokenizer, ordered=ordered)
    in_order = arranged(request, order, terms.level, begun)
    tidy, repairs = repaired(in_order, begun.count)
    if tidy.messages != request.messages:
        begun = replace(begun.readings.begun(tidy, profile, tokenizer, ordered=ordered), tools=begun.tools)
    results = tuple(about_results(request.messages, in_order.messages))
    return tidy, read(tidy, profile, tokenizer, begun, order), results, repairs


def _tool_order(request: Request, snapshot: Snapshot | None) -> tuple[int, ...]:
    if snapshot is None or not request.tools:
        return tool_order(request.tools)
    return tool_order(request.tools, snapshot.tools, agent_of(request))


def arranged(request: Request, order: Sequence[int], level: Level, begun: Begun) -> Request:
    """Return ``request`` with its tools in ``order`` and their schemas in canonical form, beyond level ``mark``.

    So are the results of parallel calls, in the order of the calls. Markers stay where they are in the list: one at the
    end of the tools means all of them, whichever is last. The messages that have ``begun`` it are in order.
    """
    if level == "mark":
        return request
    tools, messages = request.tools, results_in_call_order(request.messages, begun.count)
    canonical = canonical_tools(tools, request.dialect, begun.tools)
    if any(map(ne, order, count())):
        canonical = _with_markers_of([canonical[index] for index in order], tools)
    if canonical is tools and messages is request.messages:
        return request
    return replace(request, tools=tuple(canonical), messages=messages)


def _with_markers_of(tools: Sequence[Tool], before: Sequence[Tool]) -> list[Tool]:
    result = [replace(tool, marker=None) if tool.markable and tool.marker is not None else tool for tool in tools]
    for place, old in enumerate(before):
        if old.marker is None or not old.markable:
            continue
        free = (index for index in range(place, -1, -1) if result[index].markable and result[index].marker is None)
        index = next(free, None)
        if index is not None:
            result[index] = replace(result[index], marker=old.marker)
    return result
