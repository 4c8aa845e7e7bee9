"""Server-sent events, written as the providers stream them.

Anthropic Messages and Responses name every event by its ``type``; Chat Completions send data alone, and
``[DONE]`` at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from prefixcache_integrations.canonical import DialectName, JsonObject
from prefixcache_integrations.canonical.json import as_text

DONE = b"data: [DONE]\n\n"


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
