"""The identity of a prompt's prefixes, as the provider sees it: what two requests share, in wire order.

Not the identity answers are served by: that one is in `prefixcache_integrations.prompt.keys`.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter

from prefixcache_integrations.canonical import DialectName, Message, Part, Request
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles.profile import CacheProfile, Tier
from prefixcache_integrations.prompt.identity import canonical_json
from prefixcache_integrations.prompt.segments import Segment

__all__ = [
    "PROPERTIES",
    "PrefixNumbers",
    "RollingDigest",
    "canonical_json",
    "prefix_digests",
    "setting",
    "tier_seeds",
    "traits",
    "traits_of",
]

DIGEST_BYTES = 16

TIERS: tuple[Tier, ...] = ("tools", "system", "messages")
"""The parts of a prompt, in the order in which it is rendered."""

_DEFAULTS: Mapping[DialectName, Mapping[str, object]] = {
    # Claude docs, prompt caching: setting a default is the same as leaving the field out.
    "anthropic_messages": {
        "output_config.effort": "high",
        "speed": "standard",
        "thinking": {"type": "disabled"},
        "tool_choice": {"type": "auto"},
        "tool_choice.disable_parallel_tool_use": False,
    },
    # OpenAI API reference: the default of each field.
    "openai_chat": {
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "verbosity": "medium",
    },
    "openai_responses": {
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "text.format": {"type": "text"},
        "text.verbosity": "medium",
    },
}


def prefix_digests(prompt: Sequence[Segment], seeds: Mapping[Tier, bytes]) -> tuple[bytes, ...]:
    """Return the digest of the prefix up to and with each segment: 16 bytes that depend on all before it.

    ``seeds`` is what `tier_seeds` returns; each is mixed in where its tier begins, so that a setting which loses
    the cache from some tier on changes no digest before it.
    """
    return tuple(map(RollingDigest(seeds).add, prompt))


class RollingDigest:
    """The digest of a prefix to which segments are added, as `prefix_digests` returns it."""

    def __init__(self, seeds: Mapping[Tier, bytes]) -> None:
        self._seeds = seeds
        self._rolling = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._begun = 0

    def copy(self) -> RollingDigest:
        """Return another one of the same prefix."""
        other = RollingDigest(self._seeds)
        other._rolling, other._begun = self._rolling.copy(), self._begun
        return other

    def add(self, segment: Segment) -> bytes:
        """Add a segment, and return the digest of the prefix up to and with it."""
        reached = TIERS.index(segment.tier) + 1
        for tier in TIERS[self._begun : reached]:
            self._mix(self._seeds.get(tier, b""))
        self._begun = max(self._begun, reached)
        self._mix(segment.identity)
        return self._rolling.digest()

    def _mix(self, data: bytes) -> None:
        self._rolling.update(len(data).to_bytes(8, "big"))
        self._rolling.update(data)


class PrefixNumbers:
    """Tells prefixes apart as `prefix_digests` does, several times as fast: by numbers that mean nothing elsewhere."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, bytes], int] = {}

    def __call__(self, prompt: Sequence[Segment], seeds: Mapping[Tier, bytes]) -> tuple[bytes, ...]:
        """Return 16 bytes for the prefix up to and with each segment."""
        numbers, number, begun = self._numbers, 0, 0
        found = []
        for segment in prompt:
            if begun < len(TIERS):
                reached = TIERS.index(segment.tier) + 1
                for tier in TIERS[begun:reached]:
                    number = numbers.setdefault((number, seeds.get(tier, b"")), len(numbers) + 1)
                begun = max(begun, reached)
            number = numbers.setdefault((number, segment.identity), len(numbers) + 1)
            found.append(number.to_bytes(DIGEST_BYTES, "big"))
        return tuple(found)


def tier_seeds(request: Request, profile: CacheProfile, known: Collection[str] | None = None) -> Mapping[Tier, bytes]:
    """Return what beside the segments decides whether a prefix is found, for each tier it begins with.

    The model counts from the first tier on; every field that ``profile.invalidation`` lists, from the tier it
    names. A field may be a path with dots, or one of ``images`` and ``citations``: whether any block of the request
    has them: ``known`` are those that one has, if that is known. A documented default that is spelled out is the
    same as one left out.
    """
    settings: dict[Tier, list[object]] = {tier: [] for tier in TIERS}
    settings["tools"].append(request.model)
    if known is None:
        known = () if PROPERTIES.keys().isdisjoint(profile.invalidation) else traits(request)
    for name, tier in sorted(profile.invalidation.items()):
        settings[tier].append([name, name in known if name in PROPERTIES else setting(request, name)])
    try:
        return _seeds_of(marshal.dumps(settings, 2))
    except ValueError:  # no JSON, most likely
        return _seeds(settings)


@lru_cache(maxsize=1024)
def _seeds_of(written: bytes) -> Mapping[Tier, bytes]:
    """Return the seeds of settings as `marshal` wrote them: an application has a few."""
    return _seeds(marshal.loads(written))  # noqa: S302 - written here


def _seeds(settings: Mapping[Tier, list[object]]) -> Mapping[Tier, bytes]:
    return {
        tier: hashlib.blake2b(canonical_json(values, "options"), digest_size=DIGEST_BYTES).digest()
        for tier, values in settings.items()
    }


def setting(request: Request, name: str) -> object:
    """Return the value that ``name`` has for `tier_seeds`; ``None`` where it is left out or a documented default."""
    if name in PROPERTIES:
        return name in traits(request)
    field, *inside = name.split(".")
    value = request.options.get(field)
    for step in inside:
        value = (as_object(value) or {}).get(step)
    return None if value is None else _without_defaults(value, name, _DEFAULTS[request.dialect])


def _without_defaults(value: object, path: str, defaults: Mapping[str, object]) -> object:
    fields = as_object(value)
    if fields is not None:
        kept = {name: _without_defaults(field, f"{path}.{name}", defaults) for name, field in fields.items()}
        value = {name: field for name, field in kept.items() if field is not None} or None
    return None if value == defaults.get(path) else value


def traits_of(parts: Iterable[Part]) -> frozenset[str]:
    """Return the names of the `PROPERTIES` that any of ``parts`` has, or what is nested in them."""
    found = level = [*parts]
    while level := [*chain.from_iterable(map(_content, level))]:
        found = [*found, *level]
    odd = [part for part in found if part.kind == "image" or "citations" in part.raw]  # few, and no other has any
    return frozenset(name for name, has in PROPERTIES.items() if any(map(has, odd)))


def traits(request: Request) -> frozenset[str]:
    """Return the names of the `PROPERTIES` that any block of ``request`` has."""
    return traits_of((*request.system, *chain.from_iterable(map(_parts, request.messages))))


_parts: Callable[[Message], tuple[Part, ...]] = attrgetter("parts")
_content: Callable[[Part], tuple[Part, ...]] = attrgetter("content")

PROPERTIES: Mapping[str, Callable[[Part], bool]] = {
    "images": lambda part: part.kind == "image",
    "citations": lambda part: (as_object(part.raw.get("citations")) or {}).get("enabled") is True,
}
"""Settings that are no field of the body: whether any block of the request is such a one."""
