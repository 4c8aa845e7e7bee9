"""From a model's name, as applications and gateways spell it, to its row."""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec.structs import replace

from prefixcache_integrations.profiles import anthropic, azure, openai
from prefixcache_integrations.profiles.profile import CacheProfile, Provider

_NO_CACHE = CacheProfile(
    name="unknown",
    provider="unknown",
    models=(),
    regime="none",
    minimum_tokens=0,
    tokenizer_uncertainty=0.6,
    known=False,
)

_ROWS: dict[Provider, tuple[CacheProfile, ...]] = {
    "anthropic": anthropic.ROWS,
    "openai": openai.ROWS,
    "azure": azure.ROWS,
    "unknown": (),
}
_UNKNOWN: dict[Provider, CacheProfile] = {
    "anthropic": anthropic.UNKNOWN,
    "openai": openai.UNKNOWN,
    "azure": azure.UNKNOWN,
    "unknown": _NO_CACHE,
}
_STEMS: dict[Provider, tuple[tuple[str, CacheProfile], ...]] = {
    provider: tuple(
        sorted(((stem, row) for row in rows for stem in row.models), key=lambda pair: len(pair[0]), reverse=True)
    )
    for provider, rows in _ROWS.items()
}

# What gateways and frameworks put in front: "openai/", "us.anthropic.", "bedrock_converse:", a path.
_PREFIX = re.compile(
    r"^(?:.*/)?"
    r"(?:(?!ft:)[a-z_]+:(?=claude|(?:chat)?gpt|o\d|[a-z-]*\.?anthropic\.))?"
    r"(?:(?:[a-z-]+\.)?(?:anthropic|openai)\.)?"
)
_FINE_TUNED = re.compile(r"^ft:(?P<base>[^:]+)|^(?P<azure>[^:]+)\.ft-")
# A date in any of the usual spellings, `latest`, and Bedrock's version, as in claude-sonnet-4-5-20250929-v1:0.
_SUFFIX = re.compile(r"(?:-v\d+)?(?:[-@](?:\d{8}|\d{4}-\d\d-\d\d|\d{4}|latest|default))?(?:-v\d+)?(?::\d+)*")
_OPENAI_NAME = re.compile(r"(?:chat)?gpt-(?:\d|chat)|o\d(?:-|$)|codex-|computer-use")
_VERSION_DOT = re.compile(r"(?<=\d)\.(?=\d)")


def rows() -> tuple[CacheProfile, ...]:
    """Return every row: Claude, OpenAI, Azure OpenAI, newest models first; the stand-ins are not among them."""
    return anthropic.ROWS + openai.ROWS + azure.ROWS


@lru_cache(maxsize=1024)
def resolve(model: str, provider: Provider | None = None) -> CacheProfile:
    """Return the row of ``model``, at ``provider`` where given, else at the provider its name points to.

    A model without a row gets its provider's conservative stand-in, ``known=False``; this never raises. On
    Azure the name is that of a deployment and may say nothing about the model. A fine-tuned model has the row
    of its base without the prices.
    """
    name = _PREFIX.sub("", model.lower())
    at = provider or _guess(name)
    tuned = _FINE_TUNED.match(name)
    if tuned is None:
        return _find(name, at)
    return replace(_find(tuned["base"] or tuned["azure"], at), prices=())


def _guess(name: str) -> Provider:
    if name.startswith("claude"):
        return "anthropic"
    return "openai" if _OPENAI_NAME.match(name.removeprefix("ft:")) else "unknown"


def _find(name: str, provider: Provider) -> CacheProfile:
    if provider == "anthropic":
        name = _VERSION_DOT.sub("-", name)
    for stem, row in _STEMS[provider]:
        if name.startswith(stem) and _SUFFIX.fullmatch(name, len(stem)):
            return row
    return _UNKNOWN[provider]
