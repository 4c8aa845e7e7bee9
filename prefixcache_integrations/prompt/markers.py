"""Cache markers on a request: put where a provider takes them, and set to what a plan says. Content stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from prefixcache_integrations.canonical import (
    Address,
    Breakpoint,
    CacheMarker,
    Finding,
    Message,
    Part,
    Request,
    Section,
    Tool,
)

_Marked = TypeVar("_Marked", Tool, Part)


def repaired(request: Request, since: int = 0) -> tuple[Request, tuple[Finding, ...]]:
    """Return ``request`` with no marker on a block that cannot carry one, and what was done.

    A marker on the last of the nested blocks of a tool result or document goes to the block around it, where the
    provider would put it (Claude release notes); other nested markers, and those on thinking, empty text and
    deferred tools, are refused by the provider and removed. Messages before number ``since`` have none of these.
    """
    findings: list[Finding] = []
    tools = [
        tool if tool.marker is None else _repaired_tool(tool, index, findings)
        for index, tool in enumerate(request.tools)
    ]
    system = tuple(
        _repaired_part(part, Address("system", index), findings) for index, part in enumerate(request.system)
    )
    added = enumerate(request.messages[since:], start=since)
    messages = [_repaired_message(message, index, findings) for index, message in added]
    if not findings:
        return request, ()
    whole = (*request.messages[:since], *messages)
    return replace(request, tools=tuple(tools), system=system, messages=whole), tuple(findings)


def _repaired_message(message: Message, index: int, findings: list[Finding]) -> Message:
    if not any(part.marker is not None or part.content for part in message.parts):
        return message
    before = len(findings)
    parts = tuple(
        _repaired_part(part, Address("messages", index, number), findings) for number, part in enumerate(message.parts)
    )
    return message if len(findings) == before else replace(message, parts=parts)


def _repaired_tool(tool: Tool, index: int, findings: list[Finding]) -> Tool:
    if tool.markable:
        return tool
    findings.append(_removed(Address("tools", index), "the provider takes no marker on this tool"))
    return replace(tool, marker=None)


def _repaired_part(part: Part, at: Address, findings: list[Finding]) -> Part:
    own, nested = part.marker, tuple(_nested_markers(part.content, last=True))
    if (own is None or part.markable) and not nested:
        return part
    marker = own if part.markable else None
    if own is not marker:
        findings.append(_removed(at, "the provider takes no marker on this block"))
    for found, is_last in nested:
        if is_last and part.markable and marker is None:
            marker = found
            findings.append(Finding(code="marker_moved", message="a marker was moved from a nested block", at=at))
        else:
            findings.append(_removed(at, "the provider takes no marker on this nested block"))
    return replace(part, marker=marker, content=tuple(map(_bare, part.content)))


def _nested_markers(parts: Sequence[Part], *, last: bool) -> Iterator[tuple[CacheMarker, bool]]:
    """Yield every marker in ``parts``, and whether it stands at the very end of the block around them."""
    for number, part in enumerate(parts):
        at_end = last and number == len(parts) - 1
        yield from _nested_markers(part.content, last=at_end)
        if part.marker is not None:
            yield part.marker, at_end


def _bare(part: Part) -> Part:
    return replace(part, marker=None, content=tuple(map(_bare, part.content)))


def _removed(at: Address, reason: str) -> Finding:
    return Finding(code="marker_removed", message=f"a marker was removed: {reason}", at=at)


def placed(request: Request, breakpoints: Sequence[Breakpoint], marked: Collection[int] | None = None) -> Request:
    """Return ``request`` with markers at ``breakpoints`` and nowhere else.

    A marker that already stands there is kept, its other fields included; so is a top-level one that finds no block
    to stand on, which providers pass over. Blocks that do not change are shared. ``marked`` are the messages that have
    markers now, if that is known.
    """
    wanted = {row.at: row for row in breakpoints if not row.automatic}
    automatic = next((row for row in breakpoints if row.automatic), None)
    return replace(
        request,
        tools=_all_placed("tools", request.tools, wanted),
        system=_all_placed("system", request.system, wanted),
        messages=_placed_messages(request.messages, wanted, marked),
        marker=_marker(request.marker, automatic) if automatic else request.marker,
    )


def _all_placed(
    section: Section, blocks: tuple[_Marked, ...], wanted: Mapping[Address, Breakpoint]
) -> tuple[_Marked, ...]:
    changing = {at.index for at in wanted if at.section == section}
    changing.update(index for index, block in enumerate(blocks) if block.marker is not None)
    result = list(blocks)
    for index in changing:
        result[index] = _placed(blocks[index], wanted.get(Address(section, index)))
    return tuple(result)


def _placed_messages(
    messages: tuple[Message, ...], wanted: Mapping[Address, Breakpoint], marked: Collection[int] | None
) -> tuple[Message, ...]:
    result = list(messages)
    changing = {at.index for at in wanted if at.section == "messages"}.union(
        range(len(messages)) if marked is None else marked
    )
    for index in changing:
        result[index] = _placed_message(messages[index], index, wanted)
    return tuple(result)


def _placed_message(message: Message, index: int, wanted: Mapping[Address, Breakpoint]) -> Message:
    parts = tuple(
        _placed(part, wanted.get(Address("messages", index, number))) for number, part in enumerate(message.parts)
    )
    unchanged = all(old is new for old, new in zip(message.parts, parts, strict=True))
    return message if unchanged else replace(message, parts=parts)


def _placed(block: _Marked, wanted: Breakpoint | None) -> _Marked:
    marker = _marker(block.marker, wanted)
    return block if marker is block.marker else replace(block, marker=marker)


def _marker(found: CacheMarker | None, wanted: Breakpoint | None) -> CacheMarker | None:
    if wanted is None:
        return None
    if found is None:
        return CacheMarker(ttl=wanted.ttl)
    return found if found.ttl == wanted.ttl else replace(found, ttl=wanted.ttl)
