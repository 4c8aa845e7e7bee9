"""Server-sent events, as the providers stream them: bytes to events and back.

Anthropic Messages and Responses name every event by its ``type``; Chat Completions send data alone, and
``[DONE]`` at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, JsonObject
from prefixcache_integrations.canonical.json import as_object, as_text

DONE = b"data: [DONE]\n\n"

_LINE_END = re.compile(rb"\r\n|\n|\r")


class ServerSentEvent(Struct, frozen=True):
    """One event: its name, empty where it had none, and its data, lines joined."""

    event: str
    data: str

    def json(self) -> JsonObject | None:
        """Return the data as a JSON object, ``None`` where it is none (``[DONE]``)."""
        try:
            return as_object(json.loads(self.data))
        except ValueError:
            return None


class Parser:
    """Takes a stream apart, in whatever pieces it arrives; an event that its blank line never ended is no event."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = False
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that ``chunk`` completes."""
        unended = bool(self._rest.endswith(b"\r"))
        self._rest += chunk
        if not unended and _LINE_END.search(chunk) is None:
            return []
        *lines, rest = _LINE_END.split(bytes(self._rest))
        if self._rest.endswith(b"\r"):
            # It may be half of a "\r\n" whose other half is yet to come.
            rest = lines.pop() + b"\r"
        self._rest = bytearray(rest)
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not self._begun:
            line, self._begun = line.removeprefix(b"\xef\xbb\xbf"), True
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        self._event, self._data = "", []
        return ServerSentEvent(event, "\n".join(data)) if data else None


def format_event(event: JsonObject) -> bytes:
    """Write one event; its ``type``, where it has one, is also its name."""
    name = as_text(event.get("type"))
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def format_stream(dialect: DialectName, events: Iterable[JsonObject]) -> Iterator[bytes]:
    """Write a whole stream, one event at a time, ended as the provider ends it."""
    for event in events:
        yield format_event(event)
    if dialect == "openai_chat":
        yield DONE
