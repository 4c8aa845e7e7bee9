"""What an image costs in tokens, its size read from the header of the bytes where they are in the request."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from math import ceil
from typing import TypeAlias

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_object, as_text

LOW_DETAIL_TOKENS = 85
TILE_TOKENS = 170
TILE = 512
LARGEST_SQUARE = 2048
SHORTEST_SIDE = 768
UNSIZED_TOKENS = 765
"""An image of unknown size counts as four tiles: 1,024 by 1,024 (OpenAI docs, images and vision: calculating costs)."""

CLAUDE_PIXELS_PER_TOKEN = 750
CLAUDE_LARGEST_TOKENS = 1600
"""Larger images are scaled down; also what one of unknown size counts as (Claude docs, vision: image costs)."""

_HEADER_CHARACTERS = 262_144
"""How much base64 is read to find a size: JPEG puts it behind metadata of up to some 64 KB blocks."""

Size: TypeAlias = tuple[int, int]


def openai_image_tokens(raw: JsonObject) -> int:
    """Return the tokens of an ``image_url`` or ``input_image`` part by the tile formula.

    ``low`` costs 85. Else the image is fitted into a square of 2,048, its shorter side brought down to 768, and
    every tile of 512 begun costs 170, plus 85.
    """
    nested = as_object(raw.get("image_url"))
    if (nested or raw).get("detail") == "low":
        return LOW_DETAIL_TOKENS
    size = image_size(as_text((nested or {"url": raw.get("image_url")}).get("url")))
    if size is None:
        return UNSIZED_TOKENS
    width, height = _fitted(size)
    return LOW_DETAIL_TOKENS + TILE_TOKENS * ceil(width / TILE) * ceil(height / TILE)


def claude_image_tokens(raw: JsonObject) -> int:
    """Return the tokens of an ``image`` block: a token for every 750 pixels, up to 1,600."""
    source = as_object(raw.get("source")) or {}
    size = image_size(as_text(source.get("data")))
    if size is None:
        return CLAUDE_LARGEST_TOKENS
    return max(1, min(CLAUDE_LARGEST_TOKENS, ceil(size[0] * size[1] / CLAUDE_PIXELS_PER_TOKEN)))


def image_size(data: str | None) -> Size | None:
    """Return width and height of base64 data or a data URL (PNG, JPEG, GIF, WebP), ``None`` where unreadable."""
    header = _bytes(data or "")
    for magic, reader in _READERS:
        if magic.match(header):
            size = reader(header)
            return size if size and min(size) > 0 else None
    return None


def _fitted(size: Size) -> tuple[float, float]:
    within = min(1.0, LARGEST_SQUARE / max(size))
    scale = within * min(1.0, SHORTEST_SIDE / (min(size) * within))
    # Rounded, so that a side that comes to just 512 does not begin another tile by a rounding error.
    return round(size[0] * scale, 6), round(size[1] * scale, 6)


def _bytes(data: str) -> bytes:
    start = data.find(",") + 1 if data.startswith("data:") else 0
    head = data[start : start + _HEADER_CHARACTERS]
    try:
        return binascii.a2b_base64(head[: len(head) // 4 * 4])
    except ValueError:
        return b""


def _png(header: bytes) -> Size | None:
    return (_big(header[16:20]), _big(header[20:24])) if len(header) >= 24 else None  # noqa: PLR2004 - file layout


def _gif(header: bytes) -> Size | None:
    return (_little(header[6:8]), _little(header[8:10])) if len(header) >= 10 else None  # noqa: PLR2004 - file layout


def _jpeg(header: bytes) -> Size | None:
    position = 2
    while position + 9 <= len(header) and header[position] == 0xFF:  # noqa: PLR2004 - every JPEG marker begins so
        if header[position + 1] in _JPEG_FRAMES:
            return _big(header[position + 7 : position + 9]), _big(header[position + 5 : position + 7])
        position += 2 + _big(header[position + 2 : position + 4])
    return None


def _webp(header: bytes) -> Size | None:
    form = header[12:16]
    if len(header) < 30:  # noqa: PLR2004 - file layout
        return None
    if form == b"VP8X":
        return _little(header[24:27]) + 1, _little(header[27:30]) + 1
    if form == b"VP8L":
        bits = _little(header[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (_little(header[26:28]) & 0x3FFF, _little(header[28:30]) & 0x3FFF) if form == b"VP8 " else None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_READERS: Sequence[tuple[re.Pattern[bytes], Callable[[bytes], Size | None]]] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
)
