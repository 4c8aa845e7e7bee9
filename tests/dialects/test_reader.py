import copy
import datetime as dt
import json
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.errors import MalformedRequest
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES

DIALECTS = [
    pytest.param(ANTHROPIC_MESSAGES, CLAUDE_BODIES, "messages", id="claude"),
    pytest.param(OPENAI_CHAT, CHAT_BODIES, "messages", id="chat"),
    pytest.param(OPENAI_RESPONSES, RESPONSES_BODIES, "input", id="responses"),
]
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
MARK = {"cache_control": {"type": "ephemeral"}}


def claude(*contents, **fields):
    roles = ("user", "assistant")
    rows = [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]
    return {"model": "m", "max_tokens": 1, **fields, "messages": rows}


def text(words, **fields):
    return [{"type": "text", "text": words, **fields}]


def call(arguments):
    return [{"type": "tool_use", "id": "t", "name": "n", "input": arguments}]


def shared(one, other):
    return [number for number, pair in enumerate(zip(one.messages, other.messages, strict=False)) if pair[0] is pair[1]]


@pytest.mark.parametrize(("dialect", "bodies", "field"), DIALECTS)
def test_whatever_was_read_before_a_body_is_read_as_it_always_is(dialect, bodies, field):
    @given(st.data(), bodies, bodies)
    def law(data, one, other):
        reader = BodyReader()
        pool = [*one[field], *other[field]] if isinstance(one[field], list) and isinstance(other[field], list) else []
        for _ in range(4):
            body = copy.deepcopy(data.draw(st.sampled_from([one, other])))
            if pool:
                body[field] = copy.deepcopy(data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6)))
            read = reader.read(dialect, body)
            assert read == dialect.decode_request(body)
            assert dialect.encode_request(read) == dialect.encode_request(dialect.decode_request(body))

    law()


@pytest.mark.parametrize(("dialect", "bodies", "field"), DIALECTS)
def test_heads_tell_what_was_said_and_nothing_else(dialect, bodies, field):
    @settings(max_examples=30)
    @given(st.data(), bodies, bodies)
    def law(data, one, other):
        pool = [*one[field], *other[field]] if isinstance(one[field], list) and isinstance(other[field], list) else []
        assume(pool)
        reader, said = BodyReader(), {}
        for _ in range(6):
            rows = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5))
            read = reader.read(dialect, copy.deepcopy({**one, field: rows}))
            assert len(read.messages.heads) == len(rows)
            for count, head in enumerate(read.messages.heads, start=1):
                assert said.setdefault(head, json.dumps(rows[:count])) == json.dumps(rows[:count])
        assert len(set(said.values())) == len(said)

    law()


def test_a_copy_of_a_conversation_is_the_messages_alone():
    read = BodyReader().read(ANTHROPIC_MESSAGES, claude("a", "b", "c"))
    for copied in (copy.deepcopy(read.messages), pickle.loads(pickle.dumps(read.messages))):  # noqa: S301 - dumped here
        assert type(copied) is tuple
        assert copied == read.messages


def test_a_turn_has_the_messages_and_the_tools_of_the_one_before_it():
    tools = [{"name": "n", "input_schema": {"type": "object"}}]
    reader, contents = BodyReader(), ["a", "b", text("c", **MARK)]
    first = reader.read(ANTHROPIC_MESSAGES, claude(*contents, tools=copy.deepcopy(tools)))
    contents = ["a", "b", text("c"), "d", text("e", **MARK)]
    second = reader.read(ANTHROPIC_MESSAGES, claude(*contents, tools=copy.deepcopy(tools)))

    assert shared(first, second) == [0, 1]
    assert second.tools is first.tools
    assert second.messages[2].parts[0].marker is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (call({"a": 1, "b": 2}), call({"b": 2, "a": 1})),
        (call({"a": 1}), call({"a": 1.0})),
        (call({"a": 1}), call({"a": True})),
        (text("b"), [{"text": "b", "type": "text"}]),
        ("b", text("b")),
    ],
)
def test_what_python_calls_equal_is_not_always_the_same_on_the_wire(old, new):
    reader = BodyReader()
    first = reader.read(ANTHROPIC_MESSAGES, claude("a", old, "c", "d", "e"))
    second = reader.read(ANTHROPIC_MESSAGES, claude("a", new, "c", "d", "e"))

    assert shared(first, second) == [0, 2, 3, 4]
    assert repr(second.messages[1]) == repr(ANTHROPIC_MESSAGES.decode_request(claude("a", new)).messages[1])


def test_conversations_that_part_ways_each_go_on_from_where_they_did():
    reader = BodyReader()
    start = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c"))
    one = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "d", "e"))
    other = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "x", "y"))

    assert shared(start, one) == shared(start, other) == [0, 1, 2]
    assert shared(one, reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "d", "e", "f", "g"))) == [0, 1, 2, 3, 4]
    assert shared(other, reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "x", "y", "z", "w"))) == [0, 1, 2, 3, 4]


def test_where_messages_were_dropped_the_others_are_still_the_same():
    reader = BodyReader()
    first = reader.read(ANTHROPIC_MESSAGES, claude(*"abcdefg"))
    second = reader.read(ANTHROPIC_MESSAGES, claude(*"cdefghi"))

    assert second == ANTHROPIC_MESSAGES.decode_request(claude(*"cdefghi"))
    assert [message in first.messages for message in second.messages] == [True] * 5 + [False] * 2
    assert all(old is new for old, new in zip(first.messages[2:], second.messages, strict=False))


def test_what_becomes_of_a_body_later_is_not_seen():
    reader, body = BodyReader(), claude("a", text("b"), text("c"), tools=[{"name": "n", "input_schema": {}}])
    as_it_was = copy.deepcopy(body)
    read = reader.read(ANTHROPIC_MESSAGES, body)
    body["messages"][2]["content"][0]["text"] = "[cleared]"
    body["tools"][0]["input_schema"]["type"] = "object"

    assert read == ANTHROPIC_MESSAGES.decode_request(as_it_was)
    assert reader.read(ANTHROPIC_MESSAGES, body) == ANTHROPIC_MESSAGES.decode_request(body)
    assert reader.read(ANTHROPIC_MESSAGES, as_it_was) == read


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), 2**70, (1, 2), {1, 2}, object(), {(1, 2): 3}, dt.date(2026, 1, 1)),
        *(NOON, NOON.replace(microsecond=1), NOON.replace(year=9999), NOON.replace(tzinfo=None)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", ["message", "option"])
def test_what_is_no_json_is_read_as_it_always_is(value, place):
    reader = BodyReader()
    fields, arguments = ({"metadata": value}, {}) if place == "option" else ({}, {"a": value})
    body = claude("a", [{"type": "server_tool_use", "id": "t", "name": "n", "input": arguments}], "c", **fields)
    for _ in range(2):
        read = reader.read(ANTHROPIC_MESSAGES, body)
        assert repr(read) == repr(ANTHROPIC_MESSAGES.decode_request(body))


@pytest.mark.parametrize("content", [[{"type": 3}], "\ud800", 5], ids=["block", "surrogate", "number"])
def test_a_fault_is_told_where_it_is(content):
    reader = BodyReader()
    reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c"))
    with pytest.raises(MalformedRequest) as told:
        reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", content))
    with pytest.raises(MalformedRequest) as expected:
        ANTHROPIC_MESSAGES.decode_request(claude("a", "b", "c", content))

    assert str(told.value) == str(expected.value)


def test_as_much_is_remembered_as_was_asked_for():
    few, small = BodyReader(max_bodies=2), BodyReader(max_bytes=1000)
    for reader in (few, small):
        bodies = [claude(f"{number} " * 100, "b" * number, "c") for number in range(1, 6)]
        reads = [reader.read(ANTHROPIC_MESSAGES, body) for body in bodies]
        again = [shared(reads[number], reader.read(ANTHROPIC_MESSAGES, bodies[number])) for number in (4, 0)]

        assert again[0][:2] == [0, 1]
        assert again[1] == []


def test_a_body_that_is_too_large_drives_no_other_out():
    reader = BodyReader(max_bytes=1000)
    first = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c"))
    for _ in range(2):
        large = claude("long " * 1000, "b", "c")
        assert reader.read(ANTHROPIC_MESSAGES, large) == ANTHROPIC_MESSAGES.decode_request(large)

    assert shared(first, reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "d", "e"))) == [0, 1, 2]


def test_what_is_no_json_is_not_kept():
    class Theirs:
        pass

    reader, theirs = BodyReader(), Theirs()
    gone = weakref.ref(theirs)
    first = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", metadata=theirs)).messages
    del theirs

    assert gone() is None
    second = reader.read(ANTHROPIC_MESSAGES, claude("a", "b", "c", "d", "e", metadata=object())).messages
    assert all(old is new for old, new in zip(first[:2], second, strict=False))


def test_threads_may_share_a_reader():
    reader = BodyReader(max_bodies=4)
    talks = [[f"{name}{number}" for number in range(41)] for name in "abcdefgh"]

    def talk(contents):
        for turn in range(1, 41, 2):
            body = claude(*contents[:turn])
            assert reader.read(ANTHROPIC_MESSAGES, body) == ANTHROPIC_MESSAGES.decode_request(body)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(talk, talks))


def test_what_is_sent_may_be_changed_by_whoever_sends_it():
    form = BodyReader().reading(ANTHROPIC_MESSAGES)
    body = claude(
        "a", call({"city": "Rome"}), "c", metadata={"user_id": "u"}, tools=[{"name": "n", "input_schema": {}}]
    )
    as_it_was = copy.deepcopy(body)
    for _ in range(3):
        sent = form.encode_request(form.decode_request(copy.deepcopy(body)))
        assert sent == as_it_was

        sent["messages"][1]["content"][0]["input"]["city"] = "Oslo"
        sent["tools"][0]["input_schema"]["type"] = "object"
        sent["metadata"]["user_id"] = "v"
