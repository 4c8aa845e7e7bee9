"""The response key: the identity answers are served by. Two requests share it only if their answers could not differ.

Grammar, version 2: ``v2.sha256.`` and the SHA-256 of parts, each led by its length in eight bytes: the kind
of key with its policy, the namespace, then for a request its dialect, model, tools, system prompt, messages and
options as JSON with sorted keys, long texts by their own SHA-256. Nothing can be moved from one part to the next
without changing the key. With a secret the hash is HMAC-SHA256 and the version says so: ``v2.hmac-sha256.``
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from hashlib import sha256
from typing import NoReturn

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Message, Part, PartKind, Request, Tool
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.errors import ConfigurationError, MalformedRequest
from prefixcache_integrations.prompt.call_order import in_call_order
from prefixcache_integrations.prompt.identity import canonical_json
from prefixcache_integrations.prompt.media import media_form

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
_LONG_TEXT = 1024
_LONGEST_REMEMBERED = 2**16
_REMEMBERED_TEXTS = 512  # at most 32 million characters
_digests: dict[str, str] = {}
_CALL_ID_FIELDS = ("id", "call_id", "tool_use_id", "tool_call_id")
_TRIMMED_ROLES = ("system", "developer", "user")
_MEDIA: tuple[PartKind, ...] = ("image", "audio", "document", "other")


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
        if not 0 <= self.tolerance <= _LARGEST_TOLERANCE:
            raise ConfigurationError(f"a tolerance is from 0 to {_LARGEST_TOLERANCE:g}, not {self.tolerance}")

    @classmethod
    def loose(cls, tolerance: float = 0.1) -> KeyPolicy:
        """Return the policy under which neither order nor a difference within ``tolerance`` counts."""
        return cls(ordered=False, tolerance=tolerance)


STRICT = KeyPolicy()


def response_key(request: Request, *, namespace: str = "", policy: KeyPolicy = STRICT, secret: bytes = b"") -> str:
    """Return the key of ``request`` in ``namespace``.

    Key order never counts; the order of messages and parts always does, and so does every option but
    `IGNORED_OPTIONS`. Ids of messages and tool calls count only by which call a result belongs to. Images and files
    count by their bytes or their link. What else counts is for ``policy`` to say.
    Without ``secret`` anybody who knows a request can compute its key.
    Raises `MalformedRequest` for what is no JSON (lone surrogates, NaN, foreign objects): use `raw_key`.
    """
    numbers: dict[str, int] = {}
    messages = request.messages if policy.ordered else in_call_order(request.messages, _call_bytes)
    return _digest(
        f"request {policy.exact:d} {policy.ordered:d} {float(policy.tolerance)!r}",
        namespace,
        secret,
        request.dialect.encode(),
        request.model.encode("utf-8", "surrogatepass"),
        _tools_form(request.tools, ordered=policy.ordered),
        canonical_json(_parts_form(request.system, numbers, trim=not policy.exact), "system"),
        canonical_json([_message_form(message, numbers, exact=policy.exact) for message in messages], "messages"),
        canonical_json(_tolerant(settled_options(request.options), policy.tolerance), "options"),
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
    return canonical_json(_part_form(call, call.text, {}), "messages")


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


def _message_form(message: Message, numbers: dict[str, int], *, exact: bool) -> list[object]:
    trim = not exact and message.role in _TRIMMED_ROLES
    rest = _given(without(message.raw, "id", "role", "content"))
    if rest.get("type") == "message":
        del rest["type"]  # what an item with a role is anyway
    rest |= {name: _number(rest[name], numbers) for name in _CALL_ID_FIELDS if name in rest}
    return [message.role, rest, _parts_form(message.parts, numbers, trim=trim)]


def _parts_form(parts: Sequence[Part], numbers: dict[str, int], *, trim: bool) -> list[object]:
    texts = [part.text for part in parts]
    if trim and parts and parts[0].kind == "text":
        texts[0] = texts[0].lstrip()
    if trim and parts and parts[-1].kind == "text":
        texts[-1] = texts[-1].rstrip()
    return [_part_form(part, text, numbers) for part, text in zip(parts, texts, strict=True)]


def _part_form(part: Part, text: str, numbers: dict[str, int]) -> list[object]:
    nested = _parts_form(part.content, numbers, trim=False)
    if part.kind == "text":
        # Empty annotations come back in replayed answers and are not there in new text.
        rest = {
            name: value for name, value in without(part.raw, "type", "text", "id").items() if value not in (None, [])
        }
        return ["text", _long(text), rest, nested]
    if part.kind in ("tool_call", "tool_result"):
        rest = _with_read_arguments(_given(without(part.raw, *_CALL_ID_FIELDS)))
        return [part.kind, _number(part.call_id, numbers), part.name, _read(text), rest, nested]
    media = media_form(part.raw) if part.kind in _MEDIA else None
    return [part.kind, text, _given(part.raw), nested] if media is None else [part.kind, media, nested]


def _long(text: str) -> object:
    """Return a long text by its digest: that is several times faster than to write it out as JSON first.

    A conversation grows by its end: what was said before is remembered, and found by the hash that a string keeps.
    """
    if len(text) < _LONG_TEXT:
        return text
    known = _digests.get(text)
    if known is None:
        try:
            known = sha256(text.encode()).hexdigest()
        except UnicodeEncodeError as error:
            raise MalformedRequest("text with a lone surrogate") from error
        if len(_digests) >= _REMEMBERED_TEXTS:
            _digests.clear()
        if len(text) <= _LONGEST_REMEMBERED:
            _digests[text] = known
    return {"sha256": known}


def _number(call_id: object, numbers: dict[str, int]) -> int | None:
    """Return the place of ``call_id`` among all ids in order of appearance."""
    return numbers.setdefault(call_id, len(numbers)) if isinstance(call_id, str) else None


def _given(fields: JsonObject) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_read_arguments(call: dict[str, object]) -> dict[str, object]:
    """Return a tool call with its arguments read from JSON, so that their key order is gone too."""
    read = {name: _read(value) for name, value in call.items() if name == "arguments"}
    function = as_object(call.get("function"))
    if function is not None:
        read["function"] = _with_read_arguments(dict(function))
    return call | read


def _read(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return {"json": json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)}
    except (ValueError, RecursionError):
        return text


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Read an object; one with a name twice stays text, or two different texts would be read alike."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("a name twice")
        found[name] = value
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
