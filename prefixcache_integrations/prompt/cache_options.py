"""A request's own cache settings, without those that its model would refuse.

An application that falls back to an older model, or moves to a newer one, sends settings made for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefixcache_integrations.canonical import Finding, JsonObject, Request
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.foreign import foreign_settings

_OPTIONS = "prompt_cache_options"
_RETENTION = "prompt_cache_retention"


def repaired_options(request: Request, profile: CacheProfile) -> tuple[JsonObject, tuple[Finding, ...]]:
    """Return the fields to send instead of the request's own, ``None`` for one to leave out, and what was done.

    ``prompt_cache_options`` goes where the model takes no breakpoints, its ``ttl`` where the model or, on Chat
    Completions, the format has only the shortest (openai 3.52.0, ``chat/completion_create_params.py``);
    ``prompt_cache_retention`` goes where the model has other values (OpenAI docs, prompt caching), and so do another
    provider's settings. An unknown model's settings stay as they are.
    """
    changes = foreign_settings(request, profile)
    if request.dialect != "anthropic_messages" and profile.known:
        changes |= dict((*_cache_options(request, profile), *_retention(request, profile)))
    return changes, tuple(_finding(name, value) for name, value in changes.items())


def _cache_options(request: Request, profile: CacheProfile) -> Iterator[tuple[str, object]]:
    options = as_object(request.options.get(_OPTIONS))
    if options is None:
        return
    if profile.regime != "breakpoints":
        yield _OPTIONS, None
    elif options.get("ttl") not in (None, *_lifetimes(request, profile)):
        yield _OPTIONS, without(options, "ttl")


def _lifetimes(request: Request, profile: CacheProfile) -> tuple[str, ...]:
    names = tuple(lifetime.name for lifetime in profile.lifetimes)
    return names[:1] if request.dialect == "openai_chat" else names


def _retention(request: Request, profile: CacheProfile) -> Iterator[tuple[str, object]]:
    asked = request.options.get(_RETENTION)
    if asked is not None and profile.retention and asked not in profile.retention:
        yield _RETENTION, None


def _finding(name: str, value: object) -> Finding:
    field = name if value is None else f"{name}.ttl"
    return Finding(code="option_removed", message=f"{field} was removed: the model does not take it")


def explicit_mode(request: Request, changes: Mapping[str, object]) -> JsonObject:
    """Return the field that keeps the provider from marking the latest message by itself, on top of ``changes``.

    OpenAI docs, prompt caching: in mode ``explicit`` nothing is written but at breakpoints.
    """
    before = changes[_OPTIONS] if _OPTIONS in changes else request.options.get(_OPTIONS)
    return {_OPTIONS: {**(as_object(before) or {}), "mode": "explicit"}}


def with_options(options: JsonObject, changes: Mapping[str, object]) -> JsonObject:
    """Return ``options`` with ``changes``; a field changed to ``None`` is left out."""
    merged = {**options, **changes}
    return without(merged, *(name for name, value in changes.items() if value is None)) if changes else options
