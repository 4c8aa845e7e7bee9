from __future__ import annotations

import base64

import pytest

from prefixcache_integrations.prompt.images import claude_image_tokens, image_size, openai_image_tokens


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x06"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\0\0"


def jpeg(width: int, height: int) -> bytes:
    metadata = b"\xff\xe1" + (60_002).to_bytes(2, "big") + bytes(60_000)
    frame = b"\xff\xc2\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03"
    return b"\xff\xd8" + metadata + frame


def webp(form: bytes, payload: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + form + b"\0\0\0\0" + payload + bytes(10)


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little"))


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little"))


def webp_extended(width: int, height: int) -> bytes:
    return webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("build", [png, gif, jpeg, webp_lossless, webp_lossy, webp_extended])
def test_the_size_is_read_from_the_header(build: object) -> None:
    data = encoded(build(1234, 567))  # type: ignore[operator]
    assert image_size(data) == (1234, 567)
    assert image_size(f"data:image/x;base64,{data}") == (1234, 567)


@pytest.mark.parametrize(
    "data",
    [None, "", "https://example.org/a.png", "data:image/png;base64,", "%%%%", encoded(b"BM"), encoded(png(0, 5))]
    + [encoded(build(10, 10)[:12]) for build in (png, jpeg, webp_lossy)],
)
def test_what_cannot_be_read_has_no_size(data: str | None) -> None:
    assert image_size(data) is None


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((1024, 1024), 765),  # OpenAI docs: 768 by 768 after scaling, four tiles
        ((2048, 4096), 1105),  # OpenAI docs: 768 by 1536, six tiles
        ((512, 512), 255),
        ((513, 512), 425),
        ((1, 1), 255),
        ((8192, 16), 85 + 4 * 170),
    ],
)
def test_openai_counts_tiles(size: tuple[int, int], tokens: int) -> None:
    url = f"data:image/png;base64,{encoded(png(*size))}"
    assert openai_image_tokens({"type": "image_url", "image_url": {"url": url, "detail": "high"}}) == tokens
    assert openai_image_tokens({"type": "input_image", "image_url": url}) == tokens


def test_openai_counts_low_detail_and_unknown_sizes_by_a_constant() -> None:
    assert openai_image_tokens({"type": "image_url", "image_url": {"url": "u", "detail": "low"}}) == 85
    assert openai_image_tokens({"type": "input_image", "image_url": "u", "detail": "low"}) == 85
    assert openai_image_tokens({"type": "image_url", "image_url": {"url": "u"}}) == 765
    assert openai_image_tokens({"type": "input_image", "file_id": "f"}) == 765


def test_claude_counts_pixels_up_to_a_limit() -> None:
    def image(width: int, height: int) -> dict[str, object]:
        return {"type": "image", "source": {"type": "base64", "data": encoded(png(width, height))}}

    assert claude_image_tokens(image(200, 200)) == 54  # Claude docs, vision: about 54 tokens
    assert claude_image_tokens(image(1000, 1000)) == 1334
    assert claude_image_tokens(image(8000, 8000)) == 1600
    assert claude_image_tokens({"type": "image", "source": {"type": "url", "url": "u"}}) == 1600
