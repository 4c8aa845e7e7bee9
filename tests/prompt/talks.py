"""Conversations that their provider takes, turn by turn, with markers wherever an application may have put them.

Every call is answered, results come first, no text is empty. `faults` is the judge of what is sent: what the simulator
refuses, and where Claude's documents allow messages with the role ``system``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.insight.simulator import refusal
from prefixcache_integrations.profiles import CacheProfile
from tests.prompt.wire_rules import claude_faults, openai_faults

_TEXT = st.builds(
    lambda words, times: " ".join([words] * times),
    st.sampled_from(["Where is it?", "parcel", "It is 2026-01-05 08:17:23.", "The user is Ann.", "é 🙂", "a\n\nb"]),
    st.sampled_from([1, 2, 30, 90]),
)
_SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
_NAMES = st.lists(st.sampled_from(["book", "cancel", "search", "track", "zeta"]), unique=True, max_size=5)


def faults(dialect: Dialect, body: dict[str, Any], profile: CacheProfile) -> list[str]:
    """Return why the provider would refuse ``body``."""
    refused = refusal(dialect.decode_request(body), profile)
    found = [] if refused is None else [refused.message]
    if dialect.name == "anthropic_messages":
        return [*found, *claude_faults(body), *_late_system_faults(body["messages"])]
    return [*found, *openai_faults(body, markers=profile.regime == "breakpoints")]


def _late_system_faults(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Claude docs, *Mid-conversation system messages*: after the user's turn, before the assistant's or at the end."""
    roles = [message["role"] for message in messages]
    for number, role in enumerate(roles):
        before, after = roles[number - 1] if number else None, roles[number + 1] if number + 1 < len(roles) else None
        if role == "system" and (before not in {"user", "system"} or after not in {None, "assistant", "system"}):
            yield f"messages.{number}: a system message between {before} and {after}"


def _marked(block: st.SearchStrategy[dict[str, Any]], field: str, *markers: dict[str, Any]) -> Any:
    """Mark one block in four."""
    fields = [{}] * 3 * len(markers) + [{field: marker} for marker in markers]
    return st.builds(lambda inner, extra: {**inner, **extra}, block, st.sampled_from(fields))


def _claude(*blocks: Any) -> Any:
    control = {"type": "ephemeral"}
    found = [block if isinstance(block, st.SearchStrategy) else st.just(block) for block in blocks]
    return _marked(st.one_of(found), "cache_control", control, {**control, "ttl": "5m"}, {**control, "ttl": "1h"})


def _openai(*parts: Any) -> Any:
    point = {"mode": "explicit"}
    found = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return _marked(st.one_of(found), "prompt_cache_breakpoint", point, {**point, "ttl": "30m"})


_CLAUDE_TEXT = st.builds(lambda text: {"type": "text", "text": text}, _TEXT)
_CLAUDE_DOCUMENTS = (
    st.builds(lambda text: {"type": "text", "text": f"<document>{text}</document>"}, _TEXT),
    st.builds(
        lambda text: {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}, _TEXT
    ),
    st.builds(
        lambda text: {
            "type": "search_result",
            "source": "x",
            "title": "x",
            "content": [{"type": "text", "text": text}],
        },
        _TEXT,
    ),
)
_CLAUDE_IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
_CLAUDE_SAID = _claude(_CLAUDE_TEXT, _CLAUDE_TEXT, _CLAUDE_IMAGE, *_CLAUDE_DOCUMENTS)
_CLAUDE_INNER = st.one_of(_TEXT, st.lists(_claude(_CLAUDE_TEXT, _CLAUDE_IMAGE), min_size=1, max_size=2))
_CLAUDE_SEARCHED = [
    {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []},
]
_CLAUDE_OWN_TOOLS = [
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "mcp_toolset", "mcp_server_name": "s"},
    {"name": "later", "input_schema": _SCHEMA, "defer_loading": True},
]
_CLAUDE_MODELS = ["claude-opus-4-8", "claude-opus-5", "claude-sonnet-5", "claude-sonnet-4-5", "claude-haiku-4-5"]


@st.composite
def claude_talks(draw: Any) -> list[dict[str, Any]]:
    """Return the bodies of a conversation's requests, one for each time the user or a tool has had the word."""
    model, late = draw(st.sampled_from(_CLAUDE_MODELS)), draw(st.booleans())
    thinks = draw(st.sampled_from([None, None, {"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}]))
    system = draw(st.one_of(st.none(), _TEXT, st.lists(_claude(_CLAUDE_TEXT), min_size=1, max_size=3)))
    own = draw(st.lists(st.sampled_from(_CLAUDE_OWN_TOOLS), unique_by=str, max_size=3))
    head = {
        "model": model,
        "max_tokens": 2000,
        "thinking": thinks,
        "system": system,
        "cache_control": draw(
            st.sampled_from([None, None, None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
        ),
        "tool_choice": draw(st.sampled_from([None, None, {"type": "auto", "disable_parallel_tool_use": True}])),
    }
    messages: list[dict[str, Any]] = []
    bodies, called = [], list[str]()
    for turn in range(draw(st.integers(1, 4))):
        results = [
            draw(
                _claude(
                    st.builds(
                        lambda said, call=call: {"type": "tool_result", "tool_use_id": call, "content": said},
                        _CLAUDE_INNER,
                    )
                )
            )
            for call in draw(st.permutations(called))
        ]
        said = draw(st.lists(_CLAUDE_SAID, min_size=0 if called else 1, max_size=4))
        bare = not results and draw(st.booleans())
        messages.append({"role": "user", "content": draw(_TEXT) if bare else [*results, *said]})
        if late and model == "claude-opus-5" and draw(st.booleans()):
            messages.append({"role": "system", "content": draw(_TEXT)})
        names = draw(st.permutations(draw(_NAMES)))
        tools = [*({"name": name, "input_schema": _SCHEMA} for name in names), *own]
        tools = [draw(_claude(tool)) if "defer_loading" not in tool else tool for tool in tools]
        body = {**head, "tools": tools or None, "messages": list(messages)}
        bodies.append({name: value for name, value in body.items() if value is not None})
        called = [f"toolu_{turn}_{number}" for number in range(draw(st.integers(0, 3)))]
        thought = [{"type": "thinking", "thinking": "Well.", "signature": "s"}] if thinks else []
        searched = _CLAUDE_SEARCHED if draw(st.booleans()) else []
        calls = [{"type": "tool_use", "id": call, "name": "search", "input": {"q": call}} for call in called]
        answer = [*thought, *searched, draw(_claude(_CLAUDE_TEXT)), *(draw(_claude(call)) for call in calls)]
        messages.append({"role": "assistant", "content": answer})
    return bodies


_CHAT_TEXT = st.builds(lambda text: {"type": "text", "text": text}, _TEXT)
_CHAT_SAID = _openai(
    _CHAT_TEXT,
    _CHAT_TEXT,
    {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
    {"type": "file", "file": {"file_id": "file_1"}},
)
_CACHED_AS = st.sampled_from([None, None, None, {"mode": "explicit"}, {"mode": "implicit"}])


def _chat_content(role: str) -> Any:
    parts = _CHAT_SAID if role == "user" else _openai(_CHAT_TEXT)
    return st.one_of(_TEXT, st.lists(parts, min_size=1, max_size=3))


@st.composite
def chat_talks(draw: Any) -> list[dict[str, Any]]:
    """Return the bodies of a conversation's Chat Completions."""
    model = draw(st.sampled_from(["gpt-5.6-sol", "gpt-6.1-terra", "gpt-5.5", "gpt-4o-mini"]))
    options = draw(_CACHED_AS) if model.startswith(("gpt-5.6", "gpt-6")) else None
    roles = draw(st.lists(st.sampled_from(["system", "developer"]), max_size=2))
    messages = [{"role": role, "content": draw(_chat_content(role))} for role in roles]
    bodies, called = [], list[str]()
    for turn in range(draw(st.integers(1, 4))):
        messages += [
            {"role": "tool", "tool_call_id": call, "content": draw(_chat_content("tool"))}
            for call in draw(st.permutations(called))
        ]
        if not called or draw(st.booleans()):
            messages.append({"role": "user", "content": draw(_chat_content("user"))})
        if draw(st.sampled_from([False, False, True])):
            messages.append({"role": "developer", "content": draw(_TEXT)})
        names = draw(st.permutations(draw(_NAMES)))
        tools = [{"type": "function", "function": {"name": name, "parameters": _SCHEMA}} for name in names]
        body = {"model": model, "prompt_cache_options": options, "tools": tools or None, "messages": list(messages)}
        bodies.append({name: value for name, value in body.items() if value is not None})
        called = [f"call_{turn}_{number}" for number in range(draw(st.integers(0, 3)))]
        calls = [{"id": call, "type": "function", "function": {"name": "search", "arguments": "{}"}} for call in called]
        messages.append({"role": "assistant", "content": draw(_TEXT)} | ({"tool_calls": calls} if calls else {}))
    return bodies


_INPUT_TEXT = st.builds(lambda text: {"type": "input_text", "text": text}, _TEXT)
_INPUT_SAID = _openai(
    _INPUT_TEXT,
    _INPUT_TEXT,
    {"type": "input_image", "image_url": "https://example.org/x.png", "detail": "low"},
    {"type": "input_file", "file_id": "file_1"},
)


@st.composite
def responses_talks(draw: Any) -> list[dict[str, Any]]:
    """Return the bodies of a conversation's Responses, which carry all of it."""
    model = draw(st.sampled_from(["gpt-6-sol", "gpt-5.6-luna", "gpt-5.5", "gpt-4o-mini"]))
    options = draw(_CACHED_AS) if model.startswith(("gpt-5.6", "gpt-6")) else None
    instructions = draw(st.one_of(st.none(), _TEXT))
    content = st.one_of(_TEXT, st.lists(_INPUT_SAID, min_size=1, max_size=3))
    items: list[dict[str, Any]] = []
    bodies, called = [], list[str]()
    for turn in range(draw(st.integers(1, 4))):
        items += [
            {"type": "function_call_output", "call_id": call, "output": draw(content)}
            for call in draw(st.permutations(called))
        ]
        if not called or draw(st.booleans()):
            items.append({"role": draw(st.sampled_from(["user", "user", "developer"])), "content": draw(content)})
        names = draw(st.permutations(draw(_NAMES)))
        tools = [{"type": "function", "name": name, "parameters": _SCHEMA} for name in names]
        body = {
            "model": model,
            "prompt_cache_options": options,
            "instructions": instructions,
            "tools": tools or None,
            "input": list(items),
        }
        bodies.append({name: value for name, value in body.items() if value is not None})
        called = [f"call_{turn}_{number}" for number in range(draw(st.integers(0, 3)))]
        items.append({"type": "reasoning", "id": f"rs_{turn}", "summary": [], "encrypted_content": "aa"})
        items += ({"type": "function_call", "call_id": call, "name": "search", "arguments": "{}"} for call in called)
        items.append({"role": "assistant", "content": [{"type": "output_text", "text": draw(_TEXT)}]})
    return bodies
