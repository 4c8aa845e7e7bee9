"""The Anthropic Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prefixcache_integrations.canonical import (
    CacheMarker,
    DialectName,
    JsonObject,
    Message,
    Request,
    Response,
    Role,
    StopReason,
    Tool,
    Usage,
)
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.dialects import anthropic_stream, error_bodies
from prefixcache_integrations.dialects import usage as usages
from prefixcache_integrations.dialects.anthropic_blocks import (
    CACHE_CONTROL,
    decode_block,
    decode_content,
    encode_block,
    encode_content,
)
from prefixcache_integrations.dialects.wire import (
    check_text,
    is_given,
    need_list,
    need_name,
    need_object,
    need_text,
    optional_text,
)
from prefixcache_integrations.errors import MalformedRequest

_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}

_STOP_REASONS: Mapping[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
_STOP_NAMES: Mapping[StopReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "other": "pause_turn",
}


class AnthropicMessages:
    """Reads and writes bodies of ``/v1/messages``.

    Every content block is one part; blocks nested in a tool result, document or search result are the
    parts of its ``content``, and never markable: a marker belongs on the outer block.
    """

    name: DialectName = "anthropic_messages"

    def decode_request(self, body: JsonObject) -> Request:
        """Read a request body. Raises `MalformedRequest` for what the format does not allow."""
        check_text(body)
        options, marker = CACHE_CONTROL.take(body, "")
        names = [name for name in ("tools", "system") if is_given(options.get(name))]
        messages = need_list(body.get("messages"), "messages")
        if not messages:
            raise MalformedRequest("at least one message is required", "messages")
        system, bare_system = decode_content(options["system"], "system") if "system" in names else ((), False)
        tools = need_list(options["tools"], "tools") if "tools" in names else ()
        return Request(
            dialect=self.name,
            model=need_name(body.get("model"), "model"),
            tools=tuple(_decode_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)),
            system=system,
            messages=tuple(_decode_message(item, f"messages[{index}]") for index, item in enumerate(messages)),
            options=without(options, "model", "messages", *names),
            marker=marker,
            bare_system=bare_system,
        )

    def encode_request(self, request: Request) -> dict[str, object]:
        """Write a request body; a bare string that now carries a marker becomes a list of one text block."""
        body = {"model": request.model, **request.options}
        if request.tools:
            body["tools"] = [CACHE_CONTROL.put(tool.raw, tool.marker) for tool in request.tools]
        if request.system:
            body["system"] = encode_content(request.system, bare=request.bare_system)
        body["messages"] = [_encode_message(message) for message in request.messages]
        return CACHE_CONTROL.put(body, request.marker)

    def encode_marker(self, marker: CacheMarker) -> dict[str, object]:
        """Write a cache marker as ``cache_control`` holds it."""
        return CACHE_CONTROL.encode(marker)

    def decode_response(self, body: JsonObject) -> Response:
        """Read a message. Raises `MalformedRequest` for what is not one."""
        if body.get("type") != "message":
            raise MalformedRequest("must be 'message'", "type")
        content = need_list(body.get("content"), "content")
        raw_usage = as_object(body.get("usage"))
        return Response(
            dialect=self.name,
            id=optional_text(body.get("id"), "id") or "",
            model=optional_text(body.get("model"), "model") or "",
            parts=tuple(decode_block(block, f"content[{index}]") for index, block in enumerate(content)),
            stop_reason=_STOP_REASONS.get(as_text(body.get("stop_reason")) or "", "other"),
            usage=Usage() if raw_usage is None else self.decode_usage(raw_usage),
            raw_usage=raw_usage,
            raw=without(body, "content", *(() if raw_usage is None else ("usage",))),
        )

    def encode_response(self, response: Response) -> dict[str, object]:
        """Write a message: the one it was decoded from, or a new one for a composed response."""
        body = dict(response.raw) if "type" in response.raw else _compose_message(response)
        body |= {name: value for name, value in (("id", response.id), ("model", response.model)) if value}
        body["content"] = [encode_block(part) for part in response.parts]
        if response.raw_usage is not None:
            body["usage"] = dict(response.raw_usage)
        elif response.usage != Usage():
            body["usage"] = self.encode_usage(response.usage)
        return body

    def decode_usage(self, usage: JsonObject) -> Usage:
        """Normalise a usage object: Claude's ``input_tokens`` leave the cache out, ours include it."""
        return usages.decode_claude(usage)

    def encode_usage(self, usage: Usage) -> dict[str, object]:
        """Write usage as Claude reports it."""
        return usages.encode_claude(usage)

    def encode_stream(self, response: Response, *, include_usage: bool = True) -> Iterator[dict[str, object]]:  # noqa: ARG002 - Claude always reports usage
        """Yield the events of a streamed message, from ``message_start`` to ``message_stop``."""
        return anthropic_stream.unfold(self.encode_response(response))

    def decode_stream(self, events: Iterable[JsonObject]) -> Response | None:
        """Fold events to the response they add up to; ``None`` without a ``message_stop``."""
        body = anthropic_stream.fold(events)
        return None if body is None else self.decode_response(body)

    def error_body(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,  # noqa: ARG002 - Claude's errors name the field in the message
        code: str | None = None,  # noqa: ARG002 - Claude's errors have no code
    ) -> dict[str, object]:
        """Write an error body for an HTTP status."""
        return error_bodies.claude_error(status, message)


def _decode_tool(value: object, path: str) -> Tool:
    raw, marker = CACHE_CONTROL.take(need_object(value, path), path)
    name = as_text(raw.get("name")) or ""
    schema = as_object(raw.get("input_schema"))
    if raw.get("type") in (None, "custom"):
        name = need_name(raw.get("name"), f"{path}.name")
        schema = need_object(raw.get("input_schema"), f"{path}.input_schema")
    else:
        need_text(raw["type"], f"{path}.type")
    return Tool(
        name=name,
        raw=raw,
        description=optional_text(raw.get("description"), f"{path}.description") or "",
        schema=schema,
        marker=marker,
        markable=raw.get("defer_loading") is not True,
    )


def _decode_message(value: object, path: str) -> Message:
    raw = need_object(value, path)
    role = _ROLES.get(need_text(raw.get("role"), f"{path}.role"))
    if role is None:
        raise MalformedRequest("must be 'user', 'assistant' or 'system'", f"{path}.role")
    if raw.get("content") is None:
        raise MalformedRequest("must be a string or a list", f"{path}.content")
    parts, bare = decode_content(raw["content"], f"{path}.content")
    return Message(role=role, parts=parts, raw=without(raw, "content") if parts else raw, bare=bare)


def _encode_message(message: Message) -> dict[str, object]:
    body = {"role": message.role, **message.raw}
    if message.parts:
        body["content"] = encode_content(message.parts, bare=message.bare)
    return body


def _compose_message(response: Response) -> dict[str, object]:
    stop_reason = _STOP_NAMES[response.stop_reason]
    head = {"id": response.id, "type": "message", "role": "assistant", "model": response.model, "content": []}
    return {**head, "stop_reason": stop_reason, "stop_sequence": None, **response.raw}
