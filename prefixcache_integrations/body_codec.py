"""Bodies of responses as entries of the response cache, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import JsonObject, Request, Response
from prefixcache_integrations.errors import CorruptEntry, MalformedRequest
from prefixcache_integrations.flows.op import Entry


class BodyCodec:
    """Bodies of responses in one wire format. ``new_id`` makes the id of a body that was not called for."""

    def __init__(self, request: Request, new_id: Callable[[], str] | None = None) -> None:
        self._dialect = dialects.by_name(request.dialect)
        self._codec = f"{request.dialect}-body/1"
        self._new_id = new_id or _new_id

    def read(self, entry: Entry) -> JsonObject:
        """Return the body in ``entry``. Raises `CorruptEntry`."""
        if entry.codec != self._codec:
            raise CorruptEntry(f"written as {entry.codec}, not {self._codec}")
        try:
            body = msgspec.json.decode(entry.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptEntry("not a body") from error
        return body | {"id": self._new_id()} if "id" in body else body

    def write(self, answer: JsonObject) -> Entry | None:
        """Return ``answer`` as an entry, ``None`` if it is no JSON."""
        try:
            return Entry(codec=self._codec, body=msgspec.json.encode(answer))
        except (TypeError, ValueError, RecursionError, OverflowError):
            return None

    def responses(self, answer: JsonObject) -> Sequence[Response]:
        """Return what ``answer`` says; nothing, and it is not kept, if it is no response."""
        try:
            return [self._dialect.decode_response(answer)]
        except (MalformedRequest, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return []


def _new_id() -> str:
    return f"prefixcache_{uuid4().hex}"
