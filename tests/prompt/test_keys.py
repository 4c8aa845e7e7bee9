import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Message, Part, Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.prompt.keys import KeyPolicy, raw_key, response_key

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "default": None}, "full": {"type": "boolean"}},
    "required": ["order_id"],
}

CLAUDE = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 1024,
    "system": "You help.",
    "temperature": 0.5,
    "stop_sequences": ["END", "STOP"],
    "tool_choice": {"type": "auto"},
    "metadata": {"user_id": "u1"},
    "tools": [
        {"name": "get_order", "description": "Get an order.", "input_schema": SCHEMA},
        {"name": "cancel", "description": "Cancel an order.", "input_schema": {"type": "object"}},
    ],
    "messages": [
        {"role": "user", "content": "Where is my order?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_order", "input": {"order_id": "7", "full": True}},
                {"type": "tool_use", "id": "toolu_2", "name": "get_order", "input": {"order_id": "8"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "shipped"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "lost"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ],
}

CHAT = {
    "model": "gpt-4o-mini",
    "temperature": 0.5,
    "seed": 7,
    "max_tokens": 100,
    "stop": ["END", "STOP"],
    "user": "u1",
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "Answer", "schema": SCHEMA}},
    "tools": [
        {"type": "function", "function": {"name": "get_order", "description": "Get.", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "cancel", "description": "Cancel.", "parameters": {}}},
    ],
    "messages": [
        {"role": "system", "content": "You help."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Where is this?"},
                {"type": "image_url", "image_url": {"url": "https://shop/p.png", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_order", "arguments": '{"order_id": "7", "full": true}'},
                },
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "get_order", "arguments": '{"order_id": "8"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "shipped"},
        {"role": "tool", "tool_call_id": "call_2", "content": "lost"},
        {"role": "user", "content": "And?"},
    ],
}

RESPONSES = {
    "model": "gpt-5.5",
    "instructions": "You help.",
    "temperature": 0.5,
    "max_output_tokens": 100,
    "user": "u1",
    "tools": [{"type": "function", "name": "get_order", "description": "Get.", "parameters": SCHEMA}],
    "input": [
        {"role": "user", "content": "Where is my order?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "get_order",
            "arguments": '{"order_id": "7", "full": true}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "shipped"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Shipped.", "annotations": []}],
        },
        {"role": "user", "content": "And?"},
    ],
}

PINNED = "v2.sha256.1ce25961c41c23f4b5a7055d39cca85b4846db101a184d91c1c20ad35bba5f06"
PINNED_RAW = "v2.sha256.8c20b5f36b0e888d4522f61a7b4c461a0c18da3e4757996d10b3617a3a9d2d92"

EXACT = KeyPolicy(exact=True)

DIALECTS = {"claude": AnthropicMessages(), "chat": OpenAIChat(), "responses": OpenAIResponses()}
BODIES = {"claude": CLAUDE, "chat": CHAT, "responses": RESPONSES}


def key_of(name, body, **options):
    return response_key(DIALECTS[name].decode_request(body), **options)


def changed(body, path, value):
    """Return ``body`` with ``value`` at ``path``, or without the field if ``value`` is ``...``."""
    body = json.loads(json.dumps(body))
    at = body
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return body


def turned(value):
    """Return ``value`` with the keys of every object in reverse order."""
    if isinstance(value, dict):
        return {name: turned(item) for name, item in reversed(value.items())}
    return [turned(item) for item in value] if isinstance(value, list) else value


def renamed(value, names):
    """Return ``value`` with every string in ``names`` replaced."""
    if isinstance(value, dict):
        return {name: renamed(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


SAME = {
    "claude": {
        "key order": turned(CLAUDE),
        "white space around the system prompt": changed(CLAUDE, ["system"], "\n You help.\n"),
        "white space around user text": changed(CLAUDE, ["messages", 0, "content"], " Where is my order?\n"),
        "white space at the end of a user message": changed(CLAUDE, ["messages", 2, "content", 2, "text"], "And? "),
        "a system prompt as one block": changed(CLAUDE, ["system"], [{"type": "text", "text": "You help."}]),
        "user text as one block": changed(
            CLAUDE, ["messages", 0, "content"], [{"type": "text", "text": "Where is my order?"}]
        ),
        "a tool result as one block": changed(
            CLAUDE, ["messages", 2, "content", 0, "content"], [{"type": "text", "text": "shipped"}]
        ),
        "user": changed(CLAUDE, ["metadata"], {"user_id": "u2"}),
        "no user": changed(CLAUDE, ["metadata"], ...),
        "stream": changed(CLAUDE, ["stream"], True),
        "diagnostics": changed(CLAUDE, ["diagnostics"], {"previous_message_id": "msg_1"}),
        "a marker on a block": changed(CLAUDE, ["tools", 1, "cache_control"], {"type": "ephemeral"}),
        "a marker on the request": changed(CLAUDE, ["cache_control"], {"type": "ephemeral", "ttl": "1h"}),
        "order of stop sequences": changed(CLAUDE, ["stop_sequences"], ["STOP", "END", "END"]),
        "call ids": renamed(CLAUDE, {"toolu_1": "toolu_x", "toolu_2": "toolu_1"}),
        "null citations": changed(CLAUDE, ["messages", 1, "content", 0, "citations"], None),
        "a null option": changed(CLAUDE, ["top_p"], None),
        "a whole number as a float": changed(CLAUDE, ["max_tokens"], 1024.0),
    },
    "chat": {
        "key order": changed(
            turned(CHAT),
            ["response_format", "json_schema", "schema", "properties"],
            CHAT["response_format"]["json_schema"]["schema"]["properties"],
        ),
        "key order of arguments": changed(
            CHAT,
            ["messages", 2, "tool_calls", 0, "function", "arguments"],
            '{"full":true,"order_id":"7"}',
        ),
        "white space around the system prompt": changed(CHAT, ["messages", 0, "content"], " You help. "),
        "white space around user text": changed(CHAT, ["messages", 5, "content"], "And?\n"),
        "white space before the first part": changed(CHAT, ["messages", 1, "content", 0, "text"], " Where is this?"),
        "user": changed(CHAT, ["user"], "u2"),
        "safety identifier": changed(CHAT, ["safety_identifier"], "hash"),
        "stream": changed(changed(CHAT, ["stream"], True), ["stream_options"], {"include_usage": True}),
        "metadata": changed(CHAT, ["metadata"], {"request_id": "r1"}),
        "cache key": changed(CHAT, ["prompt_cache_key"], "shard 1"),
        "cache options": changed(CHAT, ["prompt_cache_options"], {"mode": "explicit"}),
        "cache retention": changed(CHAT, ["prompt_cache_retention"], "24h"),
        "a breakpoint": changed(CHAT, ["messages", 1, "content", 0, "prompt_cache_breakpoint"], {"mode": "explicit"}),
        "stop as a string": changed(CHAT, ["stop"], ["STOP", "END"]),
        "call ids": renamed(CHAT, {"call_1": "call_9", "call_2": "call_1"}),
    },
    "responses": {
        "key order": turned(RESPONSES),
        "white space around the instructions": changed(RESPONSES, ["instructions"], "You help.\n"),
        "user text as one part": changed(
            RESPONSES, ["input", 0, "content"], [{"type": "input_text", "text": "Where is my order?"}]
        ),
        "a message by its type": changed(RESPONSES, ["input", 0, "type"], "message"),
        "ids of calls and items": renamed(RESPONSES, {"call_1": "call_2", "fc_1": "fc_2", "msg_1": "msg_2"}),
        "no item ids": changed(changed(RESPONSES, ["input", 2, "id"], ...), ["input", 4, "id"], ...),
        "no annotations": changed(RESPONSES, ["input", 4, "content", 0, "annotations"], ...),
        "user": changed(RESPONSES, ["user"], ...),
        "stream": changed(RESPONSES, ["stream"], True),
    },
}

OTHER = {
    "claude": {
        "model": changed(CLAUDE, ["model"], "claude-opus-4-5"),
        "temperature": changed(CLAUDE, ["temperature"], 0.6),
        "no temperature": changed(CLAUDE, ["temperature"], ...),
        "max tokens": changed(CLAUDE, ["max_tokens"], 1025),
        "stop set": changed(CLAUDE, ["stop_sequences"], ["END"]),
        "tool choice": changed(CLAUDE, ["tool_choice"], {"type": "any"}),
        "thinking": changed(CLAUDE, ["thinking"], {"type": "enabled", "budget_tokens": 1024}),
        "tool name": changed(CLAUDE, ["tools", 0, "name"], "fetch_order"),
        "tool description": changed(CLAUDE, ["tools", 0, "description"], "Get one order."),
        "white space in a tool description": changed(CLAUDE, ["tools", 0, "description"], "Get an order. "),
        "tool schema": changed(CLAUDE, ["tools", 0, "input_schema", "required"], []),
        "a null in a schema": changed(
            CLAUDE, ["tools", 0, "input_schema", "properties", "order_id"], {"type": "string"}
        ),
        "tool order": changed(CLAUDE, ["tools"], CLAUDE["tools"][::-1]),
        "no tools": changed(CLAUDE, ["tools"], ...),
        "system text": changed(CLAUDE, ["system"], "You help!"),
        "no system": changed(CLAUDE, ["system"], ...),
        "user text": changed(CLAUDE, ["messages", 0, "content"], "Where's my order?"),
        "white space inside user text": changed(CLAUDE, ["messages", 0, "content"], "Where is  my order?"),
        "case": changed(CLAUDE, ["messages", 0, "content"], "where is my order?"),
        "white space in an answer": changed(CLAUDE, ["messages", 1, "content", 0, "text"], "Let me see. "),
        "white space in a tool result": changed(CLAUDE, ["messages", 2, "content", 0, "content"], "shipped "),
        "message order": changed(CLAUDE, ["messages"], CLAUDE["messages"][::-1]),
        "part order": changed(CLAUDE, ["messages", 2, "content"], CLAUDE["messages"][2]["content"][::-1]),
        "order of parallel calls": changed(
            CLAUDE, ["messages", 1, "content"], [CLAUDE["messages"][1]["content"][index] for index in (0, 2, 1)]
        ),
        "which result belongs to which call": changed(
            changed(CLAUDE, ["messages", 2, "content", 0, "tool_use_id"], "toolu_2"),
            ["messages", 2, "content", 1, "tool_use_id"],
            "toolu_1",
        ),
        "a failed tool": changed(CLAUDE, ["messages", 2, "content", 0, "is_error"], True),
        "arguments": changed(CLAUDE, ["messages", 1, "content", 2, "input"], {"order_id": "9"}),
        "a null argument": changed(CLAUDE, ["messages", 1, "content", 2, "input"], {"order_id": "8", "full": None}),
        "two blocks for one": changed(
            CLAUDE, ["system"], [{"type": "text", "text": "You "}, {"type": "text", "text": "help."}]
        ),
    },
    "chat": {
        "model": changed(CHAT, ["model"], "gpt-4o"),
        "temperature": changed(CHAT, ["temperature"], 0),
        "seed": changed(CHAT, ["seed"], 8),
        "max tokens": changed(CHAT, ["max_tokens"], 101),
        "n": changed(CHAT, ["n"], 2),
        "stop set": changed(CHAT, ["stop"], "END"),
        "tool choice": changed(CHAT, ["tool_choice"], "required"),
        "response format": changed(CHAT, ["response_format", "json_schema", "schema", "required"], []),
        "order of the answer's fields": changed(
            CHAT,
            ["response_format", "json_schema", "schema", "properties"],
            dict(reversed(CHAT["response_format"]["json_schema"]["schema"]["properties"].items())),
        ),
        "no response format": changed(CHAT, ["response_format"], ...),
        "tool name": changed(CHAT, ["tools", 0, "function", "name"], "fetch_order"),
        "tool schema": changed(CHAT, ["tools", 0, "function", "parameters", "required"], []),
        "tool order": changed(CHAT, ["tools"], CHAT["tools"][::-1]),
        "service tier": changed(CHAT, ["service_tier"], "flex"),
        "system for developer": changed(CHAT, ["messages", 0, "role"], "developer"),
        "the name of a speaker": changed(CHAT, ["messages", 5, "name"], "bob"),
        "image link": changed(CHAT, ["messages", 1, "content", 1, "image_url", "url"], "https://shop/q.png"),
        "image detail": changed(CHAT, ["messages", 1, "content", 1, "image_url", "detail"], "high"),
        "content-part order": changed(CHAT, ["messages", 1, "content"], CHAT["messages"][1]["content"][::-1]),
        "argument": changed(CHAT, ["messages", 2, "tool_calls", 1, "function", "arguments"], '{"order_id": 8}'),
        "arguments that are no JSON": changed(
            CHAT, ["messages", 2, "tool_calls", 1, "function", "arguments"], '{"order_id": "8"'
        ),
        "an argument twice": changed(
            CHAT, ["messages", 2, "tool_calls", 1, "function", "arguments"], '{"order_id": "1", "order_id": "8"}'
        ),
        "an argument that is no JSON": changed(
            CHAT, ["messages", 2, "tool_calls", 1, "function", "arguments"], '{"order_id": NaN}'
        ),
        "order of results": changed(CHAT, ["messages"], [CHAT["messages"][index] for index in (0, 1, 2, 4, 3, 5)]),
        "which result belongs to which call": changed(
            changed(CHAT, ["messages", 3, "tool_call_id"], "call_2"), ["messages", 4, "tool_call_id"], "call_1"
        ),
    },
    "responses": {
        "instructions": changed(RESPONSES, ["instructions"], "You don't."),
        "previous response": changed(RESPONSES, ["previous_response_id"], "resp_1"),
        "stored reasoning": changed(RESPONSES, ["input", 1, "id"], "rs_2"),
        "encrypted reasoning": changed(RESPONSES, ["input", 1, "encrypted_content"], "abd"),
        "output of a tool": changed(RESPONSES, ["input", 3, "output"], "lost"),
        "call": changed(RESPONSES, ["input", 2, "arguments"], '{"order_id": "8"}'),
        "effort": changed(RESPONSES, ["reasoning"], {"effort": "low"}),
        "output tokens": changed(RESPONSES, ["max_output_tokens"], 99),
    },
}


def rows(table):
    return [pytest.param(name, body, id=f"{name}: {row}") for name, rows in table.items() for row, body in rows.items()]


@pytest.mark.parametrize(("name", "body"), rows(SAME))
def test_what_cannot_change_the_answer_keeps_the_key(name, body):
    assert json.dumps(body) != json.dumps(BODIES[name])
    assert key_of(name, body) == key_of(name, BODIES[name])


@pytest.mark.parametrize(("name", "body"), rows(OTHER))
def test_what_can_change_the_answer_changes_the_key(name, body):
    assert key_of(name, body) != key_of(name, BODIES[name])


def test_no_two_of_all_these_requests_share_a_key_by_chance():
    bodies = [(name, body) for name, rows in OTHER.items() for body in (BODIES[name], *rows.values())]
    assert len({key_of(name, body) for name, body in bodies}) == len(bodies)


@pytest.mark.parametrize("row", [row for row in SAME["claude"] if row.startswith("white space")])
def test_exact_lets_white_space_count(row):
    assert key_of("claude", SAME["claude"][row], policy=EXACT) != key_of("claude", CLAUDE, policy=EXACT)


def test_exact_and_lenient_caches_share_no_entry():
    assert key_of("claude", CLAUDE, policy=EXACT) != key_of("claude", CLAUDE)


def test_exact_still_leaves_out_what_no_model_reads():
    assert key_of("claude", SAME["claude"]["user"], policy=EXACT) == key_of("claude", CLAUDE, policy=EXACT)


def test_stop_as_a_string_is_a_list_of_one():
    assert key_of("chat", changed(CHAT, ["stop"], "END")) == key_of("chat", changed(CHAT, ["stop"], ["END"]))


def test_one_text_means_other_things_in_other_formats():
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert key_of("chat", body) != key_of("claude", body)


def test_the_grammar_of_a_key():
    key = key_of("claude", CLAUDE)
    version, algorithm, digest = key.split(".")
    assert (version, algorithm, len(digest)) == ("v2", "sha256", 64)
    int(digest, 16)


def test_keys_stay_what_they_are():
    # A change here orphans every stored answer: raise VERSION with it.
    request = Request(
        dialect="openai_chat",
        model="gpt-4o-mini",
        messages=(Message(role="user", parts=(Part(kind="text", raw={}, text="hi"),)),),
        options={"temperature": 0},
    )
    assert response_key(request, namespace="tenant") == PINNED
    assert raw_key("hi", "model", namespace="tenant") == PINNED_RAW


def test_a_composed_part_counts_by_its_text():
    def key(kind, text):
        parts = (Part(kind=kind, raw={}, text=text),)
        return response_key(Request(dialect="openai_chat", model="m", messages=(Message(role="user", parts=parts),)))

    kinds = ["text", "thinking", "refusal", "tool_call"]
    keys = {key(kind, text) for kind, text in itertools.product(kinds, ['{"a": 1}', '{"a": 2}'])}
    assert len(keys) == 2 * len(kinds)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_what_no_wire_can_carry_has_a_raw_key_only(text):
    request = Request(
        dialect="openai_chat",
        model="m",
        messages=(Message(role="user", parts=(Part(kind="text", raw={}, text=text),)),),
    )
    with pytest.raises(MalformedRequest):
        response_key(request)
    assert raw_key(text, "model") != raw_key("\ud801", "model")


texts = st.text(max_size=5)


@given(st.tuples(texts, texts, texts), st.tuples(texts, texts, texts))
def test_raw_keys_are_equal_only_for_equal_parts(one, other):
    def key(prompt, llm_string, namespace):
        return raw_key(prompt, llm_string, namespace=namespace)

    assert (key(*one) == key(*other)) == (one == other)


@given(texts, texts)
def test_a_namespace_is_part_of_the_key(one, other):
    assert (key_of("chat", CHAT, namespace=one) == key_of("chat", CHAT, namespace=other)) == (one == other)


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
    st.lists(st.text(min_size=1, max_size=3), min_size=3, max_size=3, unique=True),
)
def test_call_ids_count_only_by_which_are_equal(calls, ids):
    def body(names):
        messages = [{"role": "tool", "tool_call_id": names[call], "content": "x"} for call in calls]
        return {"model": "m", "messages": messages}

    assert key_of("chat", body(dict(zip("abc", ids, strict=True)))) == key_of(
        "chat", body({"a": "a", "b": "b", "c": "c"})
    )
