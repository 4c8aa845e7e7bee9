"""Content parts of OpenAI's APIs, which differ in the names of their types alone."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from prefixcache_integrations.canonical import Part, PartKind
from prefixcache_integrations.dialects.wire import MarkerField, is_bare, need_object, need_text
from prefixcache_integrations.errors import MalformedRequest

BREAKPOINT = MarkerField(name="prompt_cache_breakpoint", base={"mode": "explicit"})


class _Row(Struct, frozen=True):
    """What one part type is, the field of its text, and the field of the object that it points with."""

    kind: PartKind
    text: str = ""
    source: str = ""


_ROWS: Mapping[str, _Row] = {
    "text": _Row("text", text="text"),
    "input_text": _Row("text", text="text"),
    "output_text": _Row("text", text="text"),
    "refusal": _Row("refusal", text="refusal"),
    "image_url": _Row("image", source="image_url"),
    "input_image": _Row("image"),
    "input_audio": _Row("audio", source="input_audio"),
    "file": _Row("document", source="file"),
    "input_file": _Row("document"),
}
_OTHER = _Row("other")


class PartFormat(Struct, frozen=True, kw_only=True):
    """The parts of one API: what a plain string stands for, and which types have a ``prompt_cache_breakpoint``."""

    text_type: str
    markable: frozenset[str]

    def decode_content(
        self, value: object, path: str, *, markable: bool, call_id: str | None = None
    ) -> tuple[tuple[Part, ...], bool]:
        """Return the parts of a content field, and whether it was a plain string."""
        if isinstance(value, str):
            raw = {"type": self.text_type, "text": value}
            takes_marker = markable and self.text_type in self.markable and bool(value)
            return (Part(kind="text", raw=raw, text=value, markable=takes_marker, call_id=call_id),), True
        if not isinstance(value, list | tuple):
            raise MalformedRequest("must be a string or a list", path)
        parts = (
            self.decode(item, f"{path}[{index}]", markable=markable, call_id=call_id)
            for index, item in enumerate(value)
        )
        return tuple(parts), False

    def decode(self, value: object, path: str, *, markable: bool, call_id: str | None = None) -> Part:
        """Read one part; a part of an unknown type is kept as it is."""
        raw, marker = BREAKPOINT.take(need_object(value, path), path)
        part_type = need_text(raw.get("type"), f"{path}.type")
        row = _ROWS.get(part_type, _OTHER)
        text = need_text(raw.get(row.text), f"{path}.{row.text}") if row.text else ""
        if row.source:
            need_object(raw.get(row.source), f"{path}.{row.source}")
        return Part(
            kind=row.kind,
            raw=raw,
            text=text,
            marker=marker,
            markable=markable and part_type in self.markable and bool(text or not row.text),
            call_id=call_id,
        )

    def encode_content(self, parts: tuple[Part, ...], *, bare: bool) -> str | list[dict[str, object]]:
        """Write a content field: the plain string it was, or the list of its parts."""
        return parts[0].text if is_bare(parts, bare=bare) else [self.encode(part) for part in parts]

    def encode(self, part: Part) -> dict[str, object]:
        """Write one part and its marker."""
        return BREAKPOINT.put(part.raw or {"type": self.text_type, "text": part.text}, part.marker)


CHAT_PARTS = PartFormat(text_type="text", markable=frozenset({"text", "image_url", "input_audio", "file"}))
RESPONSES_PARTS = PartFormat(text_type="input_text", markable=frozenset({"input_text", "input_image", "input_file"}))
