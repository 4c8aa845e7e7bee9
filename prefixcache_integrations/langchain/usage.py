"""The tokens of a finished LangChain message, read from the most complete thing it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from langchain_core.messages import AIMessage

from prefixcache_integrations.canonical import JsonObject, Usage
from prefixcache_integrations.canonical.json import as_count, as_object, as_text
from prefixcache_integrations.dialects.usage import CHAT_USAGE, decode_claude
from prefixcache_integrations.insight.call_table import Served

_RAW: Mapping[object, tuple[str, Callable[[JsonObject], Usage]]] = {
    "anthropic": ("usage", decode_claude),
    "openai": ("token_usage", CHAT_USAGE.decode),
}
_EPHEMERAL = {"5m": "ephemeral_5m_input_tokens", "1h": "ephemeral_1h_input_tokens"}
_TIERS = ("priority", "flex")


def served_by(message: AIMessage) -> Served:
    """Return who answered with ``message``.

    langchain-core leaves one trace on what comes out of a cache: ``total_cost`` in the usage.
    """
    ours = as_object(message.response_metadata.get("prefixcache")) or {}
    if ours.get("hit"):
        return "response_cache"
    return "other_cache" if "total_cost" in (message.usage_metadata or {}) else "provider"


def usage_of(message: AIMessage) -> Usage:
    """Return what the call that gave ``message`` consumed; what nobody reported is ``None``.

    The provider's own usage object comes first, LangChain's ``usage_metadata`` fills what it leaves open.
    """
    metadata = message.response_metadata
    readings = (
        _usage_of_raw(metadata),
        usage_of_metadata(message.usage_metadata or {}),
        Usage(service_tier=as_text(metadata.get("service_tier"))),
    )
    first_known = {
        name: next(value for reading in readings if (value := getattr(reading, name)) is not None)
        for name in Usage.__struct_fields__
        if any(getattr(reading, name) is not None for reading in readings)
    }
    return Usage(**first_known)


def usage_of_metadata(metadata: Mapping[str, object]) -> Usage:
    """Read LangChain's ``usage_metadata``, whose ``input_tokens`` include cache reads and writes.

    langchain-anthropic puts ``cache_creation`` to 0 beside the ``ephemeral_*`` counts that hold the writes;
    langchain-openai puts the tier in front of the names on the priority and flex tiers. Both write 0 for an
    ``input_tokens`` they were not told: no request has none, so that 0 is read as unknown.
    """
    details = as_object(metadata.get("input_token_details")) or {}
    by_ttl = {ttl: count for ttl, name in _EPHEMERAL.items() if (count := as_count(details.get(name))) is not None}
    generic = _by_suffix(details, "cache_creation")
    return Usage(
        input_tokens=as_count(metadata.get("input_tokens")) or None,
        cache_read_tokens=_by_suffix(details, "cache_read"),
        cache_write_tokens=(sum(by_ttl.values()) or generic or 0) if by_ttl else generic,
        cache_write_by_ttl=by_ttl if any(by_ttl.values()) else None,
        output_tokens=as_count(metadata.get("output_tokens")),
        service_tier=next((tier for tier in _TIERS if f"{tier}_cache_read" in details), None),
    )


def _usage_of_raw(metadata: JsonObject) -> Usage:
    name, decode = _RAW.get(metadata.get("model_provider"), ("", None))
    raw = as_object(metadata.get(name))
    return Usage() if raw is None or decode is None else decode(raw)


def _by_suffix(details: JsonObject, suffix: str) -> int | None:
    matching = (as_count(count) for name, count in details.items() if name == suffix or name.endswith(f"_{suffix}"))
    return next((count for count in matching if count is not None), None)
