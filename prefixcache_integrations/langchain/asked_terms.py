"""What LangChain leaves out of the usage of a Claude stream, from what its request asked for.

langchain-anthropic reads the usage of a stream off its last event, which repeats neither the lifetimes of what was
written, nor tier, speed and place (Anthropic SDK, ``MessageDeltaUsage``), and drops ``iterations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.canonical.usage import UNTOLD, written_for

# What is billed as it is where the answer tells nothing else: "auto" may get the priority tier.
_PLAIN_TIERS = frozenset({None, "standard_only"})
_PLAIN_SPEEDS = frozenset({None, "standard"})
# What is in the answer of a call that was billed in several iterations, of which some are not in its counts.
_ITERATED = frozenset({"compaction", "advisor_tool_result"})


class AskedTerms(Struct, frozen=True, kw_only=True):
    """What a request to Claude asked for that decides its price; ``lifetimes`` of all of its markers."""

    lifetimes: frozenset[str] = frozenset()
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None


def asked_terms(settings: Mapping[str, Any], arguments: Mapping[str, Any], messages: list[BaseMessage]) -> AskedTerms:
    """Return what a call asks for: by its messages, its arguments, and the settings of its model, the last first."""
    places = [
        place
        for each in (arguments, settings)
        for place in (as_object(each.get("extra_body")), each, as_object(each.get("model_kwargs")))
        if place is not None
    ]

    def said(name: str) -> str | None:
        return next((text for place in places if (text := as_text(place.get(name))) is not None), None)

    return AskedTerms(
        lifetimes=_lifetimes([*places, *(message.content for message in messages)]),
        service_tier=said("service_tier"),
        speed=said("speed"),
        region=said("inference_geo"),
    )


def completed(usage: Usage, message: AIMessage, asked: AskedTerms) -> Usage:
    """Return ``usage`` of a Claude stream as far as the request tells the rest; `UNTOLD` is what it leaves open.

    Of a call in several iterations nothing is known: each has its price, and what is told is the last one's.
    """
    told = message.response_metadata
    if told.get("model_provider") != "anthropic" or "usage" in told:
        return usage
    if any(isinstance(block, dict) and block.get("type") in _ITERATED for block in message.content):
        return Usage()
    usage = written_for(usage, asked.lifetimes)
    return replace(
        usage,
        service_tier=usage.service_tier or (None if asked.service_tier in _PLAIN_TIERS else UNTOLD),
        speed=usage.speed or (None if asked.speed in _PLAIN_SPEEDS else UNTOLD),
        region=usage.region or asked.region,
    )


def _lifetimes(parts: list[Any]) -> frozenset[str]:
    found: set[str] = set()
    left = [*parts]
    while left:
        part = left.pop()
        if isinstance(part, list | tuple):
            left.extend(each for each in part if isinstance(each, dict | list))
        elif isinstance(part, dict):
            marker = part.get("cache_control")
            if isinstance(marker, dict) and marker.get("type") == "ephemeral":
                found.add(str(marker.get("ttl") or "5m"))
            left.extend(each for each in part.values() if isinstance(each, dict | list))
    return frozenset(found)
