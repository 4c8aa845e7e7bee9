"""A provider-neutral request: what the dialects decode to, and what planner, keys and simulator read.

Every object keeps the provider's own JSON in ``raw``, so that what is only read and encoded again is
equal to what came in, unknown fields included. ``raw`` is what goes back to the wire; the other fields
are a reading of it. Cache markers are the exception: they are taken out of ``raw`` into ``marker``,
because they are no part of what the model reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self, TypeAlias, TypeVar

from msgspec import Struct, field

from prefixcache_integrations.canonical.json import JsonObject

DialectName: TypeAlias = Literal["anthropic_messages", "openai_chat", "openai_responses"]
Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
PartKind: TypeAlias = Literal[
    "text", "image", "audio", "document", "tool_call", "tool_result", "thinking", "refusal", "other"
]
Section: TypeAlias = Literal["tools", "system", "messages"]

_T = TypeVar("_T")


class CacheMarker(Struct, frozen=True, kw_only=True, gc=False):
    """A place where the provider is told to write the prefix: ``cache_control`` or ``prompt_cache_breakpoint``.

    ``ttl`` is the lifetime asked for ("5m", "1h", "30m", "12h"); ``None`` leaves it to the provider.
    ``raw`` is the marker as it was found on the wire, ``None`` for one of ours.
    """

    ttl: str | None = None
    raw: JsonObject | None = None


class Address(Struct, frozen=True, order=True, gc=False):
    """The place of a tool, a system block or a message part in a request.

    ``part`` is the index in the message's parts, and ``None`` for tools and system blocks.
    """

    section: Section
    index: int
    part: int | None = None

    def __str__(self) -> str:
        """Return the path as people write it, such as ``messages[3].parts[0]``."""
        head = f"{self.section}[{self.index}]"
        return head if self.part is None else f"{head}.parts[{self.part}]"


class Part(Struct, frozen=True, kw_only=True, gc=False):
    """One block of content.

    ``text`` is what the model reads of it: the text itself, a thinking block's text, a tool call's
    arguments as JSON. ``content`` holds the parts nested in a tool result or document. ``markable`` says
    whether the wire format lets this block carry a cache marker. ``call_id`` names the tool call that a
    block is, or that it answers. ``bare`` is true for a block whose nested content was a plain string.
    """

    kind: PartKind
    raw: JsonObject
    text: str = ""
    marker: CacheMarker | None = None
    markable: bool = False
    call_id: str | None = None
    name: str | None = None
    content: tuple[Part, ...] = ()
    bare: bool = False


class Tool(Struct, frozen=True, kw_only=True, gc=False):
    """A tool the model may call; ``schema`` is the JSON schema of its arguments, ``None`` where it has none.

    ``markable`` is false for deferred tools and wherever the wire format has no marker on tools.
    """

    name: str
    raw: JsonObject
    description: str = ""
    schema: JsonObject | None = None
    marker: CacheMarker | None = None
    markable: bool = False


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """One message; ``raw`` has all its fields but the parts. ``bare``: its content was a plain string."""

    role: Role
    parts: tuple[Part, ...] = ()
    raw: JsonObject = field(default_factory=dict)
    bare: bool = False


class Kept(tuple[_T, ...]):
    """Messages or tools that nobody else can change, as a tuple that knows what they say.

    ``heads`` is a hash of all that is said up to and with each, within this process: their reader had it at hand.
    """

    heads: tuple[int, ...]

    def __new__(cls, said: Iterable[_T], heads: tuple[int, ...]) -> Self:
        """Return what is ``said`` with its ``heads``."""
        made = super().__new__(cls, said)
        made.heads = heads
        return made

    def __reduce__(self) -> tuple[type, tuple[tuple[_T, ...]]]:
        """Elsewhere, and as a copy, it is a tuple like any."""
        return tuple, (tuple(self),)


class Request(Struct, frozen=True, kw_only=True):
    """One call to a model, in the provider's order: tools, system, messages.

    ``system`` is the top-level system prompt of formats that have one (Claude ``system``, Responses
    ``instructions``); system and developer messages stay among the messages. ``options`` is every other
    field of the body, unread. ``marker`` is Claude's top-level ``cache_control``: the automatic breakpoint.
    ``bare_system``: the system prompt was a plain string.
    """

    dialect: DialectName
    model: str
    tools: tuple[Tool, ...] = ()
    system: tuple[Part, ...] = ()
    messages: tuple[Message, ...] = ()
    options: JsonObject = field(default_factory=dict)
    marker: CacheMarker | None = None
    bare_system: bool = False
