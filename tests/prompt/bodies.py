"""Arbitrary request bodies, well formed but with markers in every place and of every kind, allowed or not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_WORD = st.sampled_from(["", " ", "word ", "another word ", "two\nlines ", "a long one " * 40, "é漢字🙂 "])
TEXT = st.builds(lambda word, times: word * times, _WORD, st.integers(1, 60))
_ID = st.sampled_from(["call_1", "call_2", "call_3"])
_NAME = st.sampled_from(["search", "book", "cancel", "a", "zeta"])
_TTL = st.sampled_from([None, None, "5m", "1h", "2h"])
_OPENAI_TTL = st.sampled_from([None, None, "30m", "12h", "5m"])
_SCHEMA = st.sampled_from(
    [
        {"type": "object"},
        {"type": "object", "properties": {"z": {"type": "string"}, "a": {"enum": ["q", "b"]}}, "required": ["z", "a"]},
        {"required": ["b"], "properties": {"b": {"items": {"type": "integer"}, "type": "array"}}, "type": "object"},
    ]
)


def _cache_control(ttl: str | None) -> dict[str, Any]:
    return {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})


def _breakpoint(ttl: str | None) -> dict[str, Any]:
    return {"mode": "explicit"} | ({"ttl": ttl} if ttl else {})


def _maybe_marked(block: st.SearchStrategy[dict[str, Any]], field: str, marker: Any) -> st.SearchStrategy[Any]:
    return st.one_of(block, block, st.builds(lambda inner, found: {**inner, field: found}, block, marker))


CLAUDE_MARKER = st.builds(_cache_control, _TTL)


def _claude(block: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    return _maybe_marked(block, "cache_control", CLAUDE_MARKER)


_TEXT_BLOCK = _claude(st.builds(lambda text: {"type": "text", "text": text}, TEXT))
_IMAGE = _claude(st.just({"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}))
_NESTED = st.one_of(TEXT, st.lists(st.one_of(_TEXT_BLOCK, _IMAGE), max_size=3))
_TOOL_RESULT = _claude(
    st.builds(lambda call, inner: {"type": "tool_result", "tool_use_id": call, "content": inner}, _ID, _NESTED)
)
_DOCUMENT = _claude(
    st.builds(
        lambda inner: {"type": "document", "source": {"type": "content", "content": inner}},
        st.lists(_TEXT_BLOCK, min_size=1, max_size=3),
    )
)
_THINKING = _claude(st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, TEXT))
_TOOL_USE = _claude(
    st.builds(lambda call, name: {"type": "tool_use", "id": call, "name": name, "input": {"q": 1}}, _ID, _NAME)
)
_USER_BLOCK = st.one_of(_TEXT_BLOCK, _TOOL_RESULT, _IMAGE, _DOCUMENT)
_ASSISTANT_BLOCK = st.one_of(_TEXT_BLOCK, _TOOL_USE, _THINKING)
_CLAUDE_MESSAGE = st.one_of(
    st.builds(lambda content: {"role": "user", "content": content}, st.one_of(TEXT, st.lists(_USER_BLOCK, max_size=5))),
    st.builds(
        lambda content: {"role": "assistant", "content": content},
        st.one_of(TEXT, st.lists(_ASSISTANT_BLOCK, max_size=5)),
    ),
)
_CLAUDE_TOOL = _claude(
    st.builds(
        lambda name, schema, deferred: (
            {"name": name, "input_schema": schema} | ({"defer_loading": True} if deferred else {})
        ),
        _NAME,
        _SCHEMA,
        st.booleans(),
    )
)


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


CLAUDE_BODIES = st.builds(
    _without_none,
    model=st.just("claude-opus-4-8"),
    max_tokens=st.just(100),
    tools=st.one_of(st.none(), st.lists(_CLAUDE_TOOL, max_size=6)),
    system=st.one_of(st.none(), TEXT, st.lists(_TEXT_BLOCK, max_size=4)),
    messages=st.lists(_CLAUDE_MESSAGE, min_size=1, max_size=8),
    cache_control=st.one_of(st.none(), st.none(), CLAUDE_MARKER),
)


def _openai(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    return _maybe_marked(part, "prompt_cache_breakpoint", st.builds(_breakpoint, _OPENAI_TTL))


_CHAT_TEXT = _openai(st.builds(lambda text: {"type": "text", "text": text}, TEXT))
_CHAT_IMAGE = _openai(st.just({"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}))
_CALL = st.builds(
    lambda call, name: {"id": call, "type": "function", "function": {"name": name, "arguments": "{}"}}, _ID, _NAME
)
_CHAT_MESSAGE = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "developer"]),
        st.one_of(TEXT, st.lists(_CHAT_TEXT, min_size=1, max_size=3)),
    ),
    st.builds(
        lambda content: {"role": "user", "content": content},
        st.one_of(TEXT, st.lists(st.one_of(_CHAT_TEXT, _CHAT_IMAGE), min_size=1, max_size=3)),
    ),
    st.builds(
        lambda content, calls: {"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {}),
        st.one_of(st.none(), TEXT),
        st.lists(_CALL, max_size=3),
    ),
    st.builds(
        lambda call, content: {"role": "tool", "tool_call_id": call, "content": content},
        _ID,
        st.one_of(TEXT, st.lists(_CHAT_TEXT, min_size=1, max_size=2)),
    ),
)
_CHAT_TOOL = st.builds(
    lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}}, _NAME, _SCHEMA
)
CHAT_BODIES = st.builds(
    _without_none,
    model=st.sampled_from(["gpt-5.6-sol", "gpt-4o-mini"]),
    tools=st.one_of(st.none(), st.lists(_CHAT_TOOL, max_size=5)),
    messages=st.lists(_CHAT_MESSAGE, min_size=1, max_size=8),
    prompt_cache_options=st.sampled_from([None, None, {"mode": "explicit"}, {"mode": "implicit"}]),
)

_INPUT_TEXT = _openai(st.builds(lambda text: {"type": "input_text", "text": text}, TEXT))
_ITEM = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "developer", "user"]),
        st.one_of(TEXT, st.lists(_INPUT_TEXT, min_size=1, max_size=3)),
    ),
    st.builds(lambda text: {"role": "assistant", "content": [{"type": "output_text", "text": text}]}, TEXT),
    st.builds(
        lambda call, name: {"type": "function_call", "call_id": call, "name": name, "arguments": "{}"}, _ID, _NAME
    ),
    st.builds(
        lambda call, output: {"type": "function_call_output", "call_id": call, "output": output},
        _ID,
        st.one_of(TEXT, st.lists(_INPUT_TEXT, min_size=1, max_size=2)),
    ),
)
_RESPONSES_TOOL = st.builds(
    lambda name, schema: {"type": "function", "name": name, "parameters": schema}, _NAME, _SCHEMA
)
RESPONSES_BODIES = st.builds(
    _without_none,
    model=st.sampled_from(["gpt-6-sol", "gpt-5.5"]),
    instructions=st.one_of(st.none(), TEXT),
    tools=st.one_of(st.none(), st.lists(_RESPONSES_TOOL, max_size=5)),
    input=st.one_of(TEXT, st.lists(_ITEM, min_size=1, max_size=8)),
    prompt_cache_options=st.sampled_from([None, None, {"mode": "explicit"}]),
)
