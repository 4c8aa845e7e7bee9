"""Differences between two prompts as a model reads them that drops earlier thinking."""

from __future__ import annotations

from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Request
from prefixcache_integrations.insight.diagnosis_divergence import divergence
from prefixcache_integrations.insight.diagnosis_paths import part_path
from prefixcache_integrations.insight.diagnosis_words import Divergence
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.thinking import kept_thinking, last_said, without_thinking


def read_divergence(
    previous: Request, current: Request, profile: CacheProfile, *, redact: bool = True
) -> Divergence | None:
    """Return the first difference in what the model reads; as `divergence`, of which it tells the places."""
    until = last_said(current.messages) if profile.strips_thinking else 0
    if until == 0:
        return divergence(previous, current, profile, redact=redact)
    before, after = (
        replace(each, messages=(*without_thinking(each.messages[:until]), *each.messages[until:]))
        for each in (previous, current)
    )
    found = divergence(before, after, profile, redact=redact)
    dropped = kept_thinking(previous, profile, until)
    if dropped is None or (found is not None and not _is_behind(found, dropped)):
        return found and _as_sent(found, previous, current, until)
    path = part_path(previous, dropped.index, dropped.part or 0)
    return Divergence(reason="thinking_dropped", path=path, at=dropped)


def _is_behind(found: Divergence, dropped: Address) -> bool:
    return found.at is not None and found.at.section == "messages" and found.at.index >= dropped.index


def _as_sent(found: Divergence, previous: Request, current: Request, until: int) -> Divergence:
    """Number the blocks of the message as they were sent, with its thinking."""
    at = found.at
    if at is None or at.section != "messages" or at.part is None or at.index >= until:
        return found
    holder = current if at.index < len(current.messages) else previous
    numbers = [number for number, part in enumerate(holder.messages[at.index].parts) if part.kind != "thinking"]
    number = numbers[at.part] if at.part < len(numbers) else len(holder.messages[at.index].parts)
    short, full = (part_path(holder, at.index, each) for each in (at.part, number))
    path = full + found.path.removeprefix(short) if found.path.startswith(short) else found.path
    return replace(found, path=path, at=Address("messages", at.index, number))
