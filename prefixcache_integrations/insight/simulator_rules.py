"""What it means that a provider refuses a request: HTTP 400, in its own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.profiles.profile import CacheProfile


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a provider refuses a request; ``param`` and ``code`` are OpenAI's, ``None`` where it sends none."""

    message: str
    param: str | None = None
    code: str | None = None


Rule: TypeAlias = Callable[[Request, CacheProfile], Refusal | None]
