"""Parallel tool calls: their results in the order of the calls, and calls in an order of their own, for keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from operator import is_not
from typing import Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Part

_Ranks: TypeAlias = dict[str | None, int]
_Form: TypeAlias = Callable[[Part], bytes]
_T = TypeVar("_T", Message, Part)


def results_in_call_order(messages: tuple[Message, ...], since: int = 0) -> tuple[Message, ...]:
    """Return ``messages`` with every run of results in the order of the calls that were made just before.

    Applications add them as tools finish. Results without such a call come last; within a message markers stay where
    they are. Nothing else moves, and what does not change is shared. Before number ``since`` all is in order.
    """
    start = _latest_calls(messages, since)
    added = messages[start:]
    if not _has_runs(added):
        return messages
    ranks: _Ranks = {}
    ordered: list[Message] = []
    for is_result, run in groupby(added, lambda message: message.role == "tool" and bool(message.parts)):
        if is_result:
            ordered += _by_rank([*run], ranks, lambda message: message.parts[0])
            continue
        for message in run:
            if message.role == "assistant":
                ranks = _ranks(ordered, ranks, message)
            ordered.append(_with_sorted_results(message, ranks))
    unchanged = not any(map(is_not, added, ordered))
    return messages if unchanged else (*messages[:start], *ordered)


def _has_runs(messages: Sequence[Message]) -> bool:
    """Tell whether results may be next to each other, in a message or in several."""
    spoken = (message for message in messages if message.role != "assistant")
    return any(len(message.parts) > 1 for message in spoken) or any(
        one.role == other.role == "tool" for one, other in pairwise(messages)
    )


def _latest_calls(messages: Sequence[Message], before: int) -> int:
    """Return where the assistant last began to speak before number ``before``: results go by its calls."""
    while before and messages[before - 1].role != "assistant":
        before -= 1
    while before and messages[before - 1].role == "assistant":
        before -= 1
    return before


def _ranks(before: Sequence[Message], ranks: _Ranks, message: Message) -> _Ranks:
    """Return the places of the latest calls; some formats have a message for each."""
    known = ranks if before and before[-1].role == "assistant" else {}
    calls = (part.call_id for part in message.parts if part.kind == "tool_call")
    return known | {call: len(known) + place for place, call in enumerate(calls)}


def _with_sorted_results(message: Message, ranks: _Ranks) -> Message:
    if len(message.parts) == 1 or message.role == "assistant":
        return message
    parts: list[Part] = []
    for kind, run in groupby(message.parts, lambda part: part.kind):
        given = [*run]
        parts += _marked_as(given, _by_rank(given, ranks, lambda part: part)) if kind == "tool_result" else given
    unchanged = all(old is new for old, new in zip(message.parts, parts, strict=True))
    return message if unchanged else replace(message, parts=tuple(parts))


def _by_rank(run: list[_T], ranks: _Ranks, result: Callable[[_T], Part]) -> list[_T]:
    return sorted(run, key=lambda item: _rank(result(item), ranks)) if len(run) > 1 and ranks else run


def _marked_as(before: Sequence[Part], after: Sequence[Part]) -> list[Part]:
    pairs = zip(before, after, strict=True)
    return [part if part.marker is old.marker else replace(part, marker=old.marker) for old, part in pairs]


def in_call_order(messages: Sequence[Message], form: _Form) -> list[Message]:
    """Return ``messages`` with every run of calls sorted by ``form``, and every run of results by their calls.

    A run is within one message, or of messages that are one call or one result each. Nothing else moves.
    """
    ranks: _Ranks = {}
    ordered: list[Message] = []
    for moved, run in groupby(messages, _moved):
        if moved == "tool_call":
            ordered += _by_call(list(run), lambda message: message.parts[0], form, ranks)
        elif moved == "tool_result":
            ordered += sorted(run, key=lambda message: _rank(message.parts[0], ranks))
        else:
            ordered += (replace(message, parts=tuple(_sorted_parts(message.parts, form, ranks))) for message in run)
    return ordered


def _moved(message: Message) -> Literal["tool_call", "tool_result"] | None:
    if message.role == "tool" and message.parts:
        return "tool_result"
    return "tool_call" if [part.kind for part in message.parts] == ["tool_call"] else None


def _sorted_parts(parts: Sequence[Part], form: _Form, ranks: _Ranks) -> list[Part]:
    ordered: list[Part] = []
    for kind, run in groupby(parts, lambda part: part.kind):
        if kind == "tool_call":
            ordered += _by_call(list(run), lambda part: part, form, ranks)
        elif kind == "tool_result":
            ordered += sorted(run, key=lambda part: _rank(part, ranks))
        else:
            ordered += run
    return ordered


def _rank(result: Part, ranks: _Ranks) -> int:
    return ranks.get(result.call_id, len(ranks))


def _by_call(run: list[_T], call: Callable[[_T], Part], form: _Form, ranks: _Ranks) -> list[_T]:
    """Sort calls; what is said of one call in several places (a block, and LangChain's list) goes together."""
    said: defaultdict[str | None, list[bytes]] = defaultdict(list)
    for item in run:
        said[call(item).call_id].append(form(call(item)))
    ordered = sorted(run, key=lambda item: (sorted(said[call(item).call_id]), form(call(item))))
    for item in ordered:
        ranks.setdefault(call(item).call_id, len(ranks))
    return ordered
