from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from tests.dialects.contract import DialectContract, Golden

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check(kind: Any, value: Any) -> None:
    """Validate against a type of the SDK; pydantic reads iterables lazily, so they are read to their end."""
    for _ in leaves(adapter(kind).validate_python(value)):
        pass


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        yield value
        return
    for inner in value:
        yield from leaves(inner)


def claude(**fields: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 1, "messages": [USER], **fields}


def claude_block(block: Any) -> dict[str, Any]:
    return claude(messages=[{"role": "user", "content": [block]}])


class TestAnthropicMessages(DialectContract):
    dialect = ANTHROPIC_MESSAGES
    golden = Golden.load("anthropic_messages")
    ttls = ("5m", "1h")
    refused: ClassVar = {
        "no messages": ({"model": "claude", "max_tokens": 1}, "messages"),
        "empty messages": (claude(messages=[]), "messages"),
        "messages no list": (claude(messages="hi"), "messages"),
        "no model": ({"max_tokens": 1, "messages": [USER]}, "model"),
        "model no string": (claude(model=4), "model"),
        "unknown role": (claude(messages=[USER, {"role": "wizard", "content": "hi"}]), "messages[1].role"),
        "no role": (claude(messages=[{"content": "hi"}]), "messages[0].role"),
        "message no object": (claude(messages=["hi"]), "messages[0]"),
        "no content": (claude(messages=[{"role": "user"}]), "messages[0].content"),
        "null content": (claude(messages=[{"role": "user", "content": None}]), "messages[0].content"),
        "number content": (claude(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        "object content": (claude(messages=[{"role": "user", "content": {}}]), "messages[0].content"),
        "string block": (claude_block("hi"), "messages[0].content[0]"),
        "no block type": (claude_block({"text": "hi"}), "messages[0].content[0].type"),
        "text no string": (claude_block({"type": "text", "text": 5}), "messages[0].content[0].text"),
        "image without source": (claude_block({"type": "image"}), "messages[0].content[0].source"),
        "result of nothing": (claude_block({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        "call without input": (
            claude_block({"type": "tool_use", "id": "t", "name": "f"}),
            "messages[0].content[0].input",
        ),
        "nested text no string": (
            claude_block({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}),
            "messages[0].content[0].content[0].text",
        ),
        "system no text": (claude(system=5), "system"),
        "tools no list": (claude(tools={"name": "f"}), "tools"),
        "tool without schema": (claude(tools=[{"name": "f"}]), "tools[0].input_schema"),
        "tool without name": (claude(tools=[{"input_schema": {}}]), "tools[0].name"),
        "tool schema no object": (claude(tools=[{"name": "f", "input_schema": []}, 5]), "tools[0].input_schema"),
        "marker no object": (claude(cache_control="ephemeral"), "cache_control"),
        "marker ttl no string": (
            claude_block({"type": "text", "text": "a", "cache_control": {"ttl": 300}}),
            "messages[0].content[0].cache_control.ttl",
        ),
    }

    def check_request(self, body: Any) -> None:
        check(MessageCreateParamsNonStreaming, body)

    def check_response(self, body: Any) -> None:
        Message.model_validate(body)

    def check_event(self, event: Any) -> None:
        check(RawMessageStreamEvent, event)

    def ends(self, event: Any) -> bool:
        return event["type"] == "message_stop"


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [USER], **fields}


def chat_message(**fields: Any) -> dict[str, Any]:
    return chat(messages=[fields])


def function_tool(**fields: Any) -> dict[str, Any]:
    return chat(tools=[{"type": "function", "function": fields}])


class TestOpenAIChat(DialectContract):
    dialect = OPENAI_CHAT
    golden = Golden.load("openai_chat")
    ttls = ("30m", "12h")
    refused: ClassVar = {
        "no messages": ({"model": "gpt"}, "messages"),
        "empty messages": (chat(messages=[]), "messages"),
        "model no string": (chat(model=["gpt"]), "model"),
        "unknown role": (chat_message(role="wizard", content="hi"), "messages[0].role"),
        "message no object": (chat(messages=[USER, None]), "messages[1]"),
        "user without content": (chat_message(role="user"), "messages[0].content"),
        "user with null content": (chat_message(role="user", content=None), "messages[0].content"),
        "number content": (chat_message(role="assistant", content=5), "messages[0].content"),
        "string part": (chat_message(role="user", content=["hi"]), "messages[0].content[0]"),
        "no part type": (chat_message(role="user", content=[{"text": "hi"}]), "messages[0].content[0].type"),
        "text no string": (
            chat_message(role="user", content=[{"type": "text", "text": None}]),
            "messages[0].content[0].text",
        ),
        "image without address": (
            chat_message(role="user", content=[{"type": "image_url"}]),
            "messages[0].content[0].image_url",
        ),
        "answer to no call": (chat_message(role="tool", content="hi"), "messages[0].tool_call_id"),
        "calls no list": (chat_message(role="assistant", tool_calls=CALL), "messages[0].tool_calls"),
        "call without function": (
            chat_message(role="assistant", tool_calls=[{"id": "c", "type": "function"}]),
            "messages[0].tool_calls[0].function",
        ),
        "arguments no string": (
            chat_message(role="assistant", tool_calls=[{**CALL, "function": {"name": "f", "arguments": {}}}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        "tool without type": (chat(tools=[{"function": {"name": "f"}}]), "tools[0].type"),
        "tool without function": (chat(tools=[{"type": "function"}]), "tools[0].function"),
        "function without name": (function_tool(parameters={}), "tools[0].function.name"),
        "function with empty name": (function_tool(name=""), "tools[0].function.name"),
        "parameters no object": (function_tool(name="f", parameters=[]), "tools[0].function.parameters"),
        "description no string": (function_tool(name="f", description=1), "tools[0].function.description"),
        "marker no object": (
            chat_message(role="user", content=[{"type": "text", "text": "a", "prompt_cache_breakpoint": True}]),
            "messages[0].content[0].prompt_cache_breakpoint",
        ),
    }

    def check_request(self, body: Any) -> None:
        check(CompletionCreateParamsNonStreaming, body)

    def check_response(self, body: Any) -> None:
        ChatCompletion.model_validate(body)

    def check_event(self, event: Any) -> None:
        ChatCompletionChunk.model_validate(event)

    def ends(self, event: Any) -> bool:
        return any(choice.get("finish_reason") for choice in event["choices"])


def responses(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt", "input": "hi", **fields}


def item(**fields: Any) -> dict[str, Any]:
    return responses(input=[fields])


class TestOpenAIResponses(DialectContract):
    dialect = OPENAI_RESPONSES
    golden = Golden.load("openai_responses")
    ttls = ("30m", "12h")
    reports_unknown_counts = False
    refused: ClassVar = {
        "input no text": (responses(input=5), "input"),
        "item no object": (responses(input=["hi"]), "input[0]"),
        "item without type": (item(text="hi"), "input[0].type"),
        "item type no string": (item(type=5), "input[0].type"),
        "unknown role": (item(role="wizard", content="hi"), "input[0].role"),
        "tool role": (item(role="tool", content="hi"), "input[0].role"),
        "message without role": (item(type="message", content="hi"), "input[0].role"),
        "message without content": (item(role="user"), "input[0].content"),
        "number content": (item(role="user", content=5), "input[0].content"),
        "text no string": (item(role="user", content=[{"type": "input_text"}]), "input[0].content[0].text"),
        "call without id": (item(type="function_call", name="f", arguments="{}"), "input[0].call_id"),
        "arguments no string": (
            item(type="function_call", call_id="c", name="f", arguments={}),
            "input[0].arguments",
        ),
        "output missing": (item(type="function_call_output", call_id="c"), "input[0].output"),
        "output no text": (item(type="function_call_output", call_id="c", output={}), "input[0].output"),
        "instructions no text": (responses(instructions=[{"role": "user"}]), "instructions"),
        "tools no list": (responses(tools="f"), "tools"),
        "function without name": (responses(tools=[{"type": "function"}]), "tools[0].name"),
        "parameters no object": (
            responses(tools=[{"type": "function", "name": "f", "parameters": "{}"}]),
            "tools[0].parameters",
        ),
        "marker ttl no string": (
            item(role="user", content=[{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"ttl": 1}}]),
            "input[0].content[0].prompt_cache_breakpoint.ttl",
        ),
    }

    def check_request(self, body: Any) -> None:
        check(ResponseCreateParamsNonStreaming, body)

    def check_response(self, body: Any) -> None:
        Response.model_validate(body)

    def check_event(self, event: Any) -> None:
        check(ResponseStreamEvent, event)

    def ends(self, event: Any) -> bool:
        return event["type"] == "response.completed"
