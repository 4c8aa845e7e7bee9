"""From a model's name, as applications and gateways spell it, to its row."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

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
# Whose servers take every field of OpenAI's: its own, regional ones included, and those on this machine, which
# pass over what they do not know (vLLM, llama.cpp, Ollama, LiteLLM, and this package's simulator).
_OPENAI_HOST = re.compile(r"(?:[a-z]+\.)?api\.openai\.com|localhost|127\.0\.0\.1|::1")
_VERSION_DOT = re.compile(r"(?<=\d)\.(?=\d)")


def rows() -> tuple[CacheProfile, ...]:
    """Return every row: Claude, OpenAI, Azure OpenAI, newest models first; the stand-ins are not among them."""
    return anthropic.ROWS + openai.ROWS + azure.ROWS


@lru_cache(maxsize=1024)
def resolve(model: str, provider: Provider | None = None, base_url: str | None = None) -> CacheProfile:
    """Return the row of ``model``, at ``provider`` where given, else at the provider its name points to.

    ``base_url`` is where its requests go, ``None`` for the provider's own: another's gets no ``prompt_cache_key``,
    which some that speak OpenAI's format refuse.

    A model without a row gets its provider's conservative stand-in, ``known=False``; this never raises. On
    Azure the name is that of a deployment and may say nothing about the model. A fine-tuned model has the row
    of its base without the prices.
    """
    name = _PREFIX.sub("", model.lower())
    at = provider or _guess(name)
    tuned = _FINE_TUNED.match(name)
    row = _find(name if tuned is None else tuned["base"] or tuned["azure"], at)
    if row.requests_per_key and base_url is not None and not _OPENAI_HOST.fullmatch(_host(base_url)):
        row = replace(row, requests_per_key=0)
    return row if tuned is None else replace(row, prices=())


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""


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
