"""A provider-neutral response."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

from prefixcache_integrations.canonical.json import JsonObject
from prefixcache_integrations.canonical.request import DialectName, Part
from prefixcache_integrations.canonical.usage import Usage

StopReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
"""Why the model stopped. Only "stop" and "tool_calls" are whole answers."""


class Response(Struct, frozen=True, kw_only=True):
    """One answer of a model. ``raw`` has every field of the body but the parts and the usage.

    ``usage`` is the normalised reading; ``raw_usage`` the provider's own object, ``None`` where the
    answer carried none (a stream that was not asked for it, or was cut short).
    """

    dialect: DialectName
    id: str
    model: str
    parts: tuple[Part, ...] = ()
    stop_reason: StopReason = "stop"
    usage: Usage = field(default_factory=Usage)
    raw_usage: JsonObject | None = None
    raw: JsonObject = field(default_factory=dict)
