"""A streamed response: a body to its events, and events to the body they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_list, as_text
from prefixcache_integrations.dialects.wire import need_object, pieces

_ENDINGS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
}
"""By status of the response: its last event; any other status ends as ``response.failed``."""
_FAILED = "response.failed"

_CONTENT = {"output_text": ("text", "response.output_text"), "refusal": ("refusal", "response.refusal")}
"""By type of content: the field that is streamed in pieces, and the name that its events begin with."""

_CALLS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}


def unfold(body: JsonObject) -> Iterator[dict[str, object]]:
    """Yield the events of a stream whose response is ``body``, numbered."""
    for number, event in enumerate(_events(body)):
        yield {**event, "sequence_number": number}


def _events(body: JsonObject) -> Iterator[dict[str, object]]:
    started = {**body, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    for index, value in enumerate(as_list(body.get("output")) or ()):
        item = need_object(value, f"output[{index}]")
        yield {"type": "response.output_item.added", "output_index": index, "item": _opening(item)}
        place = {"output_index": index, "item_id": item.get("id")}
        for event in _item_events(item):
            yield {**event, **place}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": _ENDINGS.get(as_text(body.get("status")) or "", _FAILED), "response": body}


def _opening(item: JsonObject) -> dict[str, object]:
    """Return the item as it is before its first piece."""
    kind = as_text(item.get("type")) or ""
    empty: dict[str, object] = {}
    if kind == "message":
        empty["content"] = []
    if kind == "reasoning":
        empty["summary"] = []
    if kind in _CALLS:
        empty[_CALLS[kind][0]] = ""
    if "status" in item and empty:
        empty["status"] = "in_progress"
    return {**item, **empty}


def _item_events(item: JsonObject) -> Iterator[dict[str, object]]:
    kind = as_text(item.get("type")) or ""
    if kind == "message":
        for index, part in enumerate(as_list(item.get("content")) or ()):
            yield from _content_events(need_object(part, f"content[{index}]"), index)
    if kind == "reasoning":
        for index, part in enumerate(as_list(item.get("summary")) or ()):
            yield from _summary_events(need_object(part, f"summary[{index}]"), index)
    if kind in _CALLS:
        field, stem = _CALLS[kind]
        yield from _text_events(stem, field, as_text(item.get(field)) or "")


def _content_events(part: JsonObject, index: int) -> Iterator[dict[str, object]]:
    field, stem = _CONTENT.get(as_text(part.get("type")) or "", ("", ""))
    place: dict[str, object] = {"content_index": index} | ({"logprobs": []} if field == "text" else {})
    yield {
        "type": "response.content_part.added",
        "content_index": index,
        "part": {**part, field: ""} if field else part,
    }
    if field:
        for event in _text_events(stem, field, as_text(part.get(field)) or ""):
            yield {**event, **place}
    yield {"type": "response.content_part.done", "content_index": index, "part": part}


def _summary_events(part: JsonObject, index: int) -> Iterator[dict[str, object]]:
    stem = "response.reasoning_summary"
    place = {"summary_index": index}
    yield {"type": f"{stem}_part.added", "part": {**part, "text": ""}, **place}
    for event in _text_events(f"{stem}_text", "text", as_text(part.get("text")) or ""):
        yield {**event, **place}
    yield {"type": f"{stem}_part.done", "part": part, **place}


def _text_events(stem: str, field: str, text: str) -> Iterator[dict[str, object]]:
    for piece in pieces(text):
        yield {"type": f"{stem}.delta", "delta": piece}
    yield {"type": f"{stem}.done", field: text}


def fold(events: Iterable[JsonObject]) -> dict[str, object] | None:
    """Return the response that the last event carries, ``None`` where the stream stops before it.

    A last event without output (some gateways send it so) is completed from the items that went before.
    """
    items: dict[object, object] = {}
    for event in events:
        kind = as_text(event.get("type")) or ""
        if kind == "response.output_item.done":
            items[event.get("output_index")] = event.get("item")
        if kind == _FAILED or kind in _ENDINGS.values():
            return _close(need_object(event.get("response"), "response"), items)
    return None


def _close(body: JsonObject, items: Mapping[object, object]) -> dict[str, object]:
    return {**body, "output": list(as_list(body.get("output")) or items.values())}
