"""The wire formats that conversations are put in, and how each is marked for the cache."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass

Body = dict
"""A request body as JSON; mutated freely."""

MARK = {"type": "ephemeral"}


@dataclass(frozen=True)
class Script:
    """A conversation in nobody's format.

    ``tools``: name, description and JSON schema of each. ``turns``: one list of events for each request, to be added
    to the history before it is sent; an event is ``(kind, value)``: ``user`` with a list of texts, ``image`` with a
    data string, ``assistant`` with a text, ``calls`` with a list of ``(id, name, arguments)``, ``results`` with a list
    of ``(id, text)``.
    """

    system: str
    tools: tuple[tuple[str, str, dict], ...]
    turns: tuple[tuple[tuple[str, object], ...], ...]


@dataclass(frozen=True)
class Shape:
    """A model and how its requests are written."""

    name: str
    provider: str
    dialect: str
    model: str
    sibling: str
    write: Callable[[Script, Shape], list[Body]]
    claude: bool = False

    def bodies(self, script: Script) -> list[Body]:
        """Return one clean body for each request of the conversation."""
        return self.write(script, self)


def write_claude(script: Script, shape: Shape) -> list[Body]:
    """Return bodies of the Messages API, marked on the system prompt and at the end."""
    messages: list[dict] = []
    found = []
    for turn in script.turns:
        for kind, value in turn:
            messages.append(_claude_message(kind, value))
        body = {"model": shape.model, "max_tokens": 1000}
        if script.tools:
            body["tools"] = [
                {"name": n, "description": d, "input_schema": copy.deepcopy(s)} for n, d, s in script.tools
            ]
        body["system"] = [{"type": "text", "text": script.system}]
        body["messages"] = copy.deepcopy(messages)
        found.append(mark_claude(body))
    return found


def _claude_message(kind: str, value: object) -> dict:
    if kind == "user":
        return {"role": "user", "content": [{"type": "text", "text": text} for text in value]}
    if kind == "image":
        source = {"type": "base64", "media_type": "image/png", "data": value}
        return {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "see there"}]}
    if kind == "assistant":
        return {"role": "assistant", "content": [{"type": "text", "text": value}]}
    if kind == "calls":
        blocks = [{"type": "tool_use", "id": i, "name": n, "input": copy.deepcopy(a)} for i, n, a in value]
        return {"role": "assistant", "content": blocks}
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": t} for i, t in value]}


def mark_claude(body: Body) -> Body:
    """Put markers on the last system block and the last block of all."""
    body["system"][-1]["cache_control"] = dict(MARK)
    body["messages"][-1]["content"][-1]["cache_control"] = dict(MARK)
    return body


def unmark_claude(body: Body) -> Body:
    """Take every marker off."""
    for holder in (*body["system"], *(block for message in body["messages"] for block in message["content"])):
        holder.pop("cache_control", None)
    return body


def write_chat(script: Script, shape: Shape) -> list[Body]:
    """Return bodies of Chat Completions."""
    messages: list[dict] = [{"role": "system", "content": script.system}]
    found = []
    for turn in script.turns:
        for kind, value in turn:
            messages.extend(_chat_messages(kind, value))
        body: Body = {"model": shape.model}
        if script.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": n, "description": d, "parameters": copy.deepcopy(s)}}
                for n, d, s in script.tools
            ]
        body["messages"] = copy.deepcopy(messages)
        found.append(body)
    return found


def _chat_messages(kind: str, value: object) -> list[dict]:
    if kind == "user" and len(value) == 1:
        return [{"role": "user", "content": value[0]}]
    if kind == "user":
        return [{"role": "user", "content": [{"type": "text", "text": text} for text in value]}]
    if kind == "image":
        image = {"url": f"data:image/png;base64,{value}", "detail": "high"}
        parts = [{"type": "image_url", "image_url": image}, {"type": "text", "text": "see there"}]
        return [{"role": "user", "content": parts}]
    if kind == "assistant":
        return [{"role": "assistant", "content": value}]
    if kind == "calls":
        calls = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a, ensure_ascii=False)}}
            for i, n, a in value
        ]
        return [{"role": "assistant", "tool_calls": calls}]
    return [{"role": "tool", "tool_call_id": i, "content": t} for i, t in value]


SHAPES = (
    Shape(
        "claude", "anthropic", "anthropic_messages", "claude-sonnet-4-6", "claude-sonnet-4-5", write_claude, claude=True
    ),
    Shape("openai-intervals", "openai", "openai_chat", "gpt-4o", "gpt-4.1", write_chat),
    Shape("openai-breakpoints", "openai", "openai_chat", "gpt-5.6-terra", "gpt-5.6-sol", write_chat),
)
