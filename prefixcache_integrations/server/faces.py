"""The faces the simulator wears: which provider answers on which path, who is asking, and how it says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import DialectName
from prefixcache_integrations.insight.simulator_rules import Refusal

ProviderName: TypeAlias = Literal["anthropic", "openai", "azure"]


class Face(Struct, frozen=True, kw_only=True):
    """One path: ``dialect`` is the wire format spoken there; ``{deployment}`` in ``path`` is Azure's model name."""

    path: str
    provider: ProviderName
    dialect: DialectName


_ANTHROPIC = Face(path="/v1/messages", provider="anthropic", dialect="anthropic_messages")
_OPENAI = Face(path="/v1/chat/completions", provider="openai", dialect="openai_chat")
_AZURE = Face(path="/openai/v1/chat/completions", provider="azure", dialect="openai_chat")

FACES = (
    _ANTHROPIC,
    _OPENAI,
    _AZURE,
    Face(path="/v1/responses", provider="openai", dialect="openai_responses"),
    Face(path="/openai/deployments/{deployment}/chat/completions", provider="azure", dialect="openai_chat"),
    Face(path="/openai/responses", provider="azure", dialect="openai_responses"),
    Face(path="/openai/v1/responses", provider="azure", dialect="openai_responses"),
)


def nearest(path: str) -> Face:
    """Return the face whose errors a path gets that none of them serves."""
    if path.startswith("/openai"):
        return _AZURE
    return _ANTHROPIC if path.startswith("/v1/messages") else _OPENAI


def api_key(headers: Mapping[str, str]) -> str | None:
    """Return the caller's key from whichever header carries it, ``None`` where there is none."""
    bearer = headers.get("authorization", "")
    scheme, _, token = bearer.partition(" ")
    found = headers.get("x-api-key") or headers.get("api-key") or (token if scheme.lower() == "bearer" else "")
    return found.strip() or None


def error_body(face: Face, status: int, refused: Refusal, request_id: str) -> dict[str, object]:
    """Write an error as the provider spells it."""
    if face.provider == "azure" and status in _AZURE_GATEWAY:
        return {"error": {"code": str(status), "message": refused.message}}
    body = dialects.by_name(face.dialect).error_body(status, refused.message, param=refused.param, code=refused.code)
    return {**body, "request_id": request_id} if "request_id" in body else body


def missing_key(provider: ProviderName) -> Refusal:
    """Say that the key is missing, in the provider's words."""
    return _MISSING_KEY[provider]


def unknown_path(provider: ProviderName, method: str, path: str) -> Refusal:
    """Say that there is nothing at this path."""
    if provider == "openai":
        return Refusal(message=f"Invalid URL ({method} {path})")
    return Refusal(message="Not found" if provider == "anthropic" else "Resource not found")


_AZURE_GATEWAY = frozenset({401, 404})
"""What Azure's gateway answers itself, in a shape of its own: such a request never reaches the model."""

_MISSING_KEY: Mapping[ProviderName, Refusal] = {
    "anthropic": Refusal(message="x-api-key header is required"),
    "openai": Refusal(
        message="You didn't provide an API key. You need to provide your API key in an Authorization header using "
        "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
    ),
    "azure": Refusal(
        message="Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
        "for an active subscription and use a correct regional API endpoint for your resource."
    ),
}
