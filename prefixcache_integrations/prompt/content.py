"""One content block as the model reads it: its text, what it costs beside that, and what makes it the same block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, JsonObject, Part, PartKind
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.prompt.identity import wire_text
from prefixcache_integrations.prompt.images import claude_image_tokens, openai_image_tokens

TOOL_CALL_TOKENS = 3
"""What a tool call in the history costs beside its name and arguments (openai-chat-tokens by H. Marr)."""

DOCUMENT_TOKENS = 1500
"""One page of a document whose text cannot be read here: the low end of 1,500 to 3,000 (Claude docs, PDF support)."""

AUDIO_TOKENS = 100
"""A recording of unknown length; ten seconds at the rate that OpenAI bills."""


MESSAGE_TOKENS = 4
"""What each message costs beside its content: three of framing and one for the role (OpenAI cookbook, "How to
count tokens with tiktoken")."""

REPLY_TOKENS = 3
"""What primes the reply, at the end of every request (OpenAI cookbook, as above)."""


class Costs(Struct, frozen=True):
    """What a provider counts beside the text of a prompt, in tokens.

    An image, the framing of a tool call and of a message, and what primes the reply at the end. ``frames`` is of how
    many segments each of the latter two is.
    """

    image: Callable[[JsonObject], int]
    tool_call: int = 0
    message: int = 0
    reply: int = 0
    frames: int = 0


CLAUDE_COSTS = Costs(claude_image_tokens)
"""Claude's docs publish no framing."""

OPENAI_COSTS = Costs(openai_image_tokens, TOOL_CALL_TOKENS, MESSAGE_TOKENS, REPLY_TOKENS, frames=1)

COSTS: Mapping[DialectName, Costs] = {
    "anthropic_messages": CLAUDE_COSTS,
    "openai_chat": OPENAI_COSTS,
    "openai_responses": OPENAI_COSTS,
}


def part_text(part: Part, path: object) -> str:
    """Return what the model reads of a block as text: its own, or that of the blocks nested in it."""
    if part.content:
        return "\n".join(filter(None, (part_text(nested, path) for nested in part.content)))
    if part.kind == "tool_call":
        return f"{part.name or ''}{part.text}"
    if part.text or part.kind != "other":
        return part.text or _document_text(part)
    return wire_text(part.raw, path)


def _document_text(part: Part) -> str:
    source = as_object(part.raw.get("source")) or {}
    return (as_text(source.get("data")) or "") if source.get("type") == "text" else ""


def wire_form(part: Part) -> JsonObject:
    """Return the block as it goes out, without its marker and those of the blocks nested in it."""
    raw = unmarked(part.raw)
    return {**raw, "content": [wire_form(nested) for nested in part.content]} if part.content else raw


def unmarked(raw: JsonObject) -> JsonObject:
    """Drop the spelled-out ``null`` marker that a dialect leaves in place: it says nothing."""
    return raw if _MARKER_FIELDS.isdisjoint(raw) else without(raw, *_MARKER_FIELDS)


def fixed_tokens(part: Part, costs: Costs) -> int:
    """Return what a block costs beside its text."""
    nested = sum(fixed_tokens(inner, costs) for inner in part.content) if part.content else 0
    if part.kind == "image":
        return costs.image(part.raw) + nested
    if part.kind == "tool_call":
        return costs.tool_call + nested
    return nested if part.text or part.content or _document_text(part) else _OPAQUE_TOKENS.get(part.kind, 0)


def is_document(part: Part | None) -> bool:
    """Tell whether ``part`` is a document that may move: one that answers do not refer to by its number."""
    if part is None or (as_object(part.raw.get("citations")) or {}).get("enabled") is True:
        return False
    return looks_like_document(part)


def looks_like_document(part: Part) -> bool:
    """Tell whether ``part`` is a document: a block of that type, or text in ``<document>`` tags."""
    if part.kind == "text":
        return _MARKED.fullmatch(part.text) is not None
    return part.kind == "document" or part.raw.get("type") == "search_result"


_OPAQUE_TOKENS: Mapping[PartKind, int] = {"document": DOCUMENT_TOKENS, "audio": AUDIO_TOKENS}

_MARKER_FIELDS = frozenset({"cache_control", "prompt_cache_breakpoint"})

_MARKED = re.compile(r"\s*<document\b[^>]*>.*</document>\s*", re.DOTALL)
"""Claude docs, *Long context prompting tips*: documents are wrapped in such tags."""
