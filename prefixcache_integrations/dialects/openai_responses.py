"""The OpenAI Responses API."""

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
    StopReason,
    Tool,
    Usage,
)
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.dialects import error_bodies, openai_responses_stream
from prefixcache_integrations.dialects.openai_items import compose_item, decode_item, decode_output_item, encode_item
from prefixcache_integrations.dialects.openai_parts import BREAKPOINT, RESPONSES_PARTS
from prefixcache_integrations.dialects.usage import RESPONSES_USAGE
from prefixcache_integrations.dialects.wire import (
    check_text,
    is_bare,
    is_given,
    need_list,
    need_name,
    need_object,
    need_text,
    optional_object,
    optional_text,
)
from prefixcache_integrations.errors import MalformedRequest

_NAMED_TOOLS = ("function", "custom")

_INCOMPLETE: Mapping[str, StopReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}

_STATUSES: Mapping[StopReason, tuple[str, str | None]] = {
    "stop": ("completed", None),
    "tool_calls": ("completed", None),
    "refusal": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
    "other": ("cancelled", None),
}
"""By reason to stop: the response's status, and why it is incomplete."""


class OpenAIResponses:
    """Reads and writes bodies of ``/v1/responses``.

    Every item of ``input`` is one message. A message item keeps its content parts, and a call's output
    those of its ``output``, with the ``call_id``; any other item (a call, reasoning, a hosted tool's run)
    is a message of one part that has the whole item in ``raw``, and no ``raw`` of its own. An ``input``
    that is a string is one bare user message without ``raw``. In answers, every output item is one part.
    """

    name: DialectName = "openai_responses"

    def decode_request(self, body: JsonObject) -> Request:
        """Read a request body. Raises `MalformedRequest` for what the format does not allow."""
        check_text(body)
        model = optional_text(body.get("model"), "model") or ""
        given = {name: body[name] for name in ("instructions", "tools", "input") if is_given(body.get(name))}
        tools = need_list(given.get("tools", ()), "tools")
        return Request(
            dialect=self.name,
            model=model,
            tools=tuple(_decode_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)),
            system=_decode_instructions(given["instructions"]) if "instructions" in given else (),
            messages=_decode_input(given["input"]) if "input" in given else (),
            options=without(body, *given, *(("model",) if model else ())),
            bare_system="instructions" in given,
        )

    def encode_request(self, request: Request) -> dict[str, object]:
        """Write a request body; a bare string that now carries a marker becomes a list of one text part."""
        body: dict[str, object] = {"model": request.model} if request.model else {}
        body |= request.options
        if request.system:
            body["instructions"] = "".join(part.text for part in request.system)
        if request.tools:
            body["tools"] = [dict(tool.raw) for tool in request.tools]
        if request.messages:
            body["input"] = _encode_input(request.messages)
        return body

    def encode_marker(self, marker: CacheMarker) -> dict[str, object]:
        """Write a cache marker as ``prompt_cache_breakpoint`` holds it."""
        return BREAKPOINT.encode(marker)

    def decode_response(self, body: JsonObject) -> Response:
        """Read a response. Raises `MalformedRequest` for what is not one."""
        if body.get("object") != "response":
            raise MalformedRequest("must be 'response'", "object")
        output = need_list(body.get("output"), "output")
        parts = tuple(decode_output_item(item, f"output[{index}]") for index, item in enumerate(output))
        raw_usage = as_object(body.get("usage"))
        usage = Usage() if raw_usage is None else self.decode_usage(raw_usage)
        return Response(
            dialect=self.name,
            id=optional_text(body.get("id"), "id") or "",
            model=optional_text(body.get("model"), "model") or "",
            parts=parts,
            stop_reason=_stop_reason(body, parts),
            usage=structs.replace(usage, service_tier=as_text(body.get("service_tier"))),
            raw_usage=raw_usage,
            raw=without(body, "output", *(() if raw_usage is None else ("usage",))),
        )

    def encode_response(self, response: Response) -> dict[str, object]:
        """Write a response: the one it was decoded from, or a new one for a composed response."""
        body = dict(response.raw) if "object" in response.raw else _compose_response(response)
        body |= {name: value for name, value in (("id", response.id), ("model", response.model)) if value}
        stem = response.id.removeprefix("resp_")
        body["output"] = [
            dict(part.raw or compose_item(part, f"{stem}_{index}")) for index, part in enumerate(response.parts)
        ]
        if response.raw_usage is not None:
            body["usage"] = dict(response.raw_usage)
        elif response.usage.input_tokens is not None:
            body["usage"] = self.encode_usage(response.usage)
        return body

    def decode_usage(self, usage: JsonObject) -> Usage:
        """Normalise a usage object; its tier stands beside it, in the response."""
        return RESPONSES_USAGE.decode(usage)

    def encode_usage(self, usage: Usage) -> dict[str, object]:
        """Write usage as the Responses API reports it; it requires the cache counts, so unknown ones become 0."""
        return RESPONSES_USAGE.encode(usage)

    def encode_stream(self, response: Response, *, include_usage: bool = True) -> Iterator[dict[str, object]]:  # noqa: ARG002 - the last event always has the usage
        """Yield the events of a streamed response, from ``response.created`` to ``response.completed``."""
        return openai_responses_stream.unfold(self.encode_response(response))

    def decode_stream(self, events: Iterable[JsonObject]) -> Response | None:
        """Fold events to the response they add up to; ``None`` without one that ends it."""
        body = openai_responses_stream.fold(events)
        return None if body is None else self.decode_response(body)

    def error_body(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> dict[str, object]:
        """Write an error body for an HTTP status."""
        return error_bodies.openai_error(status, message, param=param, code=code)


def _decode_tool(value: object, path: str) -> Tool:
    raw = need_object(value, path)
    named = need_text(raw.get("type"), f"{path}.type") in _NAMED_TOOLS
    return Tool(
        name=need_name(raw.get("name"), f"{path}.name") if named else as_text(raw.get("name")) or "",
        raw=raw,
        description=optional_text(raw.get("description"), f"{path}.description") or "",
        schema=optional_object(raw.get("parameters"), f"{path}.parameters"),
    )


def _decode_instructions(value: object) -> tuple[Part, ...]:
    text = need_text(value, "instructions")
    return (Part(kind="text", raw={"type": "input_text", "text": text}, text=text),)


def _decode_input(value: object) -> tuple[Message, ...]:
    if isinstance(value, str):
        parts, _ = RESPONSES_PARTS.decode_content(value, "input", markable=True)
        return (Message(role="user", parts=parts, bare=True),)
    return tuple(decode_item(item, f"input[{index}]") for index, item in enumerate(need_list(value, "input")))


def _encode_input(messages: Sequence[Message]) -> str | list[dict[str, object]]:
    first = messages[0]
    if len(messages) == 1 and not first.raw and is_bare(first.parts, bare=first.bare):
        return first.parts[0].text
    return [encode_item(message) for message in messages]


def _stop_reason(body: JsonObject, parts: Sequence[Part]) -> StopReason:
    if body.get("status") == "incomplete":
        details = as_object(body.get("incomplete_details")) or {}
        return _INCOMPLETE.get(as_text(details.get("reason")) or "", "other")
    if body.get("status") != "completed":
        return "other"
    kinds = {part.kind for part in parts}
    return "tool_calls" if "tool_call" in kinds else "refusal" if "refusal" in kinds else "stop"


def _compose_response(response: Response) -> dict[str, object]:
    status, reason = _STATUSES[response.stop_reason]
    settings: dict[str, object] = {
        "instructions": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return {
        "id": response.id,
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": response.model,
        "output": [],
        **settings,
        "metadata": {},
        "usage": None,
        **({} if response.usage.service_tier is None else {"service_tier": response.usage.service_tier}),
        **response.raw,
    }
