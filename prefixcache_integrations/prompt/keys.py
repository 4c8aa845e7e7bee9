"""The response key: the identity answers are served by. Two requests share it only if their answers could not differ.

Grammar, version 1: ``v1.sha256.`` and the SHA-256 of parts, each led by its length in eight bytes: the kind
of key, the namespace, then for a request its dialect, model, tools, system prompt, messages and options as
JSON with sorted keys. Nothing can be moved from one part to the next without changing the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NoReturn

from prefixcache_integrations.canonical import JsonObject, Message, Part, Request
from prefixcache_integrations.canonical.json import as_object, without
from prefixcache_integrations.prompt.identity import canonical_json

VERSION = "v1.sha256."

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

_STOP_FIELDS = ("stop", "stop_sequences")
_CALL_ID_FIELDS = ("id", "call_id", "tool_use_id", "tool_call_id")
_TRIMMED_ROLES = ("system", "developer", "user")


def response_key(request: Request, *, namespace: str = "", exact: bool = False) -> str:
    """Return the key of ``request`` in ``namespace``.

    Key order never counts; the order of tools, messages, parts and parallel calls always does, and so does
    every option but `IGNORED_OPTIONS`. Ids of messages and tool calls count only by which call a result belongs
    to. White space around the text of a system, developer or user message is left out unless ``exact``.
    Raises `MalformedRequest` for what is no JSON (lone surrogates, NaN, foreign objects): use `raw_key`.
    """
    numbers: dict[str, int] = {}
    return _digest(
        "exact request" if exact else "request",
        namespace,
        request.dialect.encode(),
        request.model.encode("utf-8", "surrogatepass"),
        canonical_json([tool.raw for tool in request.tools], "tools"),
        canonical_json(_parts_form(request.system, numbers, trim=not exact), "system"),
        canonical_json([_message_form(message, numbers, exact=exact) for message in request.messages], "messages"),
        canonical_json(settled_options(request.options), "options"),
    )


def raw_key(prompt: str, llm_string: str, *, namespace: str = "") -> str:
    """Return the key of a request that is known only as two strings; every character counts."""
    return _digest(
        "raw", namespace, prompt.encode("utf-8", "surrogatepass"), llm_string.encode("utf-8", "surrogatepass")
    )


def _digest(kind: str, namespace: str, *parts: bytes) -> str:
    digester = sha256()
    for part in (kind.encode(), namespace.encode("utf-8", "surrogatepass"), *parts):
        digester.update(len(part).to_bytes(8, "big"))
        digester.update(part)
    return VERSION + digester.hexdigest()


def settled_options(options: JsonObject) -> dict[str, object]:
    """Return what of ``options`` can change an answer: no `IGNORED_OPTIONS`, no nulls, stop sequences as a set.

    A float without a fraction is the integer it equals: JSON knows one kind of number.
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
        return {name: _settled(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        return ["text", text, rest, nested]
    if part.kind in ("tool_call", "tool_result"):
        rest = _with_read_arguments(_given(without(part.raw, *_CALL_ID_FIELDS)))
        return [part.kind, _number(part.call_id, numbers), part.name, _read(text), rest, nested]
    return [part.kind, text, _given(part.raw), nested]


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
