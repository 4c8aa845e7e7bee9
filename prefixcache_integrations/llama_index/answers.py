"""LlamaIndex answers as entries of the response cache, and back: whole, or in pieces as a stream gives them.

A record names its kind, and reading one can build a chat message of LlamaIndex's own blocks, a completion, or the
text of a structured output, and nothing else. Nothing is shared with the caller in either direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, product
from typing import Any, Literal

import msgspec
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic import BaseModel, TypeAdapter

from prefixcache_integrations.canonical import Part, Response, Usage
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.flows.policy import stop_reason

CODEC = "llama-index-answers/1"

MARKER = "prefixcache"
"""The field of a hit's ``raw`` that tells it: ``hit``, the response ``key``, the ``usage`` of the original."""

# Beside the text and blocks: token counts that would be billed again, and pieces of a stream.
_PASSING_FIELDS = {
    "cache_creation_input_tokens", "cache_read_input_tokens", "completion_tokens", "prompt_tokens", "thinking_delta",
    "thinking_tokens", "total_tokens", "usage",
}  # fmt: skip
_PIECE = re.compile(r"\S{1,16}\s*|\s+")


class Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One answer as it is kept.

    ``message`` is the dump of a chat message; ``text`` a completion, or a structured output as JSON. ``extra`` holds
    the fields of the response that are neither.
    """

    kind: Literal["chat", "completion", "structured"]
    message: dict[str, Any] | None = None
    text: str = ""
    additional_kwargs: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    logprobs: list[Any] | None = None
    usage: dict[str, Any] = {}

    def marker(self, key: str) -> dict[str, Any]:
        """Return what stands in ``raw`` in the place of the provider's response."""
        return {MARKER: {"hit": True, "key": key, "usage": self.usage}}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode
_logprobs: TypeAdapter[list[list[LogProb]] | None] = TypeAdapter(list[list[LogProb]] | None)


def write(answer: Answer) -> Entry | None:
    """Return ``answer`` as an entry; ``None`` where a value in it would not come back as it was."""
    try:
        return Entry(codec=CODEC, body=_encode(answer))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def read(entry: Entry, kind: str) -> Answer:
    """Return the answer in ``entry``. Raises `CorruptEntry` for what is none of this kind."""
    if entry.codec != CODEC:
        raise CorruptEntry(f"written as {entry.codec}, not {CODEC}")
    try:
        answer = _decode(entry.body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise CorruptEntry("not an answer") from error
    if answer.kind != kind:
        raise CorruptEntry(f"a {answer.kind}, not a {kind}")
    return answer


def of_chat(response: ChatResponse, usage: Usage) -> Answer:
    """Take down a chat response. Raises what its values raise when they are no JSON."""
    message = response.message.model_dump(mode="json", exclude_none=True)
    extra = {name: value for name, value in message["additional_kwargs"].items() if name not in _PASSING_FIELDS}
    if any(isinstance(block, ToolCallBlock) for block in response.message.blocks):
        extra.pop("tool_calls", None)  # the blocks hold them, and are what everybody reads
    message["additional_kwargs"] = extra
    return Answer(kind="chat", message=message, **_common(response, usage))


def of_completion(response: CompletionResponse, usage: Usage) -> Answer:
    """Take down a completion. Raises what its values raise when they are no JSON."""
    return Answer(kind="completion", text=response.text, **_common(response, usage))


def of_structured(output: BaseModel, output_class: type[BaseModel]) -> Answer:
    """Take down a structured output. Raises where its class would not read it back as it is.

    Validators and serializers may change values, each time again, and fields may be left out or written otherwise.
    """
    for unset, alias in product((True, False), (True, False)):
        text = output.model_dump_json(by_alias=alias, exclude_unset=unset, round_trip=True)
        if _same(_read_back(output_class, text), output):
            return Answer(kind="structured", text=text)
    raise ValueError(f"{output_class.__name__} does not read back what it writes")


def structured(answer: Answer, output_class: type[BaseModel]) -> BaseModel:
    """Return a fresh structured output. Raises for a foreign record."""
    return output_class.model_validate_json(answer.text)


def _read_back(output_class: type[BaseModel], text: str) -> BaseModel | None:
    try:
        return output_class.model_validate_json(text)
    except ValueError:
        return None


def _same(one: object, other: object) -> bool:
    """Tell whether two values are equal and of equal types, all the way down."""
    if type(one) is not type(other):
        return False
    match one, other:
        case (BaseModel(), BaseModel()):
            return all(_same(getattr(one, name), getattr(other, name)) for name in _MODEL_STATE)
        case (dict(), dict()):
            return _same(list(one.items()), list(other.items()))
        case ((list() | tuple()), (list() | tuple())):
            return len(one) == len(other) and all(map(_same, one, other))
        case _:
            return one == other


_MODEL_STATE = ("__dict__", "__pydantic_extra__", "__pydantic_private__")


def _common(response: ChatResponse | CompletionResponse, usage: Usage) -> dict[str, Any]:
    base = ChatResponse if isinstance(response, ChatResponse) else CompletionResponse
    dumped = response.model_dump(mode="json", exclude={"raw", "message", "delta", "text"})
    kept = {name: value for name, value in dumped["additional_kwargs"].items() if name not in _PASSING_FIELDS}
    return {
        "additional_kwargs": kept,
        "extra": {name: value for name, value in dumped.items() if name not in base.model_fields},
        "logprobs": dumped["logprobs"],
        "usage": {name: value for name, value in msgspec.to_builtins(usage).items() if value is not None},
    }


def chat(answer: Answer, key: str, kind: type[ChatResponse]) -> ChatResponse:
    """Return a fresh chat response of class ``kind``; ``raw`` says that it is a hit. Raises for a foreign record."""
    message = ChatMessage.model_validate(answer.message)
    return kind(message=message, **_revived(answer, key))


def chat_pieces(answer: Answer, key: str, kind: type[ChatResponse]) -> Iterator[ChatResponse]:
    """Return the response as a stream would give it: text growing by a few words, all other blocks with the last piece.

    Raises for a foreign record at once, not on the way.
    """
    return _growing(chat(answer, key, kind))


def _growing(whole: ChatResponse) -> Iterator[ChatResponse]:
    thinking = "".join(block.content or "" for block in whole.message.blocks if isinstance(block, ThinkingBlock))
    if thinking:
        yield _chat_piece(whole, "", "", {"thinking_delta": thinking})
    text = "".join(block.text for block in whole.message.blocks if isinstance(block, TextBlock))
    *growing, last = _pieces(text)
    for said, delta in zip(accumulate(growing), growing, strict=True):
        yield _chat_piece(whole, said, delta, {})
    yield whole.model_copy(update={"delta": last})


def _chat_piece(whole: ChatResponse, said: str, delta: str, extra: Mapping[str, Any]) -> ChatResponse:
    message = ChatMessage(role=whole.message.role, content=said)
    return whole.model_copy(update={"message": message, "delta": delta, "additional_kwargs": dict(extra)})


def completion(answer: Answer, key: str, kind: type[CompletionResponse]) -> CompletionResponse:
    """Return a fresh completion of class ``kind``; ``raw`` says that it is a hit."""
    return kind(text=answer.text, **_revived(answer, key))


def completion_pieces(answer: Answer, key: str, kind: type[CompletionResponse]) -> Iterator[CompletionResponse]:
    """Return the completion as a stream would give it, growing by a few words."""
    whole = completion(answer, key, kind)
    pieces = _pieces(answer.text)
    texts = zip(accumulate(pieces), pieces, strict=True)
    return (whole.model_copy(update={"text": said, "delta": delta}) for said, delta in texts)


def _revived(answer: Answer, key: str) -> dict[str, Any]:
    return {
        "additional_kwargs": answer.additional_kwargs,
        "raw": answer.marker(key),
        "logprobs": _logprobs.validate_python(answer.logprobs),
        **answer.extra,
    }


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text) or [""]


def as_response(answer: Answer, stopped: str | None) -> Response:
    """Return what policy asks of an answer: its parts, and why it stopped; who says nothing has finished."""
    if answer.message is None:
        parts = [Part(kind="text", raw={}, text=answer.text)]
    else:
        parts = [_part(block) for block in answer.message["blocks"]]
    reason = "stop" if stopped is None else stop_reason(stopped)
    return Response(dialect="openai_chat", id="", model="", parts=tuple(parts), stop_reason=reason)


def _part(block: Mapping[str, Any]) -> Part:
    match block:
        case {"block_type": "text", "text": str(text)}:
            return Part(kind="text", raw={}, text=text)
        case {"block_type": "thinking"}:
            return Part(kind="thinking", raw={})
        case {"block_type": "tool_call", "tool_kwargs": arguments}:
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            return Part(kind="tool_call", raw={}, text=text)
        case _:
            return Part(kind="other", raw=block)
