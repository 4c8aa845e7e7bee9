"""Messages in an order that does not depend on chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock


def in_call_order(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return ``messages`` with the results of parallel tool calls in the order of the calls.

    Agents add results in the order in which the tools finish. Neither the list nor its messages are changed; results
    that answer no call of the message before them stay where they are.
    """
    ordered: list[ChatMessage] = []
    for is_result, run in groupby(messages, lambda message: message.role == MessageRole.TOOL):
        results = list(run)
        ordered += _sorted(results, _calls(ordered[-1])) if is_result and ordered else results
    return ordered


def _sorted(results: list[ChatMessage], calls: dict[str, int]) -> list[ChatMessage]:
    places = [calls.get(_answered(result) or "") for result in results]
    if None in places:
        return results
    return [result for _, result in sorted(zip(places, results, strict=True), key=lambda pair: pair[0] or 0)]


def _calls(message: ChatMessage) -> dict[str, int]:
    return {call: place for place, call in enumerate(_call_ids(message))}


def _call_ids(message: ChatMessage) -> Iterator[str]:
    for block in message.blocks:
        if isinstance(block, ToolCallBlock) and block.tool_call_id:
            yield block.tool_call_id


def _answered(result: ChatMessage) -> str | None:
    extra = result.additional_kwargs
    return extra.get("tool_call_id") or extra.get("call_id")
