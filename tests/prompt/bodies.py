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
_SEARCH_RESULT = _claude(
    st.builds(
        lambda inner: {"type": "search_result", "source": "https://x.org", "title": "x", "content": inner},
        st.lists(_TEXT_BLOCK, min_size=1, max_size=2),
    )
)
_PDF = _claude(
    st.just({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aa"}})
)
_UPLOAD = _claude(st.just({"type": "container_upload", "file_id": "file_1"}))
_THINKING = _claude(
    st.one_of(
        st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, TEXT),
        st.just({"type": "redacted_thinking", "data": "aa"}),
    )
)
_TOOL_USE = _claude(
    st.builds(
        lambda call, name, caller: {"type": "tool_use", "id": call, "name": name, "input": {"q": 1}} | caller,
        _ID,
        _NAME,
        st.sampled_from([{}, {}, {"caller": {"type": "direct"}}, {"caller": {"type": "code_execution_20260120"}}]),
    )
)
_SERVER_BLOCK = _claude(
    st.sampled_from(
        [
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result"}]},
            {"type": "mcp_tool_use", "id": "mcp_1", "name": "a", "server_name": "s", "input": {}},
            {"type": "compaction", "content": "Long ago."},
            {"type": "fallback"},
            {"type": "heard_of_by_nobody", "what": 1},
        ]
    )
)
_USER_BLOCK = st.one_of(_TEXT_BLOCK, _TOOL_RESULT, _IMAGE, _DOCUMENT, _SEARCH_RESULT, _PDF, _UPLOAD)
_ASSISTANT_BLOCK = st.one_of(_TEXT_BLOCK, _TOOL_USE, _THINKING, _SERVER_BLOCK)
_CLAUDE_MESSAGE = st.one_of(
    st.builds(lambda content: {"role": "user", "content": content}, st.one_of(TEXT, st.lists(_USER_BLOCK, max_size=5))),
    st.builds(
        lambda content: {"role": "assistant", "content": content},
        st.one_of(TEXT, st.lists(_ASSISTANT_BLOCK, max_size=5)),
    ),
    st.builds(
        lambda content: {"role": "system", "content": content}, st.one_of(TEXT, st.lists(_TEXT_BLOCK, max_size=2))
    ),
)
_CLAUDE_TOOL = _claude(
    st.one_of(
        st.builds(
            lambda name, schema, deferred: (
                {"name": name, "input_schema": schema} | ({"defer_loading": True} if deferred else {})
            ),
            _NAME,
            _SCHEMA,
            st.booleans(),
        ),
        st.sampled_from(
            [
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
                {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
                {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
                {"type": "mcp_toolset", "mcp_server_name": "s", "configs": {"a": {"defer_loading": True}}},
            ]
        ),
    )
)
_CHOICE = st.sampled_from([None, None, {"type": "any"}, {"type": "tool", "name": "a"}, {"type": "none"}])
_THOUGHT = st.sampled_from(
    [None, None, {"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, {"type": "disabled"}]
)


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


CLAUDE_BODIES = st.builds(
    _without_none,
    model=st.sampled_from(
        ["claude-opus-4-8", "claude-opus-4-8", "claude-opus-5", "claude-sonnet-4-5", "claude-haiku-4-5"]
    ),
    max_tokens=st.just(100),
    tools=st.one_of(st.none(), st.lists(_CLAUDE_TOOL, max_size=6)),
    system=st.one_of(st.none(), TEXT, st.lists(_TEXT_BLOCK, max_size=4)),
    messages=st.lists(_CLAUDE_MESSAGE, min_size=1, max_size=8),
    cache_control=st.one_of(st.none(), st.none(), CLAUDE_MARKER),
    thinking=_THOUGHT,
    tool_choice=_CHOICE,
)


def _openai(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    return _maybe_marked(part, "prompt_cache_breakpoint", st.builds(_breakpoint, _OPENAI_TTL))


_CHAT_TEXT = _openai(st.builds(lambda text: {"type": "text", "text": text}, TEXT))
_CHAT_IMAGE = _openai(st.just({"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}))
_CHAT_FILE = _openai(st.just({"type": "file", "file": {"file_id": "file_1"}}))
_CHAT_AUDIO = _openai(st.just({"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}}))
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
        st.one_of(TEXT, st.lists(st.one_of(_CHAT_TEXT, _CHAT_IMAGE, _CHAT_FILE, _CHAT_AUDIO), min_size=1, max_size=3)),
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
_CHAT_TOOL = st.one_of(
    st.builds(
        lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}}, _NAME, _SCHEMA
    ),
    st.just({"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}),
)
_OPTIONS = st.sampled_from(
    [None, None, None, {"mode": "explicit"}, {"mode": "implicit"}, {"ttl": "30m"}, {"mode": "explicit", "ttl": "12h"}]
)
_RETENTION = st.sampled_from([None, None, None, "24h", "in_memory"])
CHAT_BODIES = st.builds(
    _without_none,
    model=st.sampled_from(["gpt-5.6-sol", "gpt-6.1-terra", "gpt-4o-mini", "gpt-5.5"]),
    tools=st.one_of(st.none(), st.lists(_CHAT_TOOL, max_size=5)),
    messages=st.lists(_CHAT_MESSAGE, min_size=1, max_size=8),
    prompt_cache_options=_OPTIONS,
    prompt_cache_retention=_RETENTION,
    prompt_cache_key=st.sampled_from([None, None, "ours"]),
)

_INPUT_TEXT = _openai(st.builds(lambda text: {"type": "input_text", "text": text}, TEXT))
_INPUT_IMAGE = _openai(st.just({"type": "input_image", "image_url": "https://example.org/x.png", "detail": "low"}))
_INPUT_FILE = _openai(st.just({"type": "input_file", "file_id": "file_1"}))
_INPUT = st.one_of(_INPUT_TEXT, _INPUT_TEXT, _INPUT_IMAGE, _INPUT_FILE)
_ITEM = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "developer", "user"]),
        st.one_of(TEXT, st.lists(_INPUT, min_size=1, max_size=3)),
    ),
    st.sampled_from(
        [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "aa"},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "mcp_list_tools", "id": "m_1", "server_label": "s", "tools": []},
        ]
    ),
    st.builds(lambda text: {"role": "assistant", "content": [{"type": "output_text", "text": text}]}, TEXT),
    st.builds(
        lambda call, name: {"type": "function_call", "call_id": call, "name": name, "arguments": "{}"}, _ID, _NAME
    ),
    st.builds(
        lambda call, output: {"type": "function_call_output", "call_id": call, "output": output},
        _ID,
        st.one_of(TEXT, st.lists(_INPUT, min_size=1, max_size=2)),
    ),
)
_RESPONSES_TOOL = st.one_of(
    st.builds(lambda name, schema: {"type": "function", "name": name, "parameters": schema}, _NAME, _SCHEMA),
    st.sampled_from([{"type": "web_search"}, {"type": "mcp", "server_label": "s", "server_url": "https://x.org"}]),
)
RESPONSES_BODIES = st.builds(
    _without_none,
    model=st.sampled_from(["gpt-6-sol", "gpt-5.6-luna", "gpt-5.5", "gpt-4o-mini"]),
    instructions=st.one_of(st.none(), TEXT),
    tools=st.one_of(st.none(), st.lists(_RESPONSES_TOOL, max_size=5)),
    input=st.one_of(TEXT, st.lists(_ITEM, min_size=1, max_size=8)),
    prompt_cache_options=_OPTIONS,
    prompt_cache_retention=_RETENTION,
    previous_response_id=st.sampled_from([None, None, None, "resp_1"]),
)
