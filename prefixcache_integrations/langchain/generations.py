"""LangChain generations as entries of the response cache, and back.

Written as a typed record with an explicit list of classes: reading one can build a `Generation` or a
`ChatGeneration` with an `AIMessage`, and nothing else. Nothing is shared with the caller in either direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, Literal, NotRequired, TypeVar

import msgspec
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from msgspec import convert
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from prefixcache_integrations.canonical import Part, Response, StopReason
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.flows.policy import STOP_FIELDS, stop_reason
from prefixcache_integrations.langchain.messages import content_parts
from prefixcache_integrations.langchain.revive import Fields, maker

T = TypeVar("T")

CODEC = "langchain-generations/2"

MARKER = "prefixcache"
"""The field of ``response_metadata`` that tells a hit: ``hit``, the response ``key``, and the original's usage.

``usage`` is LangChain's form of it, ``provider_usage`` the provider's own, where the answer carried one: left in its
old place it would be billed again by whoever reads it there.
"""

_PROVIDER_USAGE = ("token_usage", "usage")


_ALWAYS_SAY = ("anthropic", "openai")
"""The providers whose answers say why they end, as langchain-anthropic and langchain-openai call them."""

_DETAILS = ("input_token_details", "output_token_details")


class _ToolCall(TypedDict):
    name: str
    args: dict[str, Any]
    id: str | None
    type: Literal["tool_call"]
    extras: NotRequired[dict[str, Any]]


class _InvalidToolCall(TypedDict):
    name: str | None
    args: str | None
    id: str | None
    error: str | None
    type: Literal["invalid_tool_call"]
    extras: NotRequired[dict[str, Any]]


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A message as a hit tells it, and the two forms of what it had used: nothing of it is worked out at every hit."""

    content: str | list[str | dict[str, Any]]
    additional_kwargs: dict[str, Any]
    response_metadata: dict[str, Any]
    name: str | None
    tool_calls: list[_ToolCall]
    invalid_tool_calls: list[_InvalidToolCall]
    zero_usage: dict[str, int | dict[str, int]]
    usage: dict[str, Any] | None
    provider_usage: Any


class _Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    text: str
    info: dict[str, Any] | None
    message: _Message | None


class NotPlain(Exception):
    """A value that would not come back as it was."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Record]).decode


def write(generations: Sequence[Generation]) -> Entry | None:
    """Return ``generations`` as an entry; ``None`` where one has a class or a value that would not come back as it was.

    Ids of messages and of the provider's stored response (``resp_…``) are left out: they belong to one call.
    """
    try:
        return Entry(codec=CODEC, body=_encode([_record(generation) for generation in generations]))
    except (NotPlain, RecursionError, UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return None


def _record(generation: Generation) -> _Record:
    info = None if generation.generation_info is None else _plain_dict(generation.generation_info)
    if type(generation) in (Generation, GenerationChunk):
        return _Record(generation.text, info, None)
    if type(generation) not in (ChatGeneration, ChatGenerationChunk):
        raise NotPlain
    message = generation.message  # type: ignore[attr-defined]
    if type(message) is AIMessageChunk:
        message = message_chunk_to_message(message)
    if type(message) is not AIMessage:
        raise NotPlain
    return _Record("", info, _message_record(message))


def _message_record(message: AIMessage) -> _Message:
    metadata = _plain_dict(message.response_metadata)
    if str(metadata.get("id", "")).startswith("resp_"):
        del metadata["id"]  # would chain the next call onto another conversation's server state
    billed = [usage for name in _PROVIDER_USAGE if (usage := metadata.pop(name, None)) is not None]
    extras = dict(message.additional_kwargs)
    if isinstance(parsed := extras.get("parsed"), BaseModel):
        extras["parsed"] = parsed.model_dump(mode="json", by_alias=True)
    return _Message(
        content=plain(message.content),
        additional_kwargs=_plain_dict(extras),
        response_metadata=metadata,
        name=message.name,
        tool_calls=_calls(message.tool_calls, list[_ToolCall]),
        invalid_tool_calls=_calls(message.invalid_tool_calls, list[_InvalidToolCall]),
        zero_usage=_zeros(message.usage_metadata or {}),
        usage=None if message.usage_metadata is None else _plain_dict(message.usage_metadata),
        provider_usage=billed[0] if billed else None,
    )


def _calls(calls: Sequence[Mapping[str, Any]], kind: type[list[T]]) -> list[T]:
    plain = [_plain_dict(call) for call in calls]
    converted = convert(plain, kind)
    if converted != plain:
        raise NotPlain  # a field that nobody has told us of
    return converted


_ATOMS = frozenset({str, int, float, bool, type(None)})


def _plain_dict(value: Mapping[Any, Any]) -> dict[str, Any]:
    if not all(type(name) is str for name in value):
        raise NotPlain
    return {name: item if type(item) in _ATOMS else plain(item) for name, item in value.items()}


def plain(value: Any) -> Any:  # noqa: ANN401 - LangChain's values are anything; this is where that ends
    """Return a copy of ``value`` of plain data alone. Raises `NotPlain`."""
    if type(value) in _ATOMS:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return _plain_dict(value)
    if type(value) in (list, tuple):
        return [plain(item) for item in value]
    raise NotPlain


def read(entry: Entry, *, key: str, new_id: Callable[[], str]) -> list[Generation]:
    """Return fresh generations from ``entry``. Raises `CorruptEntry` for what `write` did not write.

    Messages get an id of their own, so that a graph appends them, and integer usage of zero tokens. What the
    call that was paid for had used is in ``response_metadata["prefixcache"]``.
    """
    if entry.codec != CODEC:
        raise CorruptEntry(f"written as {entry.codec}, not {CODEC}")
    try:
        generations = [*map(_generation, _decode(entry.body), repeat(key), repeat(new_id))]
    except (msgspec.DecodeError, ValidationError, RecursionError, TypeError, ValueError) as error:
        raise CorruptEntry("not generations") from error
    if not generations:
        raise CorruptEntry("no generations")
    return generations


def _generation(record: _Record, key: str, new_id: Callable[[], str]) -> Generation:
    if record.message is None:
        return Generation(text=record.text, generation_info=record.info)
    message = record.message
    marker = {"hit": True, "key": key, "usage": message.usage}
    if message.provider_usage is not None:
        marker["provider_usage"] = message.provider_usage
    message.response_metadata[MARKER] = marker
    fields: Fields = {
        "content": message.content,
        "additional_kwargs": message.additional_kwargs,
        "response_metadata": message.response_metadata,
        "type": "ai",
        "name": message.name,
        "id": new_id(),
        "tool_calls": message.tool_calls,
        "invalid_tool_calls": message.invalid_tool_calls,
        "usage_metadata": message.zero_usage,
    }
    return maker()(fields, record.info)


def _zeros(usage: Mapping[str, Any]) -> dict[str, int | dict[str, int]]:
    """Return LangChain's usage of no tokens at all, with the same details."""
    details = {name: dict.fromkeys(usage[name], 0) for name in _DETAILS if isinstance(usage.get(name), dict)}
    return {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, **details}


def as_response(generation: Generation) -> Response:
    """Return what policy asks of an answer: its parts, and why it stopped."""
    info = dict(generation.generation_info or {})
    message = getattr(generation, "message", None)
    if not isinstance(message, AIMessage):
        return _response(content_parts(generation.text), info)
    # LangChain has parsed the arguments already: what it could not parse is invalid, whatever it says.
    calls = [Part(kind="tool_call", raw={}, text="{}") for _ in message.tool_calls]
    invalid = [Part(kind="tool_call", raw={}, text="invalid") for _ in message.invalid_tool_calls]
    refusal = message.additional_kwargs.get("refusal")
    refused = [Part(kind="refusal", raw={}, text=str(refusal))] if refusal else []
    parts = (*content_parts(message.content), *calls, *invalid, *refused)
    return _response(parts, info | message.response_metadata)


def _response(parts: tuple[Part, ...], info: Mapping[str, object]) -> Response:
    return Response(dialect="openai_chat", id="", model="", parts=parts, stop_reason=_stop_reason(info))


def _stop_reason(info: Mapping[str, object]) -> StopReason:
    """Read why the model stopped; one that says nothing has finished, but for those that always say it."""
    details = as_object(info.get("incomplete_details")) or {}
    said = [as_text(details.get("reason")), *(as_text(info.get(name)) for name in STOP_FIELDS)]
    reason = next(filter(None, said), None)
    if reason is None:
        told = info.get("status")
        silent = told is None and info.get("model_provider") in _ALWAYS_SAY  # its stream was cut and nobody noticed
        return "stop" if told in (None, "completed") and not silent else "other"
    return stop_reason(reason)
