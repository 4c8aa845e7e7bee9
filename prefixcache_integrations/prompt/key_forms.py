"""Messages and their parts as keys are made of them: canonical JSON, without what is not to count.

A key is asked for before every answer, and most of what it is made of is plain text: that takes the short ways here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NoReturn

from msgspec.structs import asdict

from prefixcache_integrations.canonical import JsonObject, Message, Part, PartKind
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.prompt.identity import canonical_json
from prefixcache_integrations.prompt.media import media_form

_LONG_TEXT = 1024
LONGEST_REMEMBERED = 2**16
REMEMBERED_TEXTS = 512
"""How long texts may be that are remembered, and how many are: at most 32 million characters."""
_digests: dict[str, bytes] = {}
_CALL_ID_FIELDS = ("id", "call_id", "tool_use_id", "tool_call_id")
_TRIMMED_ROLES = ("system", "developer", "user")
_MEDIA: tuple[PartKind, ...] = ("image", "audio", "document", "other")
_OWN_FIELDS = frozenset({"id", "role", "content"})
_PLAIN_TEXT = frozenset({"type", "text"})


class WrittenMessage(Message, frozen=True, kw_only=True):
    """A message that is written already, both ways: with no call ids, it reads the same in every conversation."""

    exact: bytes
    trimmed: bytes


def written(message: Message) -> WrittenMessage:
    """Return ``message``, which has no call ids, as one that is written already. Raises `MalformedRequest`."""
    return WrittenMessage(
        **asdict(message),
        exact=message_json(message, {}, exact=True),
        trimmed=message_json(message, {}, exact=False),
    )


def message_json(message: Message, numbers: dict[str, int], *, exact: bool) -> bytes:
    """Return a message; ``numbers`` are those of the call ids so far, and are added to. Raises `MalformedRequest`."""
    if isinstance(message, WrittenMessage):
        return message.exact if exact else message.trimmed
    trim = not exact and message.role in _TRIMMED_ROLES
    written = _rest_json(message.raw, numbers) if message.raw else b"{}"
    return b'["%b",%b,%b]' % (message.role.encode(), written, parts_json(message.parts, numbers, trim=trim))


def _rest_json(raw: JsonObject, numbers: dict[str, int]) -> bytes:
    rest = {name: value for name, value in raw.items() if value is not None and name not in _OWN_FIELDS}
    if rest.get("type") == "message":
        del rest["type"]  # what an item with a role is anyway
    rest |= {name: _number(rest[name], numbers) for name in _CALL_ID_FIELDS if name in rest}
    return canonical_json(rest, "messages") if rest else b"{}"


def parts_json(parts: Sequence[Part], numbers: dict[str, int], *, trim: bool) -> bytes:
    """Return parts; with ``trim``, without white space around them all."""
    if len(parts) == 1 and parts[0].kind == "text" and parts[0].raw.keys() == _PLAIN_TEXT and not parts[0].content:
        return b'[["text",%b,{},[]]]' % _text_json(parts[0].text.strip() if trim else parts[0].text)
    texts = [part.text for part in parts]
    if trim and parts and parts[0].kind == "text":
        texts[0] = texts[0].lstrip()
    if trim and parts and parts[-1].kind == "text":
        texts[-1] = texts[-1].rstrip()
    return b"[%b]" % b",".join([part_json(part, text, numbers) for part, text in zip(parts, texts, strict=True)])


def part_json(part: Part, text: str, numbers: dict[str, int]) -> bytes:
    """Return a part with ``text`` in the place of its own."""
    nested = parts_json(part.content, numbers, trim=False) if part.content else b"[]"
    if part.kind == "text":
        plain = part.raw.keys() == _PLAIN_TEXT
        fields = b"{}" if plain else canonical_json(_text_fields(part.raw), "messages")
        return b'["text",%b,%b,%b]' % (_text_json(text), fields, nested)
    said = canonical_json(_said(part, text, numbers), "messages")
    return b"%b,%b]" % (said[:-1], nested)


def _said(part: Part, text: str, numbers: dict[str, int]) -> list[object]:
    """Return what a part says that is more than text, but for the parts inside it."""
    if part.kind in ("tool_call", "tool_result"):
        rest = _with_read_arguments(_given(without(part.raw, *_CALL_ID_FIELDS)))
        return [part.kind, _number(part.call_id, numbers), part.name, _read(text), rest]
    media = media_form(part.raw) if part.kind in _MEDIA else None
    return [part.kind, text, _given(part.raw)] if media is None else [part.kind, media]


def _text_fields(raw: JsonObject) -> dict[str, object]:
    # Empty annotations come back in replayed answers and are not there in new text.
    return {name: value for name, value in without(raw, "type", "text", "id").items() if value not in (None, [])}


def _text_json(text: str) -> bytes:
    """Return a text, a long one by its digest: that is several times faster than to write it out as JSON.

    A conversation grows by its end: what was said before is remembered, and found by the hash that a string keeps.
    """
    if len(text) < _LONG_TEXT:
        return canonical_json(text, "messages")
    known = _digests.get(text)
    if known is None:
        try:
            known = b'{"sha256":"%b"}' % sha256(text.encode()).hexdigest().encode()
        except UnicodeEncodeError as error:
            raise MalformedRequest("text with a lone surrogate") from error
        if len(_digests) >= REMEMBERED_TEXTS:
            _digests.clear()
        if len(text) <= LONGEST_REMEMBERED:
            _digests[text] = known
    return known


def _number(call_id: object, numbers: dict[str, int]) -> int | None:
    """Return the place of ``call_id`` among all ids in order of appearance."""
    return numbers.setdefault(call_id, len(numbers)) if isinstance(call_id, str) else None


def _given(fields: JsonObject) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_read_arguments(call: dict[str, object]) -> dict[str, object]:
    """Return a tool call with its arguments read from JSON, so that their key order is gone too."""
    read = {name: _read(value) for name, value in call.items() if name == "arguments"}
    function = as_object(call.get("function"))
    if function is not None:
        read["function"] = _with_read_arguments(dict(function))
    return call | read


def _read(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return {"json": json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)}
    except (ValueError, RecursionError):
        return text


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Read an object; one with a name twice stays text, or two different texts would be read alike."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("a name twice")
        found[name] = value
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
