"""What a wire format is to the rest of the package: one protocol, implemented once per format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from prefixcache_integrations.canonical import (
    CacheMarker,
    DialectName,
    JsonObject,
    Request,
    Response,
    Usage,
)


class BodyFormat(Protocol):
    """Reads and writes request bodies: ``encode_request(decode_request(body)) == body`` as JSON, if it decodes."""

    def decode_request(self, body: JsonObject) -> Request:
        """Read a request body. Raises `MalformedRequest` for what the format does not allow."""
        ...

    def encode_request(self, request: Request) -> dict[str, object]:
        """Write a request body; a bare string that now carries a marker becomes a list of one text block."""
        ...


class Dialect(BodyFormat, Protocol):
    """Decodes one wire format to the canonical words, and encodes it back without loss, requests and responses.

    Nothing here reads a clock, does I/O or knows a model's facts.
    """

    @property
    def name(self) -> DialectName:
        """The format's name."""
        ...

    def encode_marker(self, marker: CacheMarker) -> dict[str, object]:
        """Write a cache marker as this format spells it."""
        ...

    def decode_response(self, body: JsonObject) -> Response:
        """Read a response body. Raises `MalformedRequest` for what is not one."""
        ...

    def encode_response(self, response: Response) -> dict[str, object]:
        """Write a response body: the one it was decoded from, or a new one for a composed response."""
        ...

    def decode_usage(self, usage: JsonObject) -> Usage:
        """Normalise the provider's usage object: inclusive input, unknown is ``None``."""
        ...

    def encode_usage(self, usage: Usage) -> dict[str, object]:
        """Write usage in the provider's own fields."""
        ...

    def encode_stream(self, response: Response, *, include_usage: bool = True) -> Iterator[dict[str, object]]:
        """Yield the events the provider would stream for ``response``, text in several pieces."""
        ...

    def decode_stream(self, events: Iterable[JsonObject]) -> Response | None:
        """Fold streamed events to the response they add up to; ``None`` for a stream that did not finish.

        Raises `MalformedRequest` for events that cannot be added up.
        """
        ...

    def error_body(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> dict[str, object]:
        """Write the provider's error body for an HTTP status; ``param`` and ``code`` where the format has them."""
        ...
