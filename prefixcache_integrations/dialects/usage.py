"""The providers' usage objects, normalised: inclusive input, disjoint cache buckets, unknown is ``None``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Iteration, JsonObject, Usage
from prefixcache_integrations.canonical.json import as_count, as_list, as_object, as_text

_CLAUDE_TTLS = {"5m": "ephemeral_5m_input_tokens", "1h": "ephemeral_1h_input_tokens"}
_OPENAI_TTLS = {"30m": "ttl_30m_tokens", "12h": "ttl_12h_tokens"}


def decode_claude(usage: JsonObject) -> Usage:
    """Read a Claude usage object, whose ``input_tokens`` leave out what was read from and written to the cache.

    ``iterations`` holds every billed sampling, compaction and advisor run, of which the fields beside it
    leave some out (Anthropic SDK, ``BetaUsage.iterations``): where it is present, it is what is added up.
    """
    told = _objects(as_list(usage.get("iterations")) or ())
    summed = _claude_sum(told or [usage], usage)
    if not any(as_text(row.get("model")) for row in told):
        return summed
    parts = (Iteration(model=as_text(row.get("model")), usage=_claude_sum([row], usage)) for row in told)
    return replace(summed, iterations=tuple(parts))


def _claude_sum(rows: Sequence[JsonObject], usage: JsonObject) -> Usage:
    by_ttl = _by_ttl(_objects(row.get("cache_creation") for row in rows), _CLAUDE_TTLS)
    read = _total(rows, "cache_read_input_tokens")
    write = _total(rows, "cache_creation_input_tokens")
    if write is None and by_ttl is not None:
        write = sum(by_ttl.values())
    uncached = _total(rows, "input_tokens")
    return Usage(
        input_tokens=None if uncached is None else uncached + (read or 0) + (write or 0),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_by_ttl=by_ttl,
        output_tokens=_total(rows, "output_tokens"),
        service_tier=as_text(usage.get("service_tier")),
        speed=as_text(usage.get("speed")),
        region=as_text(usage.get("inference_geo")),
    )


def encode_claude(usage: Usage) -> dict[str, object]:
    """Write usage as Claude reports it; what is unknown is left out."""
    uncached = None
    if usage.input_tokens is not None:
        uncached = usage.input_tokens - (usage.cache_read_tokens or 0) - (usage.cache_write_tokens or 0)
    return _known(
        input_tokens=uncached,
        cache_creation_input_tokens=usage.cache_write_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        cache_creation=_split(usage.cache_write_by_ttl, _CLAUDE_TTLS),
        output_tokens=usage.output_tokens,
        service_tier=usage.service_tier,
        speed=usage.speed,
        inference_geo=usage.region,
    )


class OpenAIUsage(Struct, frozen=True, kw_only=True):
    """The field names of one OpenAI usage object, whose input already includes cache reads and writes.

    ``required`` is true where the format has no way to leave a detail out: then an unknown count is written as 0.
    """

    input: str
    input_details: str
    output: str
    output_details: str
    required: bool

    def decode(self, usage: JsonObject) -> Usage:
        """Read a usage object; a count that is absent is unknown."""
        details = as_object(usage.get(self.input_details)) or {}
        return Usage(
            input_tokens=as_count(usage.get(self.input)),
            cache_read_tokens=as_count(details.get("cached_tokens")),
            cache_write_tokens=as_count(details.get("cache_write_tokens")),
            cache_write_by_ttl=_by_ttl(_objects([details.get("cache_write_tokens_details")]), _OPENAI_TTLS),
            output_tokens=as_count(usage.get(self.output)),
        )

    def encode(self, usage: Usage) -> dict[str, object]:
        """Write a usage object; what is unknown is left out, except where the format requires it."""
        floor = 0 if self.required else None
        details = _known(
            cached_tokens=floor if usage.cache_read_tokens is None else usage.cache_read_tokens,
            cache_write_tokens=floor if usage.cache_write_tokens is None else usage.cache_write_tokens,
            cache_write_tokens_details=_split(usage.cache_write_by_ttl, _OPENAI_TTLS),
        )
        total = None
        if usage.input_tokens is not None and usage.output_tokens is not None:
            total = usage.input_tokens + usage.output_tokens
        fields = {
            self.input: usage.input_tokens,
            self.input_details: details or None,
            self.output: usage.output_tokens,
            self.output_details: {"reasoning_tokens": 0} if self.required else None,
            "total_tokens": total,
        }
        return _known(**fields)


CHAT_USAGE = OpenAIUsage(
    input="prompt_tokens",
    input_details="prompt_tokens_details",
    output="completion_tokens",
    output_details="completion_tokens_details",
    required=False,
)
RESPONSES_USAGE = OpenAIUsage(
    input="input_tokens",
    input_details="input_tokens_details",
    output="output_tokens",
    output_details="output_tokens_details",
    required=True,
)


def _objects(values: Iterable[object]) -> list[JsonObject]:
    return [found for found in map(as_object, values) if found is not None]


def _total(rows: Sequence[JsonObject], name: str) -> int | None:
    counts = [count for count in (as_count(row.get(name)) for row in rows) if count is not None]
    return sum(counts) if counts else None


def _by_ttl(splits: Sequence[JsonObject], names: Mapping[str, str]) -> dict[str, int] | None:
    totals = {ttl: _total(splits, name) for ttl, name in names.items()}
    return {ttl: count for ttl, count in totals.items() if count is not None} or None


def _split(by_ttl: Mapping[str, int] | None, names: Mapping[str, str]) -> dict[str, int] | None:
    return None if by_ttl is None else {name: by_ttl.get(ttl, 0) for ttl, name in names.items()}


def _known(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
