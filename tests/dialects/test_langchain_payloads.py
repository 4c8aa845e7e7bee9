"""The bodies that LangChain's own chat models build, non-JSON values included."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES, Dialect


class Plan(BaseModel):
    """A plan."""

    steps: list[str]


@tool
def weather(place: str) -> str:
    """Forecast for a place."""
    return place


def call(number: int) -> Any:
    return {"name": "weather", "args": {"place": f"p{number}"}, "id": f"call_{number}", "type": "tool_call"}


CONVERSATION: list[BaseMessage] = [
    SystemMessage([{"type": "text", "text": "You plan hikes."}]),
    HumanMessage([
        {"type": "text", "text": "Where is this?"},
        {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": "iVBORw0KGgo="},
    ]),
    AIMessage("Two places fit.", tool_calls=[call(1), call(2)]),
    ToolMessage("dry", tool_call_id="call_1"),
    ToolMessage([{"type": "text", "text": "wet"}], tool_call_id="call_2"),
    AIMessage("", tool_calls=[call(3)]),
    ToolMessage("", tool_call_id="call_3", status="error"),
    HumanMessage("And on Sunday?"),
]  # fmt: skip

CLAUDE = ChatAnthropic(model_name="claude-sonnet-5-5", api_key="k", default_request_timeout=5, stop=None)
CHAT = ChatOpenAI(model="gpt-5.4", api_key="k")
RESPONSES = ChatOpenAI(model="gpt-6-sol", api_key="k", use_responses_api=True)
AZURE = AzureChatOpenAI(
    azure_deployment="mine", api_key="k", azure_endpoint="https://example.openai.azure.com", api_version="2024-10-21"
)


@pytest.mark.parametrize(
    ("model", "dialect", "extras"),
    [
        (CLAUDE, ANTHROPIC_MESSAGES, {"cache_control": {"type": "ephemeral", "ttl": "1h"}, "stop": ["END"]}),
        (CLAUDE.bind_tools([weather]), ANTHROPIC_MESSAGES, {}),
        (CHAT.bind_tools([weather]), OPENAI_CHAT, {"response_format": Plan, "prompt_cache_key": "k"}),
        (CHAT, OPENAI_CHAT, {"timeout": 3.5, "extra_headers": {"x": "y"}}),
        (AZURE.bind_tools([weather], strict=True), OPENAI_CHAT, {}),
        (RESPONSES.bind_tools([weather, {"type": "web_search"}]), OPENAI_RESPONSES, {}),
        (RESPONSES, OPENAI_RESPONSES, {"text_format": Plan, "prompt_cache_options": {"mode": "explicit"}}),
    ],
)
def test_what_langchain_sends_is_read_and_written_as_it_is(model: Any, dialect: Dialect, extras: Any) -> None:
    bound = getattr(model, "kwargs", {})
    payload = getattr(model, "bound", model)._get_request_payload(CONVERSATION, **bound, **extras)
    before = copy.deepcopy(payload)
    request = dialect.decode_request(payload)
    assert dialect.encode_request(request) == before
    assert payload == before
    assert len([part for message in request.messages for part in message.parts if part.kind == "tool_call"]) == 3
    assert [tool.name for tool in request.tools][:1] == (["weather"] if "tools" in bound else [])
