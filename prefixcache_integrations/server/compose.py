"""A model's reply as the response that goes on the wire."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, JsonObject, Part, Request, Response, StopReason, Usage
from prefixcache_integrations.dialects.wire import to_json
from prefixcache_integrations.server.models import Reply

EPOCH = 1_750_000_000
"""The date on which every simulator starts, in seconds since 1970: the same run gives the same bodies."""


class _Ids(Struct, frozen=True):
    """How one format names a response and the tool calls in it, and where it puts the date, if it does."""

    response: str
    tool_call: str
    created: str | None


_IDS: Mapping[DialectName, _Ids] = {
    "anthropic_messages": _Ids("msg_sim_", "toolu_sim_", None),
    "openai_chat": _Ids("chatcmpl-sim-", "call_sim_", "created"),
    "openai_responses": _Ids("resp_sim_", "call_sim_", "created_at"),
}


def compose(
    request: Request, reply: Reply | None, usage: Usage, *, number: int, now: float, extra: JsonObject
) -> Response:
    """Return the response to ``request``; ``number`` makes its ids unique, ``extra`` is added to the body.

    Without a reply it is an empty one: a pre-warmed prompt's.
    """
    ids = _IDS[request.dialect]
    parts: list[Part] = []
    if reply is not None and (reply.written or not reply.tool_calls):
        parts.append(Part(kind="text", raw={}, text=reply.written))
    for index, use in enumerate(reply.tool_calls if reply else (), start=1):
        call_id = f"{ids.tool_call}{number:04}_{index}"
        parts.append(Part(kind="tool_call", raw={}, text=to_json(use.arguments), call_id=call_id, name=use.name))
    stop: StopReason = "length" if reply is None else "tool_calls" if reply.tool_calls else "stop"
    return Response(
        dialect=request.dialect,
        id=f"{ids.response}{number:04}",
        model=request.model,
        parts=tuple(parts),
        stop_reason=stop,
        usage=usage,
        raw={**({ids.created: int(EPOCH + now)} if ids.created else {}), **extra},
    )
