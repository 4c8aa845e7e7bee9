"""Markers and settings made for another provider's cache, as after a fallback: this one would refuse them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from operator import attrgetter, contains

from msgspec.structs import replace

from prefixcache_integrations.canonical import DialectName, Finding, JsonObject, Part, Request, Tool
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.profiles.profile import CacheProfile

_MARKERS: Mapping[DialectName, str] = {
    "anthropic_messages": "prompt_cache_breakpoint",
    "openai_chat": "cache_control",
    "openai_responses": "cache_control",
}
_SETTINGS: Mapping[DialectName, tuple[str, ...]] = {
    "anthropic_messages": ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    "openai_chat": ("cache_control",),
    "openai_responses": ("cache_control",),
}


def foreign_markers(request: Request, profile: CacheProfile, since: int = 0) -> str:
    """Return the field with another provider's markers, ``""`` where no block has one or the endpoint may know it.

    Routers that speak OpenAI's format take Claude's markers. Messages before number ``since`` have none.
    """
    field = _MARKERS[request.dialect]
    if not _refuses(profile):
        return ""
    raws = chain(map(_raw, request.tools), _raws(request, since))
    return field if any(map(contains, raws, repeat(field))) else ""


def foreign_settings(request: Request, profile: CacheProfile) -> dict[str, object]:
    """Return the request's settings of another provider's cache, each as ``None``: to be left out."""
    names = _SETTINGS[request.dialect] if _refuses(profile) else ()
    return {name: None for name in names if request.options.get(name) is not None}


def about_foreign(field: str) -> Iterator[Finding]:
    """Yield a finding where markers were removed."""
    if field:
        yield Finding(code="marker_removed", message=f"markers were removed: {field} is another provider's")


def _refuses(profile: CacheProfile) -> bool:
    """Tell whether the request goes to a provider itself, which refuses what it does not know."""
    return profile.provider in {"anthropic", "azure"} or profile.requests_per_key > 0


def _raws(request: Request, since: int) -> Iterator[JsonObject]:
    yield from _raws_of(request.system)
    for message in request.messages[since:]:
        yield message.raw
        yield from _raws_of(message.parts)


def _raws_of(parts: tuple[Part, ...]) -> Iterator[JsonObject]:
    for part in parts:
        yield part.raw
        if part.content:
            yield from _raws_of(part.content)


def without_markers(request: Request, field: str) -> Request:
    """Return ``request`` with no ``field`` on any block."""
    if not field:
        return request
    messages = (
        replace(message, raw=without(message.raw, field), parts=_bare(message.parts, field))
        for message in request.messages
    )
    tools = tuple(replace(tool, raw=without(tool.raw, field)) for tool in request.tools)
    return replace(request, tools=tools, system=_bare(request.system, field), messages=tuple(messages))


def _bare(parts: tuple[Part, ...], field: str) -> tuple[Part, ...]:
    return tuple(
        replace(part, raw=without(part.raw, field), content=_bare(part.content, field))
        if field in part.raw or part.content
        else part
        for part in parts
    )


_raw: Callable[[Tool], JsonObject] = attrgetter("raw")
