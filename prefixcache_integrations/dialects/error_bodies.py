"""The error bodies of the providers, by HTTP status."""

from __future__ import annotations

_CLAUDE_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Claude docs, Errors."""

_OPENAI_TYPES = {429: "rate_limit_error"}
_CLIENT_ERRORS = range(400, 500)


def claude_error(status: int, message: str) -> dict[str, object]:
    """Return Claude's error body; its ``request_id`` is left to whoever numbers the requests."""
    other = "invalid_request_error" if status in _CLIENT_ERRORS else "api_error"
    error = {"type": _CLAUDE_TYPES.get(status, other), "message": message}
    return {"type": "error", "error": error, "request_id": None}


def openai_error(status: int, message: str, *, param: str | None, code: str | None) -> dict[str, object]:
    """Return OpenAI's error body, the same for all its APIs."""
    other = "invalid_request_error" if status in _CLIENT_ERRORS else "server_error"
    return {"error": {"message": message, "type": _OPENAI_TYPES.get(status, other), "param": param, "code": code}}
