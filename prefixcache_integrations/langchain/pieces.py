"""A whole answer as the pieces it could have been streamed in; added up again they are the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

_WORDS = re.compile(r"(?:\S+\s*|\s+){1,4}")
_ARGUMENTS = re.compile(r".{1,48}", re.DOTALL)
_IN_EVERY_PIECE = ("model_provider", "output_version")  # by these content is translated, piece by piece


def pieces(generation: ChatGeneration) -> Iterator[ChatGenerationChunk]:
    """Yield ``generation`` in pieces: text by a few words, then tool calls, then metadata and usage."""
    message = generation.message
    if not isinstance(message, AIMessage):
        raise TypeError(f"an answer is an AIMessage, not a {type(message).__name__}")
    common = {name: message.response_metadata[name] for name in _IN_EVERY_PIECE if name in message.response_metadata}
    for content in _contents(message.content):
        yield _chunk(content=content, id=message.id, response_metadata=dict(common))
    empty: Any = "" if isinstance(message.content, str) else []
    for call in _call_pieces(message):
        yield _chunk(content=empty, id=message.id, response_metadata=dict(common), tool_call_chunks=[call])
    last = AIMessageChunk(
        content=empty,
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last, generation_info=generation.generation_info)


def _chunk(**fields: Any) -> ChatGenerationChunk:  # noqa: ANN401 - fields of AIMessageChunk
    return ChatGenerationChunk(message=AIMessageChunk(**fields))


def _contents(content: str | list[str | dict[str, Any]]) -> Iterator[Any]:
    if isinstance(content, str):
        yield from _WORDS.findall(content)
        return
    for index, block in enumerate(content):
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
            texts = _WORDS.findall(block["text"]) or [""]
            yield [{**block, "text": texts[0], "index": index}]
            yield from ([{"type": "text", "text": text, "index": index}] for text in texts[1:])
        else:
            yield [{**block, "index": index} if isinstance(block, dict) else block]


def _call_pieces(message: AIMessage) -> Iterator[dict[str, Any]]:
    whole: list[tuple[str | None, str, str | None]] = [
        (call["name"], json.dumps(call["args"]), call["id"]) for call in message.tool_calls
    ]
    whole += [(call["name"], call["args"] or "", call["id"]) for call in message.invalid_tool_calls]
    for index, (name, arguments, call_id) in enumerate(whole):
        yield {"name": name, "args": "", "id": call_id, "index": index, "type": "tool_call_chunk"}
        for text in _ARGUMENTS.findall(arguments):
            yield {"name": None, "args": text, "id": None, "index": index, "type": "tool_call_chunk"}
