"""The response key: the identity answers are served by. Two requests share it only if their answers could not differ.

Grammar, version 2: ``v2.sha256.`` and the SHA-256 of parts, each led by its length in eight bytes: the kind
of key with its policy, the namespace, then for a request its dialect, model, tools, system prompt, messages and
options as JSON with sorted keys, long texts by their own SHA-256. Nothing can be moved from one part to the next
without changing the key. With a secret the hash is HMAC-SHA256 and the version says so: ``v2.hmac-sha256.``
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from hashlib import sha256

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Part, Request, Tool
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.prompt.call_order import in_call_order
from prefixcache_integrations.prompt.identity import canonical_json
from prefixcache_integrations.prompt.key_forms import message_json, part_json, parts_json

VERSION = "v2"

IGNORED_OPTIONS = frozenset(
    {
        "cache_control",
        "diagnostics",
        "idempotency_key",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "stream",
        "stream_options",
        "user",
    }
)
"""Request fields that name the caller, the transport or the prompt cache, and that no model reads."""

OPTION_GROUPS = ("settings", "call", "model_kwargs", "extra_body")
"""Where frameworks hold a request's options."""

_STOP_FIELDS = ("stop", "stop_sequences")
_TOLERANT_FIELDS = ("temperature", "top_p")
_LARGEST_TOLERANCE = 1.0


class KeyPolicy(Struct, frozen=True, kw_only=True):
    """How alike two requests must be to share an answer. Requests under different policies never share one.

    ``exact``: white space around the text of system, developer and user messages counts too. ``ordered``: the order
    of tools, and of tool calls made in parallel, counts. ``tolerance`` above 0 rounds temperature and top_p to its
    nearest multiple: what rounds to two multiples is told apart, however near.
    """

    exact: bool = False
    ordered: bool = True
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("exact", "ordered"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is True or False, not {getattr(self, name)!r}")
        if not _is_between(0, self.tolerance, _LARGEST_TOLERANCE):
            raise ConfigurationError(f"a tolerance is from 0 to {_LARGEST_TOLERANCE:g}, not {self.tolerance!r}")

    @classmethod
    def loose(cls, tolerance: float = 0.1) -> KeyPolicy:
        """Return the policy under which neither order nor a difference within ``tolerance`` counts."""
        return cls(ordered=False, tolerance=tolerance)


def _is_between(least: float, value: object, most: float) -> bool:
    return isinstance(value, int | float) and least <= value <= most


STRICT = KeyPolicy()


class KeyFrame(Struct, frozen=True, kw_only=True):
    """What keys have in common whose requests differ by their messages alone, and the policy they are made under."""

    policy: KeyPolicy
    dialect: bytes
    model: bytes
    tools: bytes
    options: bytes


def key_frame(request: Request, policy: KeyPolicy = STRICT) -> KeyFrame:
    """Return the frame of the key of ``request``. Raises `MalformedRequest` for what is no JSON."""
    return KeyFrame(
        policy=policy,
        dialect=request.dialect.encode(),
        model=request.model.encode("utf-8", "surrogatepass"),
        tools=_tools_form(request.tools, ordered=policy.ordered),
        options=canonical_json(_tolerant(settled_options(request.options), policy.tolerance), "options"),
    )


def response_key(request: Request, *, namespace: str = "", policy: KeyPolicy = STRICT, secret: bytes = b"") -> str:
    """Return the key of ``request`` in ``namespace``.

    Key order never counts; the order of messages and parts always does, and so does every option but
    `IGNORED_OPTIONS`. Ids of messages and tool calls count only by which call a result belongs to. Images and files
    count by their bytes or their link. What else counts is for ``policy`` to say.
    Without ``secret`` anybody who knows a request can compute its key.
    Raises `MalformedRequest` for what is no JSON (lone surrogates, NaN, foreign objects): use `raw_key`.
    """
    return framed_key(request, key_frame(request, policy), namespace=namespace, secret=secret)


def framed_key(request: Request, frame: KeyFrame, *, namespace: str = "", secret: bytes = b"") -> str:
    """Return the `response_key` of ``request``, whose frame is known already."""
    numbers: dict[str, int] = {}
    policy = frame.policy
    messages = request.messages if policy.ordered else in_call_order(request.messages, _call_bytes)
    return _digest(
        f"request {policy.exact:d} {policy.ordered:d} {float(policy.tolerance)!r}",
        namespace,
        secret,
        frame.dialect,
        frame.model,
        frame.tools,
        parts_json(request.system, numbers, trim=not policy.exact),
        b"[%b]" % b",".join([message_json(message, numbers, exact=policy.exact) for message in messages]),
        frame.options,
    )


def tool_key(name: str, arguments: JsonObject, *, namespace: str = "", secret: bytes = b"") -> str:
    """Return the key of a call of the tool ``name``; key order does not count. Raises `MalformedRequest`."""
    return _digest(
        "tool", namespace, secret, name.encode("utf-8", "surrogatepass"), canonical_json(arguments, "arguments")
    )


def raw_key(prompt: str, llm_string: str, *, namespace: str = "", secret: bytes = b"") -> str:
    """Return the key of a request that is known only as two strings; every character counts."""
    parts = (text.encode("utf-8", "surrogatepass") for text in (prompt, llm_string))
    return _digest("raw", namespace, secret, *parts)


def _digest(kind: str, namespace: str, secret: bytes, *parts: bytes) -> str:
    digester = hmac.new(secret, digestmod=sha256) if secret else sha256()
    for part in (kind.encode(), namespace.encode("utf-8", "surrogatepass"), *parts):
        digester.update(len(part).to_bytes(8, "big"))
        digester.update(part)
    return f"{VERSION}.{'hmac-' if secret else ''}sha256.{digester.hexdigest()}"


def _tools_form(tools: Sequence[Tool], *, ordered: bool) -> bytes:
    forms = [canonical_json(tool.raw, "tools") for tool in tools]
    return b"[%s]" % b",".join(forms if ordered else sorted(forms))


def _call_bytes(call: Part) -> bytes:
    return part_json(call, call.text, {})


def _tolerant(options: Mapping[str, object], tolerance: float) -> dict[str, object]:
    """Return ``options`` with temperature and top_p as multiples of ``tolerance``, also where they are passed on."""
    if not tolerance:
        return dict(options)
    nearest = partial(_multiple, tolerance=Decimal(repr(float(tolerance))))
    return {name: _rounded(name, value, nearest) for name, value in options.items()}


def _rounded(name: str, value: object, nearest: Callable[[float], int]) -> object:
    if name in _TOLERANT_FIELDS and isinstance(value, int | float) and not isinstance(value, bool):
        return {"multiple": nearest(value)}
    group = as_object(value) if name in OPTION_GROUPS else None
    return value if group is None else {inner: _rounded(inner, field, nearest) for inner, field in group.items()}


def _multiple(value: float, *, tolerance: Decimal) -> int:
    return int((Decimal(repr(value)) / tolerance).to_integral_value(ROUND_HALF_EVEN))


def settled_options(options: JsonObject) -> dict[str, object]:
    """Return what of ``options`` can change an answer: no `IGNORED_OPTIONS`, no nulls, stop sequences as a set.

    A float without a fraction is the integer it equals: JSON knows one kind of number. The fields of an answer's schema
    keep their order: the model writes them in it (OpenAI docs, structured outputs, "Key ordering").
    """
    return {
        name: _stop_set(value) if name in _STOP_FIELDS else _settled(value)
        for name, value in options.items()
        if value is not None and name not in IGNORED_OPTIONS
    }


def _stop_set(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return sorted(set(value))
    return value


def _settled(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _fields(item) if name == "properties" else _settled(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _fields(value: object) -> object:
    return [[name, _settled(item)] for name, item in value.items()] if isinstance(value, Mapping) else _settled(value)
