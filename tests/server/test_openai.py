"""The OpenAI regimes, through OpenAI's own SDK over HTTP."""

import base64
import struct
import zlib

import openai
import pytest

from prefixcache_integrations.server import Reply, Simulator, ToolUse, script

OLD, NEWER, NEW = "gpt-4o-mini", "gpt-5.5", "gpt-5.6-luna"


def user(content):
    return {"role": "user", "content": content}


def chat(client, messages, model=OLD, **options):
    return client.chat.completions.create(model=model, messages=messages, **options)


def cached(completion):
    return completion.usage.prompt_tokens_details.cached_tokens


def body(messages, model=OLD, **options):
    return {"model": model, "messages": messages, **options}


def two_turns(sized, counted):
    """Return a prompt of 1,079 tokens, and the same with an answer and one more user message: 1,136."""
    first = [user(sized(1079, lambda text: body([user(text)])))]
    last = sized(1136, lambda text: body([*first, user(text)]))
    assert counted(body(first)) == 1079
    return first, [*first, user(last)]


@pytest.mark.parametrize(("model", "reads"), [(OLD, (0, 1024)), (NEWER, (0, 0))])
def test_a_prompt_extended_by_a_message_reads_whole_intervals(gpt, sized, counted, model, reads):
    first, second = two_turns(sized, counted)
    answers = [chat(gpt, first, model), chat(gpt, second, model)]
    assert [answer.usage.prompt_tokens for answer in answers] == [1079, 1136]
    assert tuple(map(cached, answers)) == reads


def test_a_prompt_below_the_minimum_is_never_read(gpt, sized):
    messages = [user(sized(926, lambda text: body([user(text)])))]
    assert [cached(chat(gpt, messages)) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("shared", [1408, 1450, 1535])
def test_a_shared_beginning_is_read_rounded_down_and_a_repetition_in_full(gpt, counted, text_of, shared):
    # Three tokens of framing and one for the role precede the text; three that prime the reply end the prompt.
    common = text_of(shared - 4)
    earlier = [user(common + text_of(159, " beta"))]
    later = [user(common + text_of(1566 - shared - 3, " gamma"))]
    assert counted(body(later)) == 1566
    chat(gpt, earlier)
    assert cached(chat(gpt, later)) == 1408
    assert cached(chat(gpt, later)) == 1536


SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object", "properties": {}}}}
OTHER_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def test_another_schema_reads_nothing(gpt, text_of):
    messages = [user(text_of(2000))]
    chat(gpt, messages, response_format=SCHEMA)
    assert cached(chat(gpt, messages, response_format=SCHEMA)) == 1920
    assert cached(chat(gpt, messages, response_format=OTHER_SCHEMA)) == 0


def test_a_character_changed_at_the_start_reads_nothing(gpt, text_of):
    text = text_of(2000)
    chat(gpt, [user("a" + text)])
    assert cached(chat(gpt, [user("b" + text)])) == 0
    assert cached(chat(gpt, [user("a" + text)])) == 1920


def test_a_model_without_a_cache_reads_nothing(gpt, text_of):
    messages = [user(text_of(2000))]
    assert [cached(chat(gpt, messages, "gpt-4o-2024-05-13")) for _ in range(2)] == [0, 0]


def test_keys_share_entries_only_within_an_organisation(tokenizer, text_of):
    messages = [user(text_of(2000))]
    with Simulator(tokenizer=tokenizer, organisations={"a": "acme", "b": "acme"}) as simulator:
        reads = []
        for key in ("a", "b", "c"):
            with openai.OpenAI(base_url=simulator.base_url("openai"), api_key=key) as client:
                reads.append(cached(chat(client, messages)))
        assert reads == [0, 1920, 0]
        assert not any(key in str(call.headers) for call in simulator.calls for key in ("Bearer", "authorization"))


def function(name):
    return {"type": "function", "function": {"name": name, "description": "Do it.", "parameters": {"type": "object"}}}


def test_tools_in_another_order_read_nothing(gpt, text_of):
    messages = [user(text_of(2000))]
    tools = [function("order_status"), function("cancel_order")]
    chat(gpt, messages, tools=tools)
    assert cached(chat(gpt, messages, tools=tools)) > 1900
    assert cached(chat(gpt, messages, tools=tools[::-1])) == 0


def png(colour):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([colour]) * 1024 for _ in range(1024))
    header = struct.pack(">IIBBBBB", 1024, 1024, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def image(url, detail="high"):
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def test_images_are_part_of_the_prefix_with_their_detail(gpt):
    first, second, other = (image(png(colour)) for colour in (10, 20, 30))
    ask = {"type": "text", "text": "What is in the images?"}
    ask_else = {"type": "text", "text": "Which is darker?"}
    prompts = [
        [first, second, ask],
        [first, second, ask_else],
        [other, second, ask],
        [image(png(10), "auto"), image(png(20), "auto"), ask],
    ]
    answers = [chat(gpt, [user(parts)]) for parts in prompts]
    assert [cached(answer) > 0 for answer in answers] == [False, True, False, False]
    assert answers[0].usage.prompt_tokens > 2 * 765


def test_an_idle_entry_is_lost_and_a_read_refreshes_it(simulator, gpt, text_of):
    messages = [user(text_of(2000))]
    reads = []
    for idle in (0, 299, 299, 300):
        simulator.clock.advance(idle)
        reads.append(cached(chat(gpt, messages, prompt_cache_retention="in_memory", model="gpt-4.1")))
    assert reads == [0, 1920, 1920, 0]


# Breakpoints


POINT = {"mode": "explicit"}


def marked(text):
    return [{"type": "text", "text": text, "prompt_cache_breakpoint": POINT}]


def test_static_instructions_are_read_for_every_user_with_a_breakpoint_after_them(gpt, text_of):
    static = text_of(1500)
    usages = []
    for word in (" beta", " gamma"):
        messages = [{"role": "developer", "content": marked(static)}, user(text_of(100, word))]
        usages.append(chat(gpt, messages, NEW).usage)
    assert [usage.prompt_tokens_details.cached_tokens for usage in usages] == [0, 1504]
    assert [usage.prompt_tokens_details.cache_write_tokens for usage in usages] == [1608, 104]


def test_all_but_the_tail_that_primes_the_reply_is_written(gpt, sized):
    messages = [user(sized(7540, lambda text: body([user(text)], NEW)))]
    usage = chat(gpt, messages, NEW).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cache_write_tokens) == (7540, 7537)


def test_responses_report_the_split_by_lifetime(gpt, text_of):
    blocks = [{"type": "input_text", "text": text_of(1500), "prompt_cache_breakpoint": {**POINT, "ttl": "12h"}}]
    call = {"model": NEW, "input": [{"role": "developer", "content": blocks}, user("hello")]}
    usage = gpt.responses.create(**call).usage
    details = usage.input_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (0, usage.input_tokens - 3)
    assert details.cache_write_tokens_details.ttl_12h_tokens == 1504
    assert details.cache_write_tokens_details.ttl_30m_tokens == details.cache_write_tokens - 1504
    assert gpt.responses.create(**call).usage.input_tokens_details.cached_tokens == usage.input_tokens - 3


# Diagnostics


def compare(client, before, after):
    """Return what is said about ``after``, asked to compare it with ``before``."""
    first = client.responses.create(model=NEW, **before)
    return client.responses.create(
        **{"model": NEW, **after, "prompt_cache_options": {"comparison_response_id": first.id}}
    )


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("model_changed", {"model": "gpt-5.6-terra"}),
        ("tools_changed", {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]}),
        ("prompt_cache_key_changed", {"prompt_cache_key": "b"}),
        ("text_format_changed", {"text": {"format": {"type": "json_object"}}}),
        ("verbosity_changed", {"text": {"verbosity": "low"}}),
        ("reasoning_effort_changed", {"reasoning": {"effort": "low"}}),
        ("service_tier_changed", {"service_tier": "flex"}),
        ("input_changed", {"input": "Something else"}),
    ],
)
def test_a_miss_is_diagnosed_with_its_reason_and_price(gpt, text_of, reason, change):
    before = {"input": text_of(1500)}
    found = compare(gpt, before, {**before, **change}).prompt_cache_diagnostics
    assert (found.type, found.reason) == ("cache_miss", reason)
    assert found.cache_missed_tokens == found.comparison_reusable_tokens == 1504


def test_a_hit_an_expiry_and_an_unknown_response_are_told_apart(simulator, gpt, text_of):
    before = {"input": [user(text_of(1500))]}
    grown = {"input": [user(text_of(1500)), {"role": "assistant", "content": "Yes."}, user("Why?")]}
    assert compare(gpt, before, grown).prompt_cache_diagnostics.type == "cache_hit"
    simulator.reset()
    first = gpt.responses.create(model=NEW, **before)
    simulator.clock.advance(1800)
    for name, expected in [(first.id, "unavailable"), ("resp_unknown", "comparison_response_not_found")]:
        answer = gpt.responses.create(model=NEW, **grown, prompt_cache_options={"comparison_response_id": name})
        assert answer.prompt_cache_diagnostics.type == expected


# Answers


def test_parallel_tool_calls_come_back_with_ids_of_their_own(tokenizer, text_of):
    replies = [
        Reply(tool_calls=[ToolUse("order_status", {"order": 1}), ToolUse("order_status", {"order": 2})]),
        Reply(text="Both are on their way."),
    ]
    with (
        Simulator(tokenizer=tokenizer, model=script(replies)) as simulator,
        openai.OpenAI(base_url=simulator.base_url("openai"), api_key="key") as client,
    ):
        messages = [user(text_of(1200))]
        first = chat(client, messages, tools=[function("order_status")]).choices[0]
        assert first.finish_reason == "tool_calls"
        calls = first.message.tool_calls
        assert [call.function.arguments for call in calls] == ['{"order":1}', '{"order":2}']
        assert len({call.id for call in calls}) == 2
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "sent"} for call in calls]
        messages = [*messages, first.message.model_dump(exclude_none=True), *answers]
        second = chat(client, messages, tools=[function("order_status")])
        assert second.choices[0].message.content == "Both are on their way."
        assert cached(second) == 1152


def test_responses_call_tools_and_write_json(tokenizer):
    replies = [Reply(tool_calls=[ToolUse("f", {"x": 1})]), Reply(json={"answer": 42})]
    with (
        Simulator(tokenizer=tokenizer, model=script(replies)) as simulator,
        openai.OpenAI(base_url=simulator.base_url("openai"), api_key="key") as client,
    ):
        tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
        first = client.responses.create(model=OLD, input="hello", tools=[tool])
        call = first.output[0]
        assert (call.type, call.name, call.arguments) == ("function_call", "f", '{"x":1}')
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
        history = [{"role": "user", "content": "hello"}, call.model_dump(exclude_none=True), output]
        second = client.responses.create(model=OLD, input=history, tools=[tool])
        assert second.output_text == '{"answer": 42}'


def test_a_chat_stream_reports_usage_only_where_it_is_asked_to(gpt, text_of):
    messages = [user(text_of(2000))]
    chat(gpt, messages)
    silent = list(chat(gpt, messages, stream=True))
    assert not any(chunk.usage for chunk in silent)
    *chunks, last = chat(gpt, messages, stream=True, stream_options={"include_usage": True})
    assert last.usage.prompt_tokens_details.cached_tokens == 1920
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == messages[0]["content"]


def test_a_responses_stream_ends_with_the_usage(gpt, text_of):
    call = {"model": OLD, "input": text_of(2000)}
    gpt.responses.create(**call)
    with gpt.responses.stream(**call) as stream:
        final = stream.get_final_response()
    assert final.usage.input_tokens_details.cached_tokens == 1920
    assert final.output_text == call["input"]


async def test_the_async_client_reads_the_same(simulator, text_of):
    messages = [user(text_of(2000))]
    async with openai.AsyncOpenAI(base_url=simulator.base_url("openai"), api_key="key") as client:
        reads = [cached(await chat(client, messages)) for _ in range(2)]
    assert reads == [0, 1920]


# Azure


def test_azure_answers_as_the_model_behind_the_deployment(tokenizer, sized, counted):
    first, second = two_turns(sized, counted)
    with Simulator(tokenizer=tokenizer, deployments={"support-bot": OLD}) as simulator:
        endpoint = simulator.base_url("azure")
        options = {"azure_endpoint": endpoint, "api_key": "key", "api_version": "2024-10-21", "max_retries": 0}
        with openai.AzureOpenAI(**options) as client:
            reads = [cached(chat(client, messages, "support-bot")) for messages in (first, second)]
            answer = client.responses.create(model="support-bot", input=first[0]["content"])
        assert reads == [0, 1024]
        assert answer.usage.input_tokens_details.cached_tokens == 1024
        with openai.OpenAI(base_url=f"{endpoint}/openai/v1/", api_key="key") as client:
            assert cached(chat(client, second, OLD)) == 1024
    assert simulator.calls[0].path == "/openai/deployments/support-bot/chat/completions"


# Refusals


def error_of(call, *args, **kwargs):
    with pytest.raises(openai.BadRequestError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_breakpoints_on_a_model_without_them_are_refused(gpt):
    error = error_of(chat, gpt, [user(marked("hello"))], OLD)
    assert "prompt_cache_breakpoint is not supported on this model" in error.message


def test_claude_s_markers_are_unknown_parameters(gpt):
    claude_s = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
    for error, path in (
        (error_of(chat, gpt, [user([claude_s])], NEW), "messages[0].content[0].cache_control"),
        (error_of(chat, gpt, [user("hello")], NEW, extra_body={"cache_control": {}}), "cache_control"),
    ):
        assert f"Unknown parameter: '{path}'." in error.message
        assert (error.param, error.code) == (path, "unknown_parameter")


def test_a_retention_the_model_does_not_have_is_refused(gpt):
    error = error_of(chat, gpt, [user("hello")], NEWER, prompt_cache_retention="in_memory")
    assert "This model is compatible only with 24h extended prompt caching" in error.message
    assert (error.param, error.code) == ("prompt_cache_retention", "invalid_parameter")


def test_an_unknown_lifetime_is_refused(gpt):
    error = error_of(chat, gpt, [user("hello")], NEW, extra_body={"prompt_cache_options": {"ttl": "7m"}})
    assert "Invalid value: '7m'. Supported values are: '30m'." in error.message
    assert (error.param, error.code) == ("prompt_cache_options.ttl", "invalid_value")


CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([user("a"), CALL, user("b")], "The following tool_call_ids did not have response messages: c1"),
        ([user("a"), CALL], "did not have response messages: c1"),
        (
            [user("a"), {"role": "tool", "tool_call_id": "c1", "content": "x"}],
            "must be a response to a preceeding message",
        ),
    ],
)
def test_tool_calls_and_answers_must_match(gpt, messages, said):
    assert said in error_of(chat, gpt, messages).message


def test_a_stored_response_cannot_be_continued(gpt):
    error = error_of(gpt.responses.create, model=OLD, input="hello", previous_response_id="resp_1")
    assert error.code == "previous_response_not_found"


def test_a_response_to_nothing_is_refused(gpt):
    assert "must be provided" in error_of(gpt.responses.create, model=OLD).message
