"""What the simulator remembers of the calls it got."""

from __future__ import annotations

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Request, Usage
from prefixcache_integrations.canonical.json import as_object, as_text

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
"""Headers that are never kept."""


class Call(Struct, frozen=True, kw_only=True):
    """One call as it arrived, and how it was answered.

    ``number`` counts arrivals from 1, ``at`` is the simulator's time. ``body`` is ``None`` where it was no JSON object,
    ``request`` where it could not be read. ``scope`` is a hash of the caller's key, or the organisation named for it.
    ``usage`` is ``None`` for a call that was refused; ``answer`` is the body sent back, for a stream the one that its
    events add up to.
    """

    number: int
    path: str
    headers: dict[str, str]
    at: float
    status: int
    scope: str | None = None
    body: JsonObject | None = None
    request: Request | None = None
    usage: Usage | None = None
    answer: JsonObject | None = None

    @property
    def error(self) -> str | None:
        """The message of the error the call was answered with, ``None`` for a call that went well."""
        error = as_object((self.answer or {}).get("error"))
        return as_text(error.get("message")) if error else None
