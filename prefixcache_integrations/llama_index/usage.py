"""What a LlamaIndex response says of its call: the tokens it consumed, and why the model stopped.

Each integration keeps these elsewhere; the most complete thing that a response carries is read first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from llama_index.core.base.llms.types import CachePoint, ChatMessage, ChatResponse, CompletionResponse
from msgspec.structs import replace
from pydantic import BaseModel

from prefixcache_integrations.canonical import JsonObject, Usage
from prefixcache_integrations.canonical.json import as_count, as_list, as_object, as_text
from prefixcache_integrations.dialects.usage import CHAT_USAGE, RESPONSES_USAGE, OpenAIUsage, decode_claude
from prefixcache_integrations.flows.policy import STOP_FIELDS

AnyResponse: TypeAlias = ChatResponse | CompletionResponse

_GEMINI = OpenAIUsage(
    input="prompt_token_count",
    input_details="",
    output="candidates_token_count",
    output_details="",
    required=False,
)


def usage_of(response: AnyResponse) -> Usage:
    """Return what the call that gave ``response`` consumed; what nobody reported is ``None``."""
    raw = fields_of(response.raw)
    usage = next((found for found in _readings(raw, response.additional_kwargs) if found != Usage()), Usage())
    tier = as_text(raw.get("service_tier"))
    return replace(usage, service_tier=usage.service_tier or tier)


def _readings(raw: JsonObject, extra: JsonObject) -> Iterator[Usage]:
    """Yield the readings of a response, most complete first."""
    decoded = _of_claude_delta if as_text(raw.get("type")) == "message_delta" else _decoded
    yield decoded(_dumped(raw.get("usage")))
    yield _decoded(_dumped(fields_of(raw.get("response")).get("usage")))
    yield _decoded(_dumped(extra.get("usage")))
    yield _of_gemini(_dumped(raw.get("usage_metadata")))
    yield _of_counts(extra)


def _decoded(usage: JsonObject) -> Usage:
    rows: tuple[tuple[str, Callable[[JsonObject], Usage]], ...] = (
        ("prompt_tokens", CHAT_USAGE.decode),
        ("input_tokens_details", RESPONSES_USAGE.decode),
        ("input_tokens", decode_claude),
    )
    return next((decode(usage) for name, decode in rows if name in usage), Usage())


def _of_claude_delta(usage: JsonObject) -> Usage:
    """Read the last event of a Claude stream, of which LlamaIndex passes on no other usage.

    Servers that do not repeat the cache counts there leave the inclusive input unknown.
    """
    read = decode_claude(usage)
    if read.cache_read_tokens is None and read.cache_write_tokens is None:
        return replace(read, input_tokens=None)
    return read


def _of_gemini(usage: JsonObject) -> Usage:
    read = _GEMINI.decode(usage)
    return replace(read, cache_read_tokens=as_count(usage.get("cached_content_token_count")))


def _of_counts(extra: JsonObject) -> Usage:
    """Read counts that an integration keeps beside the answer: Bedrock's leave out cache reads and writes."""
    read, write = (as_count(extra.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
    uncached = as_count(extra.get("prompt_tokens"))
    return Usage(
        input_tokens=None if uncached is None else uncached + (read or 0) + (write or 0),
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=as_count(extra.get("completion_tokens")),
    )


def stopped(response: AnyResponse) -> str | None:
    """Return why the model stopped, as its provider spells it; ``None`` where this response does not say."""
    raw = fields_of(response.raw)
    finished = fields_of(raw.get("response")) or raw
    choices = as_list(raw.get("choices")) or ()
    message = response.message.additional_kwargs if isinstance(response, ChatResponse) else {}
    places = [*map(fields_of, choices[:1]), raw, fields_of(raw.get("delta")), message]
    said: list[object] = [fields_of(finished.get("incomplete_details")).get("reason")]
    said += [place.get(name) for place in places for name in STOP_FIELDS]
    if any(fields_of(place.get("message")).get("refusal") for place in places[: len(choices[:1])]):
        return "refusal"
    return next(filter(None, map(as_text, said)), None)


def lifetimes_of(messages: Sequence[ChatMessage]) -> frozenset[str]:
    """Return the lifetimes that the cache points of ``messages`` ask for."""
    markers = [message.additional_kwargs.get("cache_control") for message in messages]
    points = (block.cache_control for message in messages for block in message.blocks if isinstance(block, CachePoint))
    asked = [*map(as_object, markers), *map(fields_of, points)]
    return frozenset(as_text(marker.get("ttl")) or "5m" for marker in asked if marker is not None)


def fields_of(value: object) -> JsonObject:
    """Return the fields of a provider's object or of its dump; nothing for anything else."""
    if isinstance(value, BaseModel):
        fields: Mapping[str, Any] = {name: getattr(value, name, None) for name in type(value).model_fields}
        return {**fields, **(value.model_extra or {})}
    return as_object(value) or {}


def _dumped(value: object) -> JsonObject:
    return value.model_dump() if isinstance(value, BaseModel) else as_object(value) or {}
