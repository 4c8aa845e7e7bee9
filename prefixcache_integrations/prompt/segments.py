"""The prompt as the provider reads it: runs of text in wire order, each with its place and identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, takewhile
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import (
    Address,
    CacheMarker,
    DialectName,
    Message,
    Part,
    PartKind,
    Request,
    Tokenizer,
    Tool,
)
from prefixcache_integrations.canonical.json import as_object, as_text, without
from prefixcache_integrations.profiles.profile import Tier
from prefixcache_integrations.prompt.content import (
    CLAUDE_COSTS,
    COSTS,
    OPENAI_COSTS,
    Costs,
    fixed_tokens,
    part_text,
    unmarked,
    wire_form,
)
from prefixcache_integrations.prompt.identity import checked_text, wire_bytes, wire_text
from prefixcache_integrations.prompt.typescript import tool_namespace

SegmentKind: TypeAlias = Literal[
    "tools", "format", "system", "user", "assistant", "tool_call", "tool_result", "thinking", "image", "frame"
]

NAME_TOKENS = 1
"""What a participant's name costs beside itself (OpenAI cookbook, "How to count tokens with tiktoken")."""

TOOLS_TOKENS = 9
"""What tool definitions cost beside their text: a system message of their own (openai-chat-tokens by H. Marr,
found by trying many requests against the API)."""

TOOLS_TOKENS_IN_SYSTEM = 5
"""The same where the request has a system message, which they then share; it is padded with a line break."""


class Segment(Struct, frozen=True, kw_only=True, gc=False):
    """A run of the prompt in wire order.

    ``at`` is its place in the request, ``None`` for framing that has none. ``tier`` is the part of the
    prompt it belongs to. ``text`` is what is tokenised; ``fixed_tokens`` counts what no text stands for
    (message framing, image tiles). ``identity`` is what must be equal for the provider to call it the same:
    its bytes in wire order, key order included, markers excluded. ``ends_message`` is true for the last
    segment of a message.
    """

    at: Address | None
    kind: SegmentKind
    tier: Tier
    text: str
    identity: bytes
    fixed_tokens: int = 0
    marker: CacheMarker | None = None
    markable: bool = False
    ends_message: bool = False


def segments(request: Request) -> tuple[Segment, ...]:
    """Return the prompt in the order the provider renders it: tools, response format, system, messages.

    Claude: one segment per tool, system block and content block; deferred tools are left out, as they are no
    part of the prefix. OpenAI: all tools are one segment, and framing has segments of its own, at ``None``.
    Raises `MalformedRequest` for text that is no Unicode and values that are no JSON.
    """
    return (*leading_segments(request), *added_segments(request, 0))


def leading_segments(request: Request) -> tuple[Segment, ...]:
    """Return what `segments` returns of all that stands before the messages."""
    return tuple(_RENDERERS[request.dialect][0](request))


def added_segments(request: Request, since: int) -> tuple[Segment, ...]:
    """Return what `segments` returns of the messages from number ``since`` on, and behind them."""
    framing = framing_of(request)
    rows = (message_segments(request, index, framing) for index in range(since, len(request.messages)))
    return (*chain.from_iterable(rows), *trailing_segments(request))


class Framing(NamedTuple):
    """How many messages are ``opening`` instructions, and where text is ``padded`` to be joined by tools."""

    opening: int = 0
    padded: Address | None = None


def framing_of(request: Request) -> Framing:
    """Return what the segments of a message depend on beside itself and its number."""
    if not COSTS[request.dialect].frames:
        return Framing()
    opening = sum(1 for _ in takewhile(lambda message: message.role in _INSTRUCTIONS, request.messages))
    return Framing(opening, first_instructions(request) if request.tools else None)


def message_segments(request: Request, index: int, framing: Framing) -> tuple[Segment, ...]:
    """Return what `segments` returns of one message."""
    return tuple(_RENDERERS[request.dialect][1](request.messages[index], index, framing))


def trailing_segments(request: Request) -> tuple[Segment, ...]:
    """Return what `segments` returns of what stands behind the messages."""
    costs = COSTS[request.dialect]
    return (_frame("reply", costs.reply, "messages"),) * costs.frames


def token_counts(prompt: Sequence[Segment], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the length of every segment in tokens."""
    return tuple(segment.fixed_tokens + (tokenizer.count(segment.text) if segment.text else 0) for segment in prompt)


def token_ids(segment: Segment, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a segment; fixed ones as negative numbers that only equal segments share."""
    ids = _fixed_ids(segment) if segment.fixed_tokens else []
    if segment.text:
        ids.extend(tokenizer.encode(segment.text))
    return ids


def _fixed_ids(segment: Segment) -> list[int]:
    digest = hashlib.blake2b(segment.identity, digest_size=5).digest()
    base = -1 - (int.from_bytes(digest, "big") << 20)
    return [base - number for number in range(segment.fixed_tokens)]


# Claude: a segment per block, no framing (Claude docs publish none).


def _claude(request: Request) -> Iterator[Segment]:
    for index, tool in enumerate(request.tools):
        if tool.raw.get("defer_loading") is not True:
            yield _claude_tool(tool, Address("tools", index))
    for index, part in enumerate(request.system):
        yield _block(part, Address("system", index), "system", "system", CLAUDE_COSTS)


def _claude_message(message: Message, index: int, _: Framing) -> Iterator[Segment]:
    return _parts(message, index, "messages", CLAUDE_COSTS)


def _claude_tool(tool: Tool, at: Address) -> Segment:
    text = wire_text(unmarked(tool.raw), at)
    return Segment(
        at=at,
        kind="tools",
        tier="tools",
        text=text,
        identity=text.encode(),
        marker=tool.marker,
        markable=tool.markable,
    )


# OpenAI: tools as one text, framing around every message, three tokens that prime the reply.


def _openai(request: Request) -> Iterator[Segment]:
    padded = first_instructions(request) if request.tools else None
    if request.tools:
        yield from _openai_tools(request, TOOLS_TOKENS if padded is None else TOOLS_TOKENS_IN_SYSTEM)
    yield from _response_format(request)
    if request.system:
        yield _frame("system", OPENAI_COSTS.message, "system")
        for index, part in enumerate(request.system):
            at = Address("system", index)
            yield _padded(_block(part, at, "system", "system", OPENAI_COSTS), padded)


def _openai_tools(request: Request, framing: int) -> Iterator[Segment]:
    yield _frame("tools", framing, "tools")
    yield Segment(
        at=Address("tools", 0),
        kind="tools",
        tier="tools",
        text=checked_text(tool_namespace(request.tools), "tools"),
        identity=wire_bytes([unmarked(tool.raw) for tool in request.tools], "tools"),
    )


def _response_format(request: Request) -> Iterator[Segment]:
    chat = as_object(request.options.get("response_format"))
    nested = as_object(request.options.get("text"))
    chosen = chat or (as_object(nested.get("format")) if nested else None)
    if chosen is None or chosen.get("type") != "json_schema":
        return
    named = as_object(chosen.get("json_schema")) or chosen
    title = as_text(named.get("name")) or ""
    schema = wire_text(named.get("schema"), "response_format")
    text = checked_text(f"# Response Formats\n\n## {title}\n\n{schema}", "response_format")
    yield Segment(at=None, kind="format", tier="system", text=text, identity=wire_bytes(chosen, "response_format"))


def _openai_message(message: Message, index: int, framing: Framing) -> Iterator[Segment]:
    tier: Tier = "system" if index < framing.opening else "messages"
    name = checked_text(as_text(message.raw.get("name")) or "", f"messages[{index}].name")
    fields = {field: value for field, value in without(message.raw, *_UNREAD).items() if value is not None}
    yield Segment(
        at=None,
        kind="frame",
        tier=tier,
        text=name,
        identity=wire_bytes(["frame", message.role, fields], f"messages[{index}]"),
        fixed_tokens=OPENAI_COSTS.message + (NAME_TOKENS if name else 0),
        ends_message=not message.parts,
    )
    for segment in _parts(message, index, tier, OPENAI_COSTS):
        yield _padded(segment, framing.padded)


def _frame(what: str, tokens: int, tier: Tier) -> Segment:
    identity = wire_bytes(["frame", what, {}])
    return Segment(at=None, kind="frame", tier=tier, text="", identity=identity, fixed_tokens=tokens)


def first_instructions(request: Request) -> Address | None:
    """Return where the first system text ends, to which the tool definitions are joined by a line break."""
    if request.system:
        return Address("system", len(request.system) - 1)
    for index, message in enumerate(request.messages):
        if message.role in _INSTRUCTIONS and message.parts:
            return Address("messages", index, len(message.parts) - 1)
    return None


def _padded(segment: Segment, at: Address | None) -> Segment:
    return replace(segment, text=segment.text + "\n") if segment.at is not None and segment.at == at else segment


# Content blocks, the same for all formats but for what is counted beside their text.


def _parts(message: Message, index: int, tier: Tier, costs: Costs) -> Iterator[Segment]:
    last = len(message.parts) - 1
    for number, part in enumerate(message.parts):
        at = Address("messages", index, number)
        yield _block(part, at, message.role, tier, costs, ends_message=number == last)


def _block(part: Part, at: Address, role: str, tier: Tier, costs: Costs, *, ends_message: bool = False) -> Segment:
    return Segment(
        at=at,
        kind=_PART_KINDS.get(part.kind) or _ROLE_KINDS[role],
        tier=tier,
        text=checked_text(part_text(part, at), at),
        identity=wire_bytes([role, wire_form(part)], at),
        fixed_tokens=fixed_tokens(part, costs),
        marker=part.marker,
        markable=part.markable,
        ends_message=ends_message,
    )


_PART_KINDS: Mapping[PartKind, SegmentKind] = {
    "image": "image",
    "tool_call": "tool_call",
    "tool_result": "tool_result",
    "thinking": "thinking",
}

_ROLE_KINDS: Mapping[str, SegmentKind] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool_result",
}

_INSTRUCTIONS = frozenset({"system", "developer"})

_UNREAD = ("role", "type", "id", "status")
"""Fields of a message that say nothing beside its role, or that no model reads."""

_RENDERERS: Mapping[
    DialectName, tuple[Callable[[Request], Iterator[Segment]], Callable[[Message, int, Framing], Iterator[Segment]]]
] = {
    "anthropic_messages": (_claude, _claude_message),
    "openai_chat": (_openai, _openai_message),
    "openai_responses": (_openai, _openai_message),
}
