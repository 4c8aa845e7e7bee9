import datetime as dt
import decimal
import enum
import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from langchain_core.utils.usage import _dict_int_op
from pydantic import BaseModel

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.flows.policy import objection
from prefixcache_integrations.langchain.generations import CODEC, as_response, read, write


class Joke(BaseModel):
    setup: str
    when: dt.date


class Mood(enum.Enum):
    GOOD = 1


USAGE = {
    "input_tokens": 1200,
    "output_tokens": 7,
    "total_tokens": 1207,
    "input_token_details": {"cache_read": 1024, "cache_creation": 0},
    "output_token_details": {"reasoning": 3},
}


def message(content="Let me see.", **fields):
    return AIMessage(content, **{"id": "run-1", "usage_metadata": USAGE, **fields})


def chat(content="Let me see.", info=None, **fields):
    return ChatGeneration(message=message(content, **fields), generation_info=info)


def back(*generations):
    entry = write(generations)
    assert entry is not None
    numbers = itertools.count(1)
    return read(entry, key="v1.sha256.00", new_id=lambda: f"fresh-{next(numbers)}")


def test_a_bare_generation_comes_back_equal():
    generation = Generation(text="yes", generation_info={"reason": "test"})
    assert back(generation, Generation(text="no")) == [generation, Generation(text="no")]


def test_everything_the_model_said_comes_back():
    content = [
        "a string",
        {"type": "text", "text": "Let me see.", "annotations": []},
        {"type": "tool_use", "id": "toolu_1", "name": "get_order", "input": {"order_id": "7"}},
    ]
    generation = chat(
        content,
        info={"finish_reason": "tool_calls", "logprobs": {"content": [{"token": "x", "logprob": -0.25}]}},
        name="helper",
        additional_kwargs={"refusal": None, "reasoning": {"id": "rs_1"}},
        response_metadata={"model_name": "gpt-4o", "token_usage": {"prompt_tokens": 3}, "id": "chatcmpl-1"},
        tool_calls=[{"name": "get_order", "args": {"order_id": "7", "deep": [1, {"a": None}]}, "id": "call_1"}],
        invalid_tool_calls=[{"name": "f", "args": "{", "id": "call_2", "error": "cut"}],
    )
    (found,) = back(generation)
    assert isinstance(found, ChatGeneration)
    assert type(found.message) is AIMessage
    assert found.generation_info == generation.generation_info
    assert found.text == generation.text
    for field in ("content", "name", "additional_kwargs", "tool_calls", "invalid_tool_calls"):
        assert getattr(found.message, field) == getattr(generation.message, field)
    marker = found.message.response_metadata.pop("prefixcache")
    billed = generation.message.response_metadata.pop("token_usage")
    assert found.message.response_metadata == generation.message.response_metadata
    assert marker == {"hit": True, "key": "v1.sha256.00", "usage": USAGE, "provider_usage": billed}


def test_several_generations_keep_their_order_and_get_ids_of_their_own():
    found = back(chat("a"), chat("b"))
    assert [(generation.text, generation.message.id) for generation in found] == [("a", "fresh-1"), ("b", "fresh-2")]


def test_a_hit_has_used_no_token_in_every_detail():
    (found,) = back(chat())
    usage = found.message.usage_metadata
    assert usage == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_token_details": {"cache_read": 0, "cache_creation": 0},
        "output_token_details": {"reasoning": 0},
    }
    assert _dict_int_op(USAGE, usage, lambda a, b: a + b) == USAGE


def test_usage_that_was_never_reported_is_zero_too_so_that_a_hit_stays_a_valid_message():
    (found,) = back(chat(usage_metadata=None))
    hit = found.message.model_copy(update={"usage_metadata": {**found.message.usage_metadata, "total_cost": 0}})
    assert AIMessage(**hit.model_dump()).usage_metadata["total_tokens"] == 0
    assert found.message.response_metadata["prefixcache"]["usage"] is None


def test_a_hit_can_be_dumped_and_loaded_again():
    (found,) = back(chat())
    with pytest.warns(match="beta"):
        assert loads(dumps(found), allowed_objects=[ChatGeneration, AIMessage]) == found


def test_chunks_come_back_whole():
    chunk = AIMessageChunk(
        content="Let me see.",
        tool_call_chunks=[{"name": "f", "args": '{"a": 1}', "id": "call_1", "index": 0}],
        chunk_position="last",
    )
    found, bare = back(ChatGenerationChunk(message=chunk), GenerationChunk(text="yes"))
    assert type(found.message) is AIMessage
    assert found.message.tool_calls == [{"name": "f", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}]
    assert bare == Generation(text="yes")


def test_a_parsed_object_comes_back_as_its_fields():
    (found,) = back(chat(additional_kwargs={"parsed": Joke(setup="a", when=dt.date(2026, 1, 1))}))
    assert Joke(**found.message.additional_kwargs["parsed"]) == Joke(setup="a", when=dt.date(2026, 1, 1))


def test_the_id_of_a_stored_response_is_left_out_and_other_ids_are_kept():
    (found,) = back(chat(response_metadata={"id": "resp_123", "model_name": "gpt-5"}))
    assert "id" not in found.message.response_metadata
    assert found.message.response_metadata["model_name"] == "gpt-5"


def test_nothing_is_shared_with_what_was_written():
    generation = chat(["x", {"type": "text", "text": "y"}], response_metadata={"a": {"b": [1]}})
    entry = write([generation])
    generation.message.content[1]["text"] = "changed"
    generation.message.response_metadata["a"]["b"].append(2)
    first, second = (read(entry, key="", new_id=str)[0] for _ in range(2))
    assert first.message.content == ["x", {"type": "text", "text": "y"}]
    first.message.content.append("changed")
    first.message.response_metadata["a"]["b"].append(3)
    assert second.message.content == ["x", {"type": "text", "text": "y"}]
    assert second.message.response_metadata["a"] == {"b": [1]}


class OwnMessage(AIMessage):
    colour: str = "red"


@pytest.mark.parametrize(
    "generation",
    [
        *(
            pytest.param(chat(response_metadata={"value": value}), id=f"{type(value).__name__} in metadata")
            for value in (
                dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                Mood.GOOD,
                decimal.Decimal(1),
                b"bytes",
                {1, 2},
                object(),
                2**70,
                "\ud800",
                {1: "a number as a name"},
                Joke(setup="a", when=dt.date(2026, 1, 1)),
            )
        ),
        pytest.param(Generation(text="yes", generation_info={"when": Mood.GOOD}), id="in generation info"),
        pytest.param(chat(tool_calls=[{"name": "f", "args": {"a": Mood.GOOD}, "id": "1"}]), id="in arguments"),
        pytest.param(ChatGeneration(message=HumanMessage("hi")), id="a human message"),
        pytest.param(ChatGeneration(message=OwnMessage("hi")), id="a message class of someone else"),
    ],
)
def test_what_would_not_come_back_as_it_was_is_not_written(generation):
    assert write([generation]) is None
    assert write([chat(), generation]) is None


def test_endless_nesting_is_not_written():
    nested = []
    nested.append(nested)
    assert write([chat(response_metadata={"nested": nested})]) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), plain, max_size=4), st.text(max_size=20))
def test_every_plain_answer_comes_back(fields, text):
    fields.pop("id", None)
    for own in ("prefixcache", "token_usage", "usage"):
        fields.pop(own, None)
    (found,) = back(chat(text, response_metadata=fields))
    assert found.message.content == text
    assert {name: value for name, value in found.message.response_metadata.items() if name != "prefixcache"} == fields


def entry(*record):
    return Entry(codec=CODEC, body=msgspec.msgpack.encode(list(record)))


MESSAGE = ["text", {}, {}, None, [], [], {}, None, None]


@pytest.mark.parametrize(
    "forged",
    [
        Entry(codec="langchain-generations/3", body=write([chat()]).body),
        Entry(codec="other/1", body=b""),
        Entry(codec=CODEC, body=b""),
        Entry(codec=CODEC, body=b"plain text"),
        Entry(codec=CODEC, body=b"\x91" * 100_000),
        entry(),
        entry("text"),
        entry(["text"]),
        entry(["text", None, None, "more"]),
        entry([1, None, None]),
        entry(["", None, MESSAGE[:-1]]),
        entry(["", None, [{"type": "text"}, *MESSAGE[1:]]]),
        entry(["", None, [*MESSAGE[:4], [{"name": "f"}], *MESSAGE[5:]]]),
        entry(["", None, [*MESSAGE[:4], [{"name": 1, "args": "x", "id": []}], *MESSAGE[5:]]]),
        entry(["", None, [*MESSAGE[:6], {"input_tokens": 0.5}, *MESSAGE[7:]]]),
        entry({"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "PromptTemplate"], "kwargs": {}}),
    ],
)
def test_what_was_not_written_here_is_refused(forged):
    with pytest.raises(CorruptEntry):
        read(forged, key="", new_id=str)


def test_no_text_can_name_a_class():
    body = msgspec.msgpack.encode([["", None, [{"lc": 1, "type": "secret", "id": ["HOME"]}, *MESSAGE[1:]]]])
    with pytest.raises(CorruptEntry):
        read(Entry(codec=CODEC, body=body), key="", new_id=str)
    (found,) = back(chat(additional_kwargs={"lc": 1, "type": "secret", "id": ["HOME"]}))
    assert found.message.additional_kwargs == {"lc": 1, "type": "secret", "id": ["HOME"]}


def test_ten_thousand_damaged_bodies_are_read_as_generations_or_refused():
    dice = random.Random(3)  # noqa: S311 - repeatable on purpose
    body = write([chat(tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}])]).body
    for _ in range(10_000):
        damaged = bytearray(body)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            found = read(Entry(codec=CODEC, body=bytes(damaged)), key="", new_id=str)
        except CorruptEntry:
            continue
        assert all(type(generation) in (Generation, ChatGeneration) for generation in found)


@pytest.mark.parametrize(
    ("generation", "reason"),
    [
        (chat(), None),
        (chat(info={"finish_reason": "stop"}), None),
        (chat(response_metadata={"stop_reason": "end_turn"}), None),
        (chat(response_metadata={"status": "completed"}), None),
        (chat("", tool_calls=[{"name": "f", "args": {}, "id": "1"}], info={"finish_reason": "tool_calls"}), None),
        (chat([{"type": "image", "url": "https://x"}]), None),
        (Generation(text="yes", generation_info={"finish_reason": "stop"}), None),
        (chat(info={"finish_reason": "length"}), "token limit"),
        (chat(response_metadata={"stop_reason": "max_tokens"}), "token limit"),
        (chat(response_metadata={"finish_reason": "MAX_TOKENS"}), "token limit"),
        (
            chat(response_metadata={"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
            "limit",
        ),
        (chat(response_metadata={"status": "incomplete"}), "not known to be finished"),
        (chat(response_metadata={"stop_reason": "pause_turn"}), "not known to be finished"),
        (chat(info={"finish_reason": "content_filter"}), "filtered"),
        (chat(response_metadata={"finish_reason": "SAFETY"}), "filtered"),
        (chat(response_metadata={"stop_reason": "refusal"}), "refusal"),
        (chat(additional_kwargs={"refusal": "I cannot"}), "refusal"),
        (chat([{"type": "refusal", "refusal": "I cannot"}]), "refusal"),
        (chat("", invalid_tool_calls=[{"name": "f", "args": "{}", "id": "1", "error": None}]), "invalid tool call"),
        (chat(""), "empty"),
        (chat([]), "empty"),
        (chat("\n "), "empty"),
        (chat([{"type": "thinking", "thinking": "hm"}]), "empty"),
        (Generation(text=""), "empty"),
        (Generation(text="cut", generation_info={"finish_reason": "length"}), "token limit"),
    ],
)
def test_policy_can_judge_an_answer(generation, reason):
    found = objection([as_response(generation)])
    assert found is None if reason is None else reason in found
