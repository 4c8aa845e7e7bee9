"""A streamed Claude message: a body to its events, and events to the body they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_list, as_object, as_text
from prefixcache_integrations.dialects.wire import need_object, need_text, pieces, read_arguments, to_json
from prefixcache_integrations.errors import MalformedRequest

_STOP_FIELDS = ("stop_reason", "stop_sequence", "stop_details", "container")
"""Fields of the message that are null in ``message_start`` and told by ``message_delta``."""

_DELTA_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
)
"""Fields of ``message_delta.usage``: totals so far, with no split of the writes by lifetime."""

_PIECEWISE = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}
"""By block type: the field that is streamed in pieces, and the delta that carries a piece."""


def unfold(body: JsonObject) -> Iterator[dict[str, object]]:
    """Yield the events of a stream whose message is ``body``."""
    usage = as_object(body.get("usage"))
    start = {name: None if name in _STOP_FIELDS else value for name, value in body.items()} | {"content": []}
    if usage is not None and "output_tokens" in usage:
        start["usage"] = {**usage, "output_tokens": 0}
    yield {"type": "message_start", "message": start}
    for index, item in enumerate(as_list(body.get("content")) or ()):
        yield from _unfold_block(need_object(item, f"content[{index}]"), index)
    delta = {name: body[name] for name in _STOP_FIELDS if name in body}
    totals = {name: usage[name] for name in _DELTA_USAGE if name in usage} if usage is not None else {}
    yield {"type": "message_delta", "delta": delta, "usage": totals}
    yield {"type": "message_stop"}


def _unfold_block(block: JsonObject, index: int) -> Iterator[dict[str, object]]:
    yield {"type": "content_block_start", "index": index, "content_block": _opening(block)}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _opening(block: JsonObject) -> dict[str, object]:
    """Return the block as it is before its first delta."""
    empty: dict[str, object] = {}
    field, _ = _PIECEWISE.get(str(block.get("type")), ("", ""))
    if field:
        empty[field] = ""
    if "signature" in block:
        empty["signature"] = ""
    if as_object(block.get("input")) is not None:
        empty["input"] = {}
    if as_list(block.get("citations")) is not None:
        empty["citations"] = []
    return {**block, **empty}


def _deltas(block: JsonObject) -> Iterator[dict[str, object]]:
    field, delta = _PIECEWISE.get(str(block.get("type")), ("", ""))
    for piece in pieces(as_text(block.get(field)) or ""):
        yield {"type": delta, field: piece}
    for citation in as_list(block.get("citations")) or ():
        yield {"type": "citations_delta", "citation": citation}
    if "signature" in block:
        yield {"type": "signature_delta", "signature": block["signature"]}
    if (arguments := as_object(block.get("input"))) is not None:
        for piece in ("", *pieces(to_json(arguments) if arguments else "")):
            yield {"type": "input_json_delta", "partial_json": piece}


def fold(events: Iterable[JsonObject]) -> dict[str, object] | None:
    """Return the message that ``events`` add up to, ``None`` where they stop before ``message_stop``.

    Counts of ``message_delta`` replace those of ``message_start``; what it leaves out keeps the earlier value.
    """
    stream = _Fold()
    for event in events:
        kind = str(event.get("type"))
        if kind == "message_stop":
            return stream.body if stream.finished else None
        if kind == "error":
            return None
        _HANDLERS.get(kind, _Fold.skip)(stream, event)
    return None


class _Fold:
    """The message so far."""

    def __init__(self) -> None:
        self.body: dict[str, object] | None = None
        self.finished = False
        self._blocks: dict[object, dict[str, object]] = {}
        self._arguments: dict[object, str] = {}

    def skip(self, event: JsonObject) -> None:
        """Pass over a ping, or an event of a later version."""

    def start(self, event: JsonObject) -> None:
        self.body = dict(need_object(event.get("message"), "message"))

    def open_block(self, event: JsonObject) -> None:
        self._blocks[event.get("index")] = dict(need_object(event.get("content_block"), "content_block"))

    def extend_block(self, event: JsonObject) -> None:
        index = event.get("index")
        delta = need_object(event.get("delta"), "delta")
        if index not in self._blocks:
            raise MalformedRequest("belongs to no open block", "index")
        if delta.get("type") == "input_json_delta":
            piece = need_text(delta.get("partial_json"), "delta.partial_json")
            self._arguments[index] = self._arguments.get(index, "") + piece
        else:
            _extend(self._blocks[index], delta)

    def close_block(self, event: JsonObject) -> None:
        arguments = self._arguments.pop(event.get("index"), "")
        if arguments:
            self._blocks[event.get("index")]["input"] = read_arguments(arguments)

    def finish(self, event: JsonObject) -> None:
        if self.body is None:
            raise MalformedRequest("comes before message_start", "type")
        self.finished = True
        self.body.update(as_object(event.get("delta")) or {})
        self.body["content"] = list(self._blocks.values())
        totals = {name: count for name, count in (as_object(event.get("usage")) or {}).items() if count is not None}
        usage = as_object(self.body.get("usage"))
        if usage is not None or totals:
            self.body["usage"] = {**(usage or {}), **totals}
        self.body.update({name: event[name] for name in event if name not in ("type", "delta", "usage")})


_HANDLERS: Mapping[str, Callable[[_Fold, JsonObject], None]] = {
    "message_start": _Fold.start,
    "content_block_start": _Fold.open_block,
    "content_block_delta": _Fold.extend_block,
    "content_block_stop": _Fold.close_block,
    "message_delta": _Fold.finish,
}


def _extend(block: dict[str, object], delta: JsonObject) -> None:
    kind = str(delta.get("type"))
    if kind == "citations_delta":
        block["citations"] = [*(as_list(block.get("citations")) or ()), delta.get("citation")]
    elif kind in ("signature_delta", "compaction_delta"):
        block.update({name: value for name, value in delta.items() if name != "type"})
    elif (field := _PIECES_TO_FIELDS.get(kind)) is not None:
        block[field] = (as_text(block.get(field)) or "") + need_text(delta.get(field), f"delta.{field}")
    else:
        raise MalformedRequest("is a kind of delta that this version cannot add up", "delta.type")


_PIECES_TO_FIELDS = {delta: field for field, delta in _PIECEWISE.values()}
