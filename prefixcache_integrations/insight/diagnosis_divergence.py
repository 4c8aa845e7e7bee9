"""Where two requests first differ, and what kind of change that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Message, Part, Request, Tool
from prefixcache_integrations.events import BreakReason
from prefixcache_integrations.insight.diagnosis_differences import Difference, difference, setting_difference
from prefixcache_integrations.insight.diagnosis_moves import (
    are_messages_reordered,
    block_forms,
    first_unequal,
    innermost,
    is_reordered,
    is_shuffled,
    is_truncated,
    message_forms,
)
from prefixcache_integrations.insight.diagnosis_paths import (
    is_bare,
    message_path,
    part_json,
    part_path,
    system_path,
)
from prefixcache_integrations.insight.diagnosis_words import Divergence, settings_reason
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.cache_key import CACHE_KEY
from prefixcache_integrations.prompt.fingerprint import PROPERTIES, setting, traits

_INSTRUCTIONS = frozenset({"system", "developer"})


def divergence(previous: Request, current: Request, profile: CacheProfile, *, redact: bool = True) -> Divergence | None:
    """Return the first difference in render order; ``None`` where ``current`` is ``previous`` with more at its end.

    Cache markers are no difference. ``redact=False`` adds an excerpt of the prompt.
    Raises `MalformedRequest` for text that is no Unicode and values that are no JSON.
    """
    found = next(_differences(previous, current, profile), None)
    if found is None:
        return None
    row, place = found
    return replace(row, offset=place.offset, excerpt=None if redact else place.excerpt)


def _differences(previous: Request, current: Request, profile: CacheProfile) -> Iterator[tuple[Divergence, Difference]]:
    """Yield differences, the first in render order first: settings count from the tier that they are part of."""
    if (previous.dialect, previous.model) != (current.dialect, current.model):
        place = Difference(path="model", old=previous.model, new=current.model)
        yield Divergence(reason="model_changed", path="model"), place
    yield from _settings(previous, current, profile, "tools")
    yield from _tools(previous, current)
    yield from _settings(previous, current, profile, "system")
    yield from _system(previous, current)
    opening = min(_opening(previous), _opening(current))
    # OpenAI renders the first instructions, which stand among the messages, as the system tier.
    if previous.dialect != "anthropic_messages" and opening:
        yield from _messages(previous, current, stop=opening)
    yield from _settings(previous, current, profile, "messages")
    yield from _routing(previous, current, profile)
    yield from _messages(previous, current)


# Settings.


def _settings(
    previous: Request, current: Request, profile: CacheProfile, tier: Tier
) -> Iterator[tuple[Divergence, Difference]]:
    names = sorted(field for field, begins in profile.invalidation.items() if begins == tier)
    changed = frozenset() if PROPERTIES.keys().isdisjoint(names) else traits(previous) ^ traits(current)
    for name in names:
        if name == CACHE_KEY:
            continue
        if name in PROPERTIES:
            yield from _property(previous, current, name) if name in changed else ()
            continue
        place = setting_difference(setting(previous, name), setting(current, name), name)
        if place is not None:
            yield Divergence(reason=settings_reason(place.path), path=place.path), place


def _routing(previous: Request, current: Request, profile: CacheProfile) -> Iterator[tuple[Divergence, Difference]]:
    """Yield another key after tools and instructions: where it is made of them, they are what changed."""
    if CACHE_KEY not in profile.invalidation:
        return
    place = setting_difference(setting(previous, CACHE_KEY), setting(current, CACHE_KEY), CACHE_KEY)
    if place is not None:
        yield Divergence(reason=settings_reason(CACHE_KEY), path=place.path), place


def _property(previous: Request, current: Request, name: str) -> Iterator[tuple[Divergence, Difference]]:
    holder = current if setting(current, name) else previous
    at, path = next((at, path) for at, path, part in _blocks(holder) if any(map(PROPERTIES[name], _with_nested(part))))
    reason: BreakReason = "images_changed" if name == "images" else "settings_changed"
    yield Divergence(reason=reason, path=path, at=at), Difference(path=path, old=None, new=None)


def _blocks(request: Request) -> Iterator[tuple[Address, str, Part]]:
    for index, part in enumerate(request.system):
        yield Address("system", index), system_path(request, index), part
    for index, message in enumerate(request.messages):
        for number, part in enumerate(message.parts):
            yield Address("messages", index, number), part_path(request, index, number), part


def _with_nested(part: Part) -> Iterator[Part]:
    yield part
    for inner in part.content:
        yield from _with_nested(inner)


# Tools.


def _tools(previous: Request, current: Request) -> Iterator[tuple[Divergence, Difference]]:
    old, new = _rendered_tools(previous), _rendered_tools(current)
    place = difference([tool.raw for _, tool in old], [tool.raw for _, tool in new], "tools")
    if place is None:
        return
    shared = next(
        (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if difference(a[1].raw, b[1].raw)),
        min(len(old), len(new)),
    )
    index = (new if shared < len(new) else old)[shared][0]
    path = place.path.replace(f"tools[{shared}]", f"tools[{index}]", 1)
    names = Counter(tool.name for _, tool in old), Counter(tool.name for _, tool in new)
    yield (
        Divergence(
            reason=_tools_reason(old[shared:], new[shared:]),
            path=path,
            at=Address("tools", index),
            added=tuple((names[1] - names[0]).elements()),
            removed=tuple((names[0] - names[1]).elements()),
        ),
        place,
    )


def _rendered_tools(request: Request) -> list[tuple[int, Tool]]:
    """Return the tools with their indices, but those that Claude leaves out of the prefix."""
    left_out = request.dialect == "anthropic_messages"
    return [
        (index, tool)
        for index, tool in enumerate(request.tools)
        if not (left_out and tool.raw.get("defer_loading") is True)
    ]


def _tools_reason(old: Sequence[tuple[int, Tool]], new: Sequence[tuple[int, Tool]]) -> BreakReason:
    if old and new and old[0][1].name == new[0][1].name:
        return "tool_schema_changed"
    same_set = Counter(tool.name for _, tool in old) == Counter(tool.name for _, tool in new)
    return "tool_order_changed" if same_set else "tool_set_changed"


# System blocks and messages.


def _system(previous: Request, current: Request) -> Iterator[tuple[Divergence, Difference]]:
    number = first_unequal(block_forms("system", previous.system), block_forms("system", current.system))
    if number is None:
        return
    holder = current if number < len(current.system) else previous
    place = _part_difference(previous.system, current.system, number, system_path(holder, number))
    bare = (previous if holder is previous else current).bare_system and len(holder.system) == 1
    place = _unwrapped(place, system_path(holder, number), bare=bare)
    reason: BreakReason = (
        "document_order_changed"
        if is_reordered(previous.system, current.system, number) or is_shuffled(place)
        else "system_changed"
    )
    yield Divergence(reason=reason, path=place.path, at=Address("system", number)), place


def _messages(previous: Request, current: Request, stop: int | None = None) -> Iterator[tuple[Divergence, Difference]]:
    old, new = previous.messages[:stop], current.messages[:stop]
    for index, message in enumerate(old):
        if index == len(new):
            # Behind the opening: more of the current request may follow there.
            if stop is None:
                path = message_path(previous, index)
                row = Divergence(reason="history_truncated", path=path, at=Address("messages", index, 0))
                yield row, Difference(path=path, old="", new=None)
            return
        later = new[index]
        if later is message:
            continue
        number = first_unequal(message_forms(message), message_forms(later))
        if number is None or (number == len(message.parts) and index + 1 == len(previous.messages)):
            continue
        yield _in_message(previous, current, index, number)
        return


def _in_message(previous: Request, current: Request, index: int, number: int) -> tuple[Divergence, Difference]:
    old, new = previous.messages[index], current.messages[index]
    holder = current if number < len(new.parts) or number >= len(old.parts) else previous
    path = part_path(holder, index, number)
    if (old.role, old.raw.get("name")) != (new.role, new.raw.get("name")):
        field = "role" if old.role != new.role else "name"
        head = message_path(current, index)
        place = Difference(path=f"{head}.{field}", old=str(_field(old, field)), new=str(_field(new, field)))
    else:
        place = _part_difference(old.parts, new.parts, number, path)
        place = _unwrapped(place, path, bare=is_bare(holder.messages[index]))
    reason = _message_reason(previous, current, index, number, place)
    return Divergence(reason=reason, path=place.path, at=Address("messages", index, number)), place


def _field(message: Message, field: str) -> object:
    return message.role if field == "role" else message.raw.get(field, "")


def _part_difference(old: Sequence[Part], new: Sequence[Part], number: int, path: str) -> Difference:
    before = old[number] if number < len(old) else None
    after = new[number] if number < len(new) else None
    if before is None or after is None:
        return Difference(path=path, old=None, new=None)
    plain = before.bare and after.bare
    found = difference(part_json(before, plain_content=plain), part_json(after, plain_content=plain), path)
    return found or Difference(path=path, old=None, new=None)


def _unwrapped(place: Difference, path: str, *, bare: bool) -> Difference:
    """Take the text block away that stands for a plain string."""
    return replace(place, path=path) if bare and place.path == f"{path}.text" else place


def _message_reason(previous: Request, current: Request, index: int, number: int, place: Difference) -> BreakReason:
    old, new = previous.messages[index], current.messages[index]
    before, after, inner = innermost(old.parts, new.parts, number)
    pair = (*before[inner : inner + 1], *after[inner : inner + 1])
    if old.role == new.role and any(part.kind == "image" for part in pair):
        return "images_changed"
    later = previous.messages[index:], current.messages[index:]
    if is_reordered(before, after, inner) or is_shuffled(place) or are_messages_reordered(*later):
        return "document_order_changed"
    if previous.dialect != "anthropic_messages" and index < max(_opening(previous), _opening(current)):
        return "system_changed"
    if is_truncated(*later):
        return "history_truncated"
    if len(pair) == _BOTH and all(part.kind == "document" for part in pair):
        return "documents_changed"
    return "history_rewritten"


_BOTH = 2


def _opening(request: Request) -> int:
    """Return how many messages of instructions the conversation begins with."""
    roles = (message.role in _INSTRUCTIONS for message in request.messages)
    return next((index for index, is_instruction in enumerate(roles) if not is_instruction), len(request.messages))
