from __future__ import annotations

import pytest

from prefixcache_integrations.canonical import Address, Message, Part, Request, Tool
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.prompt.segments import Segment, segments, token_counts, token_ids
from prefixcache_integrations.tokens import load
from tests.prompt.words import WORDS

TOOL = {"name": "find", "description": "Find it", "input_schema": {"type": "object"}}


def claude(**fields: object) -> tuple[Segment, ...]:
    body = {"model": "claude-opus-5", "messages": [{"role": "user", "content": "hi"}], **fields}
    return segments(AnthropicMessages().decode_request(body))


def chat(*messages: dict[str, object], **fields: object) -> tuple[Segment, ...]:
    return segments(OpenAIChat().decode_request({"model": "gpt-4o", "messages": list(messages), **fields}))


def identities(prompt: tuple[Segment, ...]) -> list[bytes]:
    return [segment.identity for segment in prompt]


def total(prompt: tuple[Segment, ...]) -> int:
    return sum(token_counts(prompt, WORDS))


def test_claude_is_read_tools_first_then_system_then_messages_a_segment_per_block() -> None:
    prompt = claude(
        tools=[TOOL],
        system=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]}],
    )
    assert [str(segment.at) for segment in prompt] == [
        "tools[0]",
        "system[0]",
        "system[1]",
        "messages[0].parts[0]",
        "messages[0].parts[1]",
    ]
    assert [segment.tier for segment in prompt] == ["tools", "system", "system", "messages", "messages"]
    assert [segment.ends_message for segment in prompt] == [False, False, False, False, True]


def test_a_deferred_tool_is_no_part_of_the_prompt() -> None:
    prompt = claude(tools=[TOOL, {**TOOL, "name": "later", "defer_loading": True}])
    assert [segment.kind for segment in prompt] == ["tools", "user"]


def test_a_marker_turns_a_string_into_a_list_and_changes_no_identity() -> None:
    plain = claude(system="rules", messages=[{"role": "user", "content": "hi"}])
    marker = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    marked = claude(
        system=[{"type": "text", "text": "rules", **marker}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "hi", **marker}]}],
    )
    assert identities(plain) == identities(marked)
    assert [segment.marker is not None for segment in marked] == [True, True]


@pytest.mark.parametrize(
    "content",
    [
        "found",
        [{"type": "text", "text": "found"}],
        [{"type": "text", "text": "found", "cache_control": {"type": "ephemeral"}}],
        [{"type": "text", "text": "found", "cache_control": None}],
    ],
)
def test_markers_inside_a_tool_result_are_no_part_of_its_identity(content: object) -> None:
    def of(inner: object) -> list[bytes]:
        result = {"type": "tool_result", "tool_use_id": "1", "content": inner}
        return identities(claude(messages=[{"role": "user", "content": [result]}]))

    assert of(content) == of("found")
    assert of(content) != of("found it")


def test_key_order_in_a_schema_is_part_of_the_identity() -> None:
    one = claude(tools=[{"name": "a", "input_schema": {"type": "object", "properties": {}}}])
    other = claude(tools=[{"name": "a", "input_schema": {"properties": {}, "type": "object"}}])
    assert one[0].identity != other[0].identity


def test_the_role_is_part_of_the_identity() -> None:
    user, model = claude(), claude(messages=[{"role": "assistant", "content": "hi"}])
    assert identities(user) != identities(model)


def test_openai_counts_four_tokens_per_message_and_three_per_request() -> None:
    prompt = chat({"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"})
    assert total(prompt) == 4 + 2 + 4 + 3 + 3
    assert prompt[-1].at is None
    assert prompt[-1].fixed_tokens == 3


def test_a_name_costs_itself_and_one_token() -> None:
    assert total(chat({"role": "user", "name": "ada", "content": "hi"})) == 4 + 1 + 1 + 1 + 3


def test_openai_reads_all_tools_as_one_segment_in_front() -> None:
    functions = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    prompt = chat({"role": "user", "content": "hi"}, tools=functions)
    assert [segment.kind for segment in prompt] == ["frame", "tools", "frame", "user", "frame"]
    assert prompt[0].fixed_tokens == 9
    assert "type a = () => any;\n\ntype b = () => any;" in prompt[1].text


def test_tools_share_the_system_message_where_there_is_one() -> None:
    functions = [{"type": "function", "function": {"name": "a"}}]
    prompt = chat({"role": "system", "content": "rules"}, {"role": "user", "content": "hi"}, tools=functions)
    assert prompt[0].fixed_tokens == 5
    assert prompt[3].text == "rules\n"


def test_a_response_schema_is_read_before_the_messages() -> None:
    def with_schema(title: str) -> tuple[Segment, ...]:
        schema = {"name": "answer", "schema": {"type": "object", "title": title}}
        return chat({"role": "user", "content": "hi"}, response_format={"type": "json_schema", "json_schema": schema})

    prompt = with_schema("A")
    assert [segment.kind for segment in prompt] == ["format", "frame", "user", "frame"]
    assert '{"type":"object","title":"A"}' in prompt[0].text
    assert prompt[0].identity != with_schema("B")[0].identity
    assert "format" not in [segment.kind for segment in chat({"role": "user", "content": "hi"})]


def test_responses_reads_its_schema_from_the_text_field() -> None:
    body = {
        "model": "gpt-5.4",
        "instructions": "rules",
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
    }
    prompt = segments(OpenAIResponses().decode_request(body))
    assert [segment.kind for segment in prompt] == ["format", "frame", "system", "frame", "user", "frame"]


def test_a_string_input_is_the_same_as_a_list_of_one_message() -> None:
    def of(given: object) -> list[bytes]:
        return identities(segments(OpenAIResponses().decode_request({"model": "gpt-6-sol", "input": given})))

    part = {"type": "input_text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert of("hi") == of([{"role": "user", "content": "hi"}])
    assert of("hi") == of([{"type": "message", "role": "user", "content": [part]}])


def test_a_tool_call_counts_its_name_and_arguments_and_what_it_belongs_to_is_kept_apart() -> None:
    def of(call: str) -> tuple[Segment, ...]:
        item = {"id": call, "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
        return chat({"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [item]})

    assert of("1")[3].text == 'find{"a": 1}'
    assert of("1")[3].fixed_tokens == 3
    assert of("1")[3].identity != of("2")[3].identity


def test_images_that_differ_share_no_token_and_equal_ones_share_all() -> None:
    def image(url: str, detail: str = "high") -> Segment:
        part = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
        return chat({"role": "user", "content": [part]})[1]

    ids = token_ids(image("https://a"), WORDS)
    assert len(ids) == 765
    assert ids == token_ids(image("https://a"), WORDS)
    assert not set(ids) & set(token_ids(image("https://b"), WORDS))
    assert not set(ids) & set(token_ids(image("https://a", "auto"), WORDS))
    assert len(token_ids(image("https://a", "low"), WORDS)) == 85


def test_framing_of_equal_messages_has_equal_tokens() -> None:
    prompt = chat(
        {"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "system", "content": "c"}
    )
    frames = [token_ids(segment, WORDS) for segment in prompt if segment.kind == "frame"]
    assert frames[0] == frames[1] != frames[2]
    assert all(number < 0 for number in frames[0])


def test_a_whole_prompt_is_counted_like_its_tokens() -> None:
    tokenizer = load()
    prompt = chat(
        {"role": "system", "content": "You help."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "é 漢 🙂"}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        tools=[{"type": "function", "function": {"name": "a", "description": "b"}}],
    )
    assert list(token_counts(prompt, tokenizer)) == [len(token_ids(segment, tokenizer)) for segment in prompt]


def test_an_unreadable_document_and_an_unknown_block_still_count() -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "eA=="}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "three short words"}}
    found = {"type": "server_result", "payload": "x"}
    prompt = claude(messages=[{"role": "user", "content": [pdf, text, found]}])
    assert token_counts(prompt, WORDS) == (1500, 3, 1)
    assert prompt[2].text == '{"type":"server_result","payload":"x"}'


def by_hand(text: str, raw: object = None) -> Request:
    part = Part(kind="text", text=text, raw={"type": "text", "text": text if raw is None else raw})
    return Request(dialect="anthropic_messages", model="m", messages=(Message(role="user", parts=(part,)),))


@pytest.mark.parametrize("raw", [float("nan"), {1, 2}, object(), {("a",): 1}, b"bytes"])
def test_what_is_no_json_is_malformed(raw: object) -> None:
    with pytest.raises(MalformedRequest) as caught:
        segments(by_hand("hi", raw))
    assert caught.value.path == str(Address("messages", 0, 0))


def test_a_lone_surrogate_is_malformed_wherever_it_stands() -> None:
    with pytest.raises(MalformedRequest):
        segments(by_hand("\ud800"))
    tool = Tool(name="a", raw={"type": "function"}, description="\udfff")
    with pytest.raises(MalformedRequest):
        segments(Request(dialect="openai_chat", model="m", tools=(tool,)))


def test_a_cycle_is_malformed() -> None:
    raw: dict[str, object] = {}
    raw["self"] = raw
    with pytest.raises(MalformedRequest):
        segments(by_hand("hi", raw))
