"""A streamed chat completion: a body to its chunks, and chunks to the body they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_list, as_object, as_text, without
from prefixcache_integrations.dialects.wire import need_object, pieces

_WHOLE = ("role", "id", "type", "name", "finish_reason")
"""Texts that come in one piece, and may be repeated; other texts are added up."""


def unfold(body: JsonObject, *, include_usage: bool) -> Iterator[dict[str, object]]:
    """Yield the chunks of a stream whose completion is ``body``."""
    usage = body.get("usage") if include_usage else None
    head = {**without(body, "choices", "usage"), "object": "chat.completion.chunk"}
    if usage is not None:
        head["usage"] = None
    for index, item in enumerate(as_list(body.get("choices")) or ()):
        for choice in _unfold_choice(need_object(item, f"choices[{index}]"), index):
            yield {**head, "choices": [choice]}
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}


def _unfold_choice(choice: JsonObject, position: int) -> Iterator[dict[str, object]]:
    head = {"index": choice.get("index", position), "finish_reason": None}
    if "logprobs" in choice:
        head["logprobs"] = None
    for delta in _deltas(need_object(choice.get("message"), "message")):
        yield {**head, "delta": delta}
    yield {**head, "delta": {}, **without(choice, "message")}


def _deltas(message: JsonObject) -> Iterator[dict[str, object]]:
    calls = as_list(message.get("tool_calls"))
    opening = without(message, *(("tool_calls",) if calls else ()))
    texts = {name: text for name in ("content", "refusal") if (text := as_text(message.get(name))) is not None}
    yield opening | dict.fromkeys(texts, "")
    for name, text in texts.items():
        for piece in pieces(text):
            yield {name: piece}
    for index, item in enumerate(calls or ()):
        for delta in _call_deltas(need_object(item, f"tool_calls[{index}]"), index):
            yield {"tool_calls": [delta]}


def _call_deltas(call: JsonObject, index: int) -> Iterator[dict[str, object]]:
    for kind, field in (("function", "arguments"), ("custom", "input")):
        inner = as_object(call.get(kind))
        if inner is not None:
            yield {"index": index, **call, kind: {**inner, field: ""}}
            for piece in pieces(as_text(inner.get(field)) or ""):
                yield {"index": index, kind: {field: piece}}
            return
    yield {"index": index, **call}


def fold(events: Iterable[JsonObject]) -> dict[str, object] | None:
    """Return the completion that ``events`` add up to, ``None`` where a choice has no ``finish_reason``."""
    body: dict[str, object] = {}
    choices: dict[object, dict[str, object]] = {}
    for event in events:
        if event.get("error") is not None:
            return None
        _update(body, without(event, "choices", "obfuscation"))
        for item in as_list(event.get("choices")) or ():
            _fold_choice(choices, need_object(item, "choices"))
    if not choices or any(choice.get("finish_reason") is None for choice in choices.values()):
        return None
    if body.get("usage", ...) is None:
        del body["usage"]
    return {**body, "object": "chat.completion", "choices": [_close(choice) for choice in choices.values()]}


def _update(body: dict[str, object], fields: JsonObject) -> None:
    """Take over ``fields``; a later chunk that is silent on one does not take it back (Azure's first is empty)."""
    body.update({name: value for name, value in fields.items() if name not in body or value not in (None, "")})


def _fold_choice(choices: dict[object, dict[str, object]], piece: JsonObject) -> None:
    choice = choices.setdefault(piece.get("index", 0), {"index": piece.get("index", 0), "message": {}})
    _add(choice, without(piece, "index", "delta"))
    message = choice["message"]
    if isinstance(message, dict):
        _add(message, as_object(piece.get("delta")) or {})


def _add(total: dict[str, object], delta: JsonObject) -> None:
    for name, value in delta.items():
        total[name] = _add_calls(total.get(name), value) if name == "tool_calls" else _sum(name, total.get(name), value)


def _sum(name: str, old: object, new: object) -> object:
    if old is None or new is None:
        return old if new is None else new
    if isinstance(old, str) and isinstance(new, str):
        return (new or old) if name in _WHOLE else old + new
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    before, after = as_object(old), as_object(new)
    if before is None or after is None:
        return new
    merged = dict(before)
    _add(merged, after)
    return merged


def _add_calls(old: object, new: object) -> object:
    """Add the pieces of tool calls to the calls so far, which are kept by their index until the stream closes."""
    deltas = as_list(new)
    if deltas is None:
        return old
    calls: dict[object, dict[str, object]] = old if isinstance(old, dict) else {}
    for position, item in enumerate(deltas):
        delta = need_object(item, f"delta.tool_calls[{position}]")
        _add(calls.setdefault(delta.get("index", position), {}), without(delta, "index"))
    return calls


def _close(choice: dict[str, object]) -> dict[str, object]:
    message = as_object(choice["message"]) or {}
    calls = message.get("tool_calls")
    if isinstance(calls, dict):
        message = {**message, "tool_calls": list(calls.values())}
    return {**choice, "message": message}
