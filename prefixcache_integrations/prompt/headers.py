"""Which headers of a request can change who answers it: gateways route by headers, and providers switch betas on.

Credentials do not count (tenants have namespaces), nor do headers that say how a request travels or is traced, nor
those that an SDK sends by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

_CREDENTIAL = r"(proxy-)?authorization|.*cookie|.*api[-_]?key|.*(secret|password|signature|token)|.*-auth|x-amz-.*"
_TRAVEL = (
    r"accept(-.*)?|connection|content-(length|type)|expect|host|keep-alive|te|transfer-encoding|user-agent|via"
    r"|forwarded|x-forwarded-.*|x-real-ip|cache-control|pragma|x-stainless-.*|anthropic-version"
)
_TRACE = (
    r"trace(parent|state)|baggage|b3|x-b3-.*|x-datadog-.*|sentry-trace|uber-trace-id|x-cloud-trace-context"
    r"|.*(call|client|correlation|invocation|request|session|span|trace|transaction)[-_]?id|.*idempotency[-_]?key"
)
_CHANGES_NOTHING = re.compile(f"{_CREDENTIAL}|{_TRAVEL}|{_TRACE}", re.IGNORECASE)


def routing(headers: object) -> list[str]:
    """Return those of ``headers`` that count, in an order of their own, with their values hashed."""
    given = headers if isinstance(headers, Mapping) else {}
    told = {str(name).lower(): value for name, value in given.items() if isinstance(value, str | bytes)}
    return [f"{name}: {_hash(told[name])}" for name in sorted(told) if not _CHANGES_NOTHING.fullmatch(name)]


def _hash(value: str | bytes) -> str:
    return sha256(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
