"""What Claude refuses with HTTP 400, in its own words, so that a prompt that passes here passes there.

Only rules about the layout of a prompt are here: what a cache marker may stand on, how many, in what order, and
that tool calls and their results match. Texts are those of Claude's error bodies, as its users report them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise, takewhile

import msgspec
from msgspec import Struct

from prefixcache_integrations.canonical import CacheMarker, Message, Part, Request, Tool
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.insight.simulator_rules import Refusal, Rule
from prefixcache_integrations.profiles.profile import CacheProfile


def hoisted(request: Request) -> Request:
    """Return ``request`` with the markers on the last block inside a tool result or document on that block itself.

    That is where Claude counts them (Claude release notes: cache_control on nested content). Messages without any are
    the same objects.
    """
    messages = tuple(map(_hoisted_message, request.messages))
    return msgspec.structs.replace(request, messages=messages)


def _hoisted_message(message: Message) -> Message:
    for part in message.parts:
        if part.content and part.content[-1].marker is not None:
            return msgspec.structs.replace(message, parts=tuple(map(_hoisted_part, message.parts)))
    return message


def _hoisted_part(part: Part) -> Part:
    if part.marker is not None or not part.content or part.content[-1].marker is None:
        return part
    inner = msgspec.structs.replace(part.content[-1], marker=None)
    return msgspec.structs.replace(part, marker=part.content[-1].marker, content=(*part.content[:-1], inner))


class _Place(Struct, frozen=True):
    """A tool or block that could carry a marker, with its path as Claude's errors spell it."""

    path: str
    item: Tool | Part


def _places(request: Request) -> Iterator[_Place]:
    """Yield tools, system blocks and content blocks in the order Claude renders them."""
    for index, tool in enumerate(request.tools):
        yield _Place(f"tools.{index}", tool)
    for index, part in enumerate(request.system):
        yield _Place(f"system.{index}", part)
    for number, message in enumerate(request.messages):
        for index, part in enumerate(message.parts):
            yield _Place(f"messages.{number}.content.{index}", part)


def _marked(request: Request) -> Iterator[tuple[_Place, CacheMarker]]:
    for place in _places(request):
        if place.item.marker is not None:
            yield place, place.item.marker


def _required_fields(request: Request, _: CacheProfile) -> Refusal | None:
    limit = request.options.get("max_tokens")
    if limit is None:
        return Refusal(message="max_tokens: Field required")
    if not isinstance(limit, int) or isinstance(limit, bool):
        return Refusal(message="max_tokens: Input should be a valid integer")
    if limit < 0:
        return Refusal(message="max_tokens: Input should be greater than or equal to 0")
    return None


def _prewarm(request: Request, _: CacheProfile) -> Refusal | None:
    """With ``max_tokens`` 0 nothing may ask for an answer (Claude docs, prompt caching: pre-warming)."""
    if request.options.get("max_tokens") != 0:
        return None
    thinking = as_object(request.options.get("thinking")) or {}
    output = as_object(request.options.get("output_config")) or {}
    choice = as_object(request.options.get("tool_choice")) or {}
    conflicts = {
        "stream": request.options.get("stream") is True,
        "thinking": thinking.get("type") == "enabled",
        "output_config.format": output.get("format") is not None,
        "tool_choice": choice.get("type") in ("any", "tool"),
    }
    named = next((name for name, conflict in conflicts.items() if conflict), None)
    return None if named is None else Refusal(message=f"{named}: not supported when max_tokens is 0")


def _late_system(request: Request, profile: CacheProfile) -> Refusal | None:
    has_system = any(message.role == "system" for message in request.messages)
    if has_system and profile.late_instructions != "system":
        return Refusal(message="role 'system' is not supported on this model")
    return None


def _refused_places(request: Request, _: CacheProfile) -> Refusal | None:
    for place, _marker in _marked(request):
        item = place.item
        if isinstance(item, Tool):
            if item.raw.get("defer_loading") is True:
                return Refusal(
                    message=f"Tool '{item.name}' cannot have both defer_loading=true and cache_control set. "
                    "Tools with defer_loading cannot use prompt caching."
                )
        elif item.kind == "text" and not item.text:
            return Refusal(message=f"{place.path}.text: cache_control cannot be set for empty text blocks")
        elif item.kind == "thinking" or item.raw.get("type") in ("fallback", "redacted_thinking"):
            return Refusal(message=f"{place.path}.{item.raw.get('type')}.cache_control: Extra inputs are not permitted")
    return None


def _foreign_markers(request: Request, _: CacheProfile) -> Refusal | None:
    settings = [name for name in _OPENAI_SETTINGS if request.options.get(name) is not None]
    blocks = [place for place in _places(request) if "prompt_cache_breakpoint" in place.item.raw]
    paths = [*settings, *(f"{place.path}.{place.item.raw.get('type')}.prompt_cache_breakpoint" for place in blocks)]
    return Refusal(message=f"{paths[0]}: Extra inputs are not permitted") if paths else None


_OPENAI_SETTINGS = ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention")


def _nested_markers(request: Request, _: CacheProfile) -> Refusal | None:
    for place in _places(request):
        if isinstance(place.item, Part):
            for index, inner in enumerate(place.item.content):
                if inner.marker is not None and index < len(place.item.content) - 1:
                    path = f"{place.path}.{place.item.raw.get('type')}.content.{index}"
                    return Refusal(message=f"{path}.cache_control: Extra inputs are not permitted")
    return None


def _known_ttls(request: Request, profile: CacheProfile) -> Refusal | None:
    names = [row.name for row in profile.lifetimes]
    automatic = [("cache_control", request.marker)] if request.marker else []
    for path, marker in [*automatic, *((f"{place.path}.cache_control", marker) for place, marker in _marked(request))]:
        if marker.raw is not None and marker.raw.get("type") != "ephemeral":
            return Refusal(message=f"{path}.type: Input should be 'ephemeral'")
        if names and marker.ttl is not None and marker.ttl not in names:
            return Refusal(message=f"{path}.ttl: Input should be {' or '.join(repr(name) for name in names)}")
    return None


def _automatic_target(request: Request) -> _Place | None:
    """Return the last block that may carry the automatic marker; where there is none, it is skipped silently."""
    targets = [place for place in _places(request) if place.item.markable]
    return targets[-1] if targets else None


def _automatic_conflict(request: Request, _: CacheProfile) -> Refusal | None:
    target = _automatic_target(request) if request.marker else None
    if request.marker is None or target is None or target.item.marker is None:
        return None
    asked, found = request.marker.ttl or "5m", target.item.marker.ttl or "5m"
    if asked == found:
        return None
    return Refusal(
        message=f"Top-level cache_control has ttl='{asked}' but the target block already has cache_control "
        f"with ttl='{found}'"
    )


def _too_many_markers(request: Request, profile: CacheProfile) -> Refusal | None:
    found = sum(1 for _ in _marked(request))
    target = _automatic_target(request) if request.marker else None
    found += target is not None and target.item.marker is None
    if found <= profile.max_breakpoints:
        return None
    limit = profile.max_breakpoints
    return Refusal(message=f"A maximum of {limit} blocks with cache_control may be provided. Found {found}.")


def _ttl_order(request: Request, profile: CacheProfile) -> Refusal | None:
    """No marker may ask for a longer lifetime than one before it."""
    rows = [(place.path, profile.lifetime(marker.ttl)) for place, marker in _marked(request)]
    if request.marker is not None and (target := _automatic_target(request)) and target.item.marker is None:
        rows.append((target.path, profile.lifetime(request.marker.ttl)))
    for (_, before), (path, after) in pairwise(rows):
        if before is not None and after is not None and after.seconds > before.seconds:
            return Refusal(
                message=f"{path}.cache_control.ttl: a ttl='{after.name}' cache_control block must not come after a "
                f"ttl='{before.name}' cache_control block. Note that blocks are processed in the following order: "
                "`tools`, `system`, `messages`."
            )
    return None


def _empty_text(request: Request, _: CacheProfile) -> Refusal | None:
    for number, message in enumerate(request.messages):
        final_answer = number == len(request.messages) - 1 and message.role == "assistant"
        empty = not message.parts or (message.bare and not message.parts[0].text)
        if empty and not final_answer:
            return Refusal(
                message=f"messages.{number}: all messages must have non-empty content except for the optional final "
                "assistant message"
            )
    blocks = (("messages", message.parts) for message in request.messages if not message.bare)
    for section, parts in [("system", () if request.bare_system else request.system), *blocks]:
        texts = [part.text for part in parts if part.kind == "text"]
        if not all(texts):
            return Refusal(message=f"{section}: text content blocks must be non-empty")
        if not all(text.strip() for text in texts):
            return Refusal(message=f"{section}: text content blocks must contain non-whitespace text")
    return None


def _tool_pairs(request: Request, _: CacheProfile) -> Refusal | None:
    """Every tool call is answered at the beginning of the next turn, and nothing else is.

    Claude docs, *Handle tool calls*: results come first in the content, text after them.
    """
    nothing = _Turn(len(request.messages), (), (), ())
    for before, after in pairwise([nothing, *_turns(request.messages), nothing]):
        if missing := [name for name in before.called if name not in after.answered_first]:
            return Refusal(
                message=f"messages.{before.index}: `tool_use` ids were found without `tool_result` blocks immediately "
                f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message."
            )
        if unasked := [name for name in after.answered if name not in before.called]:
            return Refusal(
                message=f"messages.{after.index}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{unasked[0]}. Each `tool_result` block must have a corresponding `tool_use` block in the previous "
                "message."
            )
    return None


class _Turn(Struct, frozen=True):
    """Consecutive messages of one role, which Claude reads as one: the ids of the calls and results in them.

    ``answered_first`` are those of the results that nothing else stands before.
    """

    index: int
    called: tuple[str, ...]
    answered: tuple[str, ...]
    answered_first: tuple[str, ...]


def _turns(messages: Sequence[Message]) -> Iterator[_Turn]:
    """Yield the turns; results of the server's own tools stand in the turn of their call and are left out."""
    for _, run in groupby(enumerate(messages), key=lambda row: row[1].role):
        (index, first), *others = run
        parts = [part for message in (first, *(message for _, message in others)) for part in message.parts]
        first_results = takewhile(lambda part: part.raw.get("type") == "tool_result", parts)
        yield _Turn(index, _ids(parts, "tool_use"), _ids(parts, "tool_result"), _ids([*first_results], "tool_result"))


def _ids(parts: Sequence[Part], kind: str) -> tuple[str, ...]:
    return tuple(part.call_id for part in parts if part.raw.get("type") == kind and part.call_id is not None)


ANTHROPIC_RULES: tuple[Rule, ...] = (
    _required_fields,
    _prewarm,
    _late_system,
    _refused_places,
    _foreign_markers,
    _nested_markers,
    _known_ttls,
    _automatic_conflict,
    _too_many_markers,
    _ttl_order,
    _empty_text,
    _tool_pairs,
)
