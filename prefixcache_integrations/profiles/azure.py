"""OpenAI models on Azure OpenAI, Standard (pay as you go) deployments.

Source: Microsoft Learn, *Prompt caching* for Azure OpenAI (2026), read against the rows of the OpenAI API. What
differs there: a TTL of 30 minutes only, in-memory retention as the default up to GPT-5.4, entries shared
within a subscription. Prices are OpenAI's, which Global Standard deployments share; regional deployments cost
10 to 20 % more. Provisioned deployments take no explicit breakpoints and have no price per token: no row
describes them. The page gives an interval of 128 for all models before GPT-5.6 and does not name
GPT-5.5; its row keeps the interval of the model, which promises less. It recommends ``prompt_cache_key``, but endpoints
with an older API version or another maker's model refuse it ("Unrecognized request argument supplied",
github.com/vectorize-io/hindsight issue 3518), so no row takes one.
"""

from __future__ import annotations

from msgspec.structs import replace

from prefixcache_integrations.profiles import openai
from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime

# Azure's own spelling of a model's name, beside OpenAI's.
_ALSO = {"gpt-3.5": "gpt-35"}


def _names(models: tuple[str, ...]) -> tuple[str, ...]:
    also = tuple(
        model.replace(ours, theirs) for model in models for ours, theirs in _ALSO.items() if model.startswith(ours)
    )
    return models + also


def _lifetimes(row: CacheProfile) -> tuple[Lifetime, ...]:
    if row.regime == "breakpoints":
        return row.lifetimes[:1]
    return tuple(sorted(row.lifetimes, key=lambda lifetime: lifetime is not openai.IN_MEMORY))


def _on_azure(row: CacheProfile) -> CacheProfile:
    lifetimes = _lifetimes(row)
    retention = tuple(sorted(row.retention, key=lambda name: name != openai.IN_MEMORY.name))
    return replace(
        row,
        name=f"azure/{row.name}",
        provider="azure",
        models=_names(row.models),
        scope="subscription",
        processing={},
        lifetimes=lifetimes,
        retention=retention,
        tool_changes=(),
        requests_per_key=0,
    )


ROWS: tuple[CacheProfile, ...] = tuple(_on_azure(row) for row in openai.ROWS)

UNKNOWN = _on_azure(openai.UNKNOWN)
"""Stands in for a deployment whose name is no model's: names are the customer's own."""
