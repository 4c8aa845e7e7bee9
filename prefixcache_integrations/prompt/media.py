"""Images, recordings and files by what they are: the bytes that are in the request, or the link it gives."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from hashlib import sha256

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_object, as_text

_CONTAINERS = ("source", "image_url", "input_audio", "file")
"""Where formats put the reference: Claude's blocks, and OpenAI's image, audio and file parts."""

_DATA = ("data", "base64", "file_data")
_LINKS = ("url", "file_url")
_MEDIA_TYPES = ("media_type", "mime_type", "format")
_ENCODINGS = (None, "base64", "url")
_URL_SAFE = str.maketrans("-_", "+/", " \t\r\n")


def media_form(raw: JsonObject) -> dict[str, object] | None:
    """Return what makes a block the same image, recording or file; ``None`` where it carries no bytes and no link.

    Bytes count by their digest and media type, however they are wrapped and spelled in base64; a link counts as it
    is written. Every other field counts too, but for ``detail`` where it says ``auto``, the default.
    """
    fields = _flat(raw)
    if fields is None:
        return None
    link, data = _taken(fields, _LINKS), _taken(fields, _DATA)
    given = link or data
    if given is None or (link and data):
        return None
    if not given.startswith("data:"):
        return {**fields, "link": given} if link else _bytes_form(fields, _taken(fields, _MEDIA_TYPES), given)
    head, comma, encoded = given.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    if not comma or parameters != ["base64"]:
        return {**fields, "link": given}
    for name in _MEDIA_TYPES:
        fields.pop(name, None)
    return _bytes_form(fields, media_type, encoded)


def _flat(raw: JsonObject) -> dict[str, object] | None:
    """Return the fields of a block and of its container as one object, without those that say how it is wrapped."""
    fields = {name: value for name, value in raw.items() if value is not None}
    for name in _CONTAINERS:
        held = fields.pop(name, None)
        inner: Mapping[str, object] = as_object({"url": held} if isinstance(held, str) else held) or {}
        if inner.get("type") not in _ENCODINGS or fields.keys() & (inner.keys() - {"type"}):
            return None
        fields |= {inside: value for inside, value in inner.items() if value is not None and inside != "type"}
    if fields.pop("source_type", None) not in _ENCODINGS:
        return None
    if str(fields.get("type")) in ("image", "image_url", "input_image"):
        fields["type"] = "image"
    if fields.get("detail") == "auto":
        del fields["detail"]
    return fields


def _taken(fields: dict[str, object], names: tuple[str, ...]) -> str | None:
    found = [name for name in names if name in fields]
    return as_text(fields.pop(found[0])) if len(found) == 1 else None


def _bytes_form(fields: dict[str, object], media_type: str | None, encoded: str) -> dict[str, object] | None:
    try:
        data = binascii.a2b_base64(_padded(encoded.translate(_URL_SAFE)), strict_mode=True)
    except ValueError:
        return None
    return {**fields, "media_type": (media_type or "").lower(), "bytes": sha256(data).hexdigest()}


def _padded(encoded: str) -> str:
    return encoded if encoded.endswith("=") else encoded + "=" * (-len(encoded) % 4)
