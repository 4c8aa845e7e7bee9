"""Request bodies and traces from files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import JsonObject, Request
from prefixcache_integrations.canonical.json import as_count, as_object, as_text
from prefixcache_integrations.dialects import Dialect
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.insight.replay import Sent
from prefixcache_integrations.profiles import resolve


class Format(StrEnum):
    """The wire format of a body; ``auto`` tells by the body itself."""

    AUTO = "auto"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"


def read_object(path: Path) -> JsonObject:
    """Read a JSON object from a file, or from standard input for ``-``. Raises `MalformedRequest` for anything else."""
    content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    found = as_object(_decoded(content, str(path)))
    if found is None:
        raise MalformedRequest("not a JSON object", str(path))
    return found


def read_request(path: Path, wire_format: Format) -> Request:
    """Read a request body from a file."""
    body = read_object(path)
    try:
        return _dialect(body, wire_format).decode_request(body)
    except MalformedRequest as error:
        raise MalformedRequest(str(error), str(path)) from error


def read_trace(path: Path, wire_format: Format) -> Iterator[Sent]:
    """Read a trace: a line per request, recorded with content, or ``{"at": seconds, "body": …, "output_tokens": …}``.

    Only ``body`` must be there, and a line may be just that; without times, requests are taken to be a second apart.
    Recorded calls that no provider answered are passed over. Raises `MalformedRequest`, naming the line.
    """
    at = 0.0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            row = as_object(_decoded(line, where)) if line.strip() else {}
            if row is None:
                raise MalformedRequest("not a JSON object", where)
            if not row or row.get("outcome", "provider") not in ("provider", "abandoned"):
                continue
            given = row.get("at")
            at = float(given) if isinstance(given, int | float) else at + 1
            yield _sent(row, at, where, wire_format)


def _is_body(row: JsonObject) -> bool:
    return "model" in row and ("messages" in row or "input" in row)


def _sent(row: JsonObject, at: float, where: str, wire_format: Format) -> Sent:
    body = as_object(row.get("body")) or as_object(row.get("request")) or (row if _is_body(row) else None)
    if body is None:
        raise MalformedRequest("no request body: record with record_content=True to replay a run", where)
    named = as_text(row.get("dialect"))
    try:
        request = (_NAMED.get(named or "") or _dialect(body, wire_format)).decode_request(body)
    except MalformedRequest as error:
        raise MalformedRequest(str(error), where) from error
    usage = as_object(row.get("usage")) or row
    return Sent(request=request, at=at, output_tokens=as_count(usage.get("output_tokens")))


def _dialect(body: JsonObject, wire_format: Format) -> Dialect:
    """Tell the format by what only it has: ``input``, a Claude model, or else Chat Completions."""
    if wire_format is not Format.AUTO:
        return _NAMED[wire_format]
    if "input" in body:
        return dialects.OPENAI_RESPONSES
    claude = resolve(as_text(body.get("model")) or "").provider == "anthropic"
    return dialects.ANTHROPIC_MESSAGES if claude else dialects.OPENAI_CHAT


_NAMED: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (dialects.ANTHROPIC_MESSAGES, dialects.OPENAI_CHAT, dialects.OPENAI_RESPONSES)
}


def _decoded(content: bytes, where: str) -> object:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedRequest(f"not JSON: {error}", where) from error
