"""The OpenAI Chat Completions API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import structs

from prefixcache_integrations.canonical import (
    CacheMarker,
    DialectName,
    JsonObject,
    Message,
    Part,
    Request,
    Response,
    Role,
    StopReason,
    Tool,
    Usage,
)
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.dialects import error_bodies, openai_chat_stream
from prefixcache_integrations.dialects.openai_parts import BREAKPOINT, CHAT_PARTS
from prefixcache_integrations.dialects.usage import CHAT_USAGE
from prefixcache_integrations.dialects.wire import (
    check_text,
    is_given,
    need_list,
    need_name,
    need_object,
    need_text,
    optional_object,
    optional_text,
)
from prefixcache_integrations.errors import MalformedRequest

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_MAY_LACK_CONTENT = ("assistant", "function")

_CALLS = {"function": "arguments", "custom": "input"}
"""By type of tool call: the field of what the model passes to the tool, as text."""

_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_STOP_NAMES: Mapping[StopReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "stop",
    "other": "length",
}


class OpenAIChat:
    """Reads and writes bodies of ``/v1/chat/completions``.

    An assistant message's tool calls are parts of kind ``tool_call`` after those of its content. A tool's
    answer is a message of role ``tool`` whose parts keep their kind and carry the ``tool_call_id`` as
    ``call_id``. Of several choices, the parts of the first are read; the others stay in ``raw``.
    """

    name: DialectName = "openai_chat"

    def decode_request(self, body: JsonObject) -> Request:
        """Read a request body. Raises `MalformedRequest` for what the format does not allow."""
        check_text(body)
        messages = need_list(body.get("messages"), "messages")
        if not messages:
            raise MalformedRequest("at least one message is required", "messages")
        tools = need_list(body["tools"], "tools") if is_given(body.get("tools")) else ()
        model = optional_text(body.get("model"), "model") or ""
        taken = (("model", model), ("tools", tools), ("messages", messages))
        return Request(
            dialect=self.name,
            model=model,
            tools=tuple(_decode_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)),
            messages=tuple(_decode_message(item, f"messages[{index}]") for index, item in enumerate(messages)),
            options=without(body, *(field for field, value in taken if value)),
        )

    def encode_request(self, request: Request) -> dict[str, object]:
        """Write a request body; a bare string that now carries a marker becomes a list of one text part."""
        body: dict[str, object] = {"model": request.model} if request.model else {}
        body |= request.options
        if request.tools:
            body["tools"] = [dict(tool.raw) for tool in request.tools]
        body["messages"] = [_encode_message(message) for message in request.messages]
        return body

    def encode_marker(self, marker: CacheMarker) -> dict[str, object]:
        """Write a cache marker as ``prompt_cache_breakpoint`` holds it."""
        return BREAKPOINT.encode(marker)

    def decode_response(self, body: JsonObject) -> Response:
        """Read a chat completion. Raises `MalformedRequest` for what is not one."""
        choices = need_list(body.get("choices"), "choices")
        if not choices:
            raise MalformedRequest("at least one choice is required", "choices")
        choice = need_object(choices[0], "choices[0]")
        message = need_object(choice.get("message"), "choices[0].message")
        parts = tuple(_decode_answer(message, "choices[0].message"))
        stop = _STOP_REASONS.get(as_text(choice.get("finish_reason")) or "", "other")
        raw_usage = as_object(body.get("usage"))
        usage = Usage() if raw_usage is None else self.decode_usage(raw_usage)
        read = without(message, *(name for name in ("content", "refusal", "tool_calls") if message.get(name)))
        return Response(
            dialect=self.name,
            id=optional_text(body.get("id"), "id") or "",
            model=optional_text(body.get("model"), "model") or "",
            parts=parts,
            stop_reason="refusal" if stop == "stop" and any(part.kind == "refusal" for part in parts) else stop,
            usage=structs.replace(usage, service_tier=as_text(body.get("service_tier"))),
            raw_usage=raw_usage,
            raw={
                **without(body, *(() if raw_usage is None else ("usage",))),
                "choices": [{**choice, "message": read}, *choices[1:]],
            },
        )

    def encode_response(self, response: Response) -> dict[str, object]:
        """Write a chat completion: the one it was decoded from, or a new one for a composed response."""
        body = dict(response.raw) if "choices" in response.raw else _compose_completion(response)
        body |= {name: value for name, value in (("id", response.id), ("model", response.model)) if value}
        choice, *others = need_list(body["choices"], "choices")
        first = need_object(choice, "choices[0]")
        message = {**(as_object(first.get("message")) or {}), **_encode_answer(response.parts)}
        body["choices"] = [{**first, "message": message}, *others]
        if response.raw_usage is not None:
            body["usage"] = dict(response.raw_usage)
        elif usage := self.encode_usage(response.usage):
            body["usage"] = usage
        return body

    def decode_usage(self, usage: JsonObject) -> Usage:
        """Normalise a usage object; its tier stands beside it, in the completion."""
        return CHAT_USAGE.decode(usage)

    def encode_usage(self, usage: Usage) -> dict[str, object]:
        """Write usage as Chat Completions reports it."""
        return CHAT_USAGE.encode(usage)

    def encode_stream(self, response: Response, *, include_usage: bool = True) -> Iterator[dict[str, object]]:
        """Yield the chunks of a streamed completion; usage is in the last one, where it is asked for."""
        return openai_chat_stream.unfold(self.encode_response(response), include_usage=include_usage)

    def decode_stream(self, events: Iterable[JsonObject]) -> Response | None:
        """Fold chunks to the response they add up to; ``None`` without a ``finish_reason``."""
        body = openai_chat_stream.fold(events)
        return None if body is None else self.decode_response(body)

    def error_body(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> dict[str, object]:
        """Write an error body for an HTTP status."""
        return error_bodies.openai_error(status, message, param=param, code=code)


def _decode_tool(value: object, path: str) -> Tool:
    raw = need_object(value, path)
    tool_type = need_text(raw.get("type"), f"{path}.type")
    if tool_type not in _CALLS:
        return Tool(name=as_text(raw.get("name")) or "", raw=raw)
    where = f"{path}.{tool_type}"
    inner = need_object(raw.get(tool_type), where)
    return Tool(
        name=need_name(inner.get("name"), f"{where}.name"),
        raw=raw,
        description=optional_text(inner.get("description"), f"{where}.description") or "",
        schema=optional_object(inner.get("parameters"), f"{where}.parameters"),
    )


def _decode_message(value: object, path: str) -> Message:
    raw = need_object(value, path)
    role_name = need_text(raw.get("role"), f"{path}.role")
    role = _ROLES.get(role_name)
    if role is None:
        raise MalformedRequest(f"must be one of {', '.join(_ROLES)}", f"{path}.role")
    call_id = need_text(raw.get("tool_call_id"), f"{path}.tool_call_id") if role_name == "tool" else None
    content, bare = raw.get("content"), False
    parts: tuple[Part, ...] = ()
    if content is not None or role_name not in _MAY_LACK_CONTENT:
        markable = role != "assistant"
        parts, bare = CHAT_PARTS.decode_content(content, f"{path}.content", markable=markable, call_id=call_id)
    calls = tuple(_decode_calls(raw, path)) if role == "assistant" else ()
    taken = (("content", parts), ("tool_calls", calls))
    rest = without(raw, *(name for name, found in taken if found))
    return Message(role=role, parts=(*parts, *calls), raw=rest, bare=bare)


def _decode_calls(message: JsonObject, path: str) -> Iterator[Part]:
    if message.get("tool_calls") is None:
        return
    for index, item in enumerate(need_list(message["tool_calls"], f"{path}.tool_calls")):
        yield _decode_call(item, f"{path}.tool_calls[{index}]")


def _decode_call(value: object, path: str) -> Part:
    raw = need_object(value, path)
    call_type = "function" if raw.get("type") is None else need_text(raw["type"], f"{path}.type")
    call_id = optional_text(raw.get("id"), f"{path}.id")
    if call_type not in _CALLS:
        return Part(kind="tool_call", raw=raw, call_id=call_id)
    where = f"{path}.{call_type}"
    inner = need_object(raw.get(call_type), where)
    text_field = _CALLS[call_type]
    return Part(
        kind="tool_call",
        raw=raw,
        text=need_text(inner.get(text_field), f"{where}.{text_field}"),
        call_id=call_id,
        name=need_text(inner.get("name"), f"{where}.name"),
    )


def _encode_message(message: Message) -> dict[str, object]:
    body = {"role": message.role, **message.raw}
    content = tuple(part for part in message.parts if part.kind != "tool_call")
    if content:
        body["content"] = CHAT_PARTS.encode_content(content, bare=message.bare)
    if len(content) < len(message.parts):
        body["tool_calls"] = _encode_calls(message.parts)
    return body


def _encode_calls(parts: Sequence[Part]) -> list[dict[str, object]]:
    return [dict(part.raw or _compose_call(part)) for part in parts if part.kind == "tool_call"]


def _compose_call(part: Part) -> dict[str, object]:
    function = {"name": part.name, "arguments": part.text or "{}"}
    return {"id": part.call_id, "type": "function", "function": function}


def _decode_answer(message: JsonObject, path: str) -> Iterator[Part]:
    for name, kind in (("content", "text"), ("refusal", "refusal")):
        text = optional_text(message.get(name), f"{path}.{name}")
        if text:
            yield CHAT_PARTS.decode({"type": kind, kind: text}, f"{path}.{name}", markable=False)
    yield from _decode_calls(message, path)


def _encode_answer(parts: Sequence[Part]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, kind in (("content", "text"), ("refusal", "refusal")):
        texts = [part.text for part in parts if part.kind == kind]
        if texts:
            fields[name] = "".join(texts)
    calls = _encode_calls(parts)
    return {**fields, "tool_calls": calls} if calls else fields


def _compose_completion(response: Response) -> dict[str, object]:
    message = {"role": "assistant", "content": None, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _STOP_NAMES[response.stop_reason],
    }
    head = {"id": response.id, "object": "chat.completion", "created": 0, "model": response.model}
    tier = {} if response.usage.service_tier is None else {"service_tier": response.usage.service_tier}
    return {**head, "choices": [choice], **tier, **response.raw}
