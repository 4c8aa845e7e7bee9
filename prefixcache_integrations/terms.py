"""How a request is cached under the settings of a cache."""

from __future__ import annotations

from prefixcache_integrations.caching import CacheSettings
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.flows.policy import bypass
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.prompt.keys import response_key


def terms_of(request: Request, settings: CacheSettings, *, secret: bytes, require_namespace: bool) -> Terms:
    """Return how ``request`` is cached under ``settings``; one that cannot be written down passes by."""
    namespace = settings.namespace or ""
    refused = "asked to skip the cache" if settings.mode == "skip" else bypass(request)
    if require_namespace and not namespace:
        refused = refused or "no namespace is named"
    try:
        digest = response_key(request, namespace=namespace, policy=settings.policy, secret=secret)
    except (MalformedRequest, RecursionError):
        digest, refused = "", refused or "the request cannot be written down"
    return Terms(
        key=EntryKey(namespace, digest),
        model=request.model or None,
        ttl=settings.ttl,
        tags=settings.tags,
        mode="use" if settings.mode == "skip" else settings.mode,
        bypass=refused,
    )
