"""How a simulated provider processes a request, as its usage tells: tier, speed and place.

Sources: openai 3.52.0, ``types/chat/completion_create_params.py``: the response names the tier that was used, which is
``default`` where the project says nothing else, and ``priority`` for ``fast``. anthropic 2.11.0, ``types/usage.py``.
There is no account here that has bought priority capacity of Claude's, and no workspace that defaults to a place.
"""

from __future__ import annotations

from msgspec.structs import replace

from prefixcache_integrations.canonical import Request, Usage
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.profiles import CacheProfile

_SPELT = {"fast": "priority"}


def processed(usage: Usage, request: Request, profile: CacheProfile) -> Usage:
    """Return ``usage`` with the tier, speed and place in which ``request`` is processed: what the model has of them."""
    if request.dialect == "anthropic_messages":
        speed, place = (as_text(request.options.get(name)) for name in ("speed", "inference_geo"))
        fast = speed == "fast" and "fast" in profile.processing
        return replace(
            usage,
            service_tier="standard",
            speed="fast" if fast else "standard" if speed else None,
            region=(place or "global") if profile.regions else "not_available",
        )
    asked = as_text(request.options.get("service_tier")) or "auto"
    tier = _SPELT.get(asked, asked)
    return replace(usage, service_tier=tier if tier in profile.processing else "default")
