"""Claude's prompt cache, through Anthropic's own SDK over HTTP."""

import anthropic
import pytest

from prefixcache_integrations.server import Reply, Simulator, ToolUse, script

MODEL = "claude-sonnet-4-6"  # minimum 1,024
MARK = {"type": "ephemeral"}
MARK_1H = {"type": "ephemeral", "ttl": "1h"}


def user(content):
    return {"role": "user", "content": content}


def text(value, marker=None):
    block = {"type": "text", "text": value}
    return {**block, "cache_control": marker} if marker else block


def ask(client, messages=None, model=MODEL, max_tokens=50, **options):
    messages = messages or [user("hello")]
    return client.messages.create(model=model, messages=messages, max_tokens=max_tokens, **options)


def counts(usage):
    return usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.input_tokens


def split(usage):
    return usage.cache_creation.ephemeral_5m_input_tokens, usage.cache_creation.ephemeral_1h_input_tokens


@pytest.fixture
def static(text_of):
    return text_of(1500)


def test_a_marked_system_prompt_is_written_then_read(claude, static):
    system = [text(static, MARK)]
    assert counts(ask(claude, system=system).usage) == (0, 1500, 1)
    assert counts(ask(claude, system=system).usage) == (1500, 0, 1)


def test_writes_are_split_by_lifetime(claude, static, text_of):
    system = [text(static, MARK_1H), text(text_of(200, " beta"), MARK)]
    usage = ask(claude, system=system).usage
    assert split(usage) == (200, 1500)
    assert usage.cache_creation_input_tokens == 1700
    assert split(ask(claude, system=system).usage) == (0, 0)


def test_a_stream_reports_full_usage_at_its_start_and_totals_at_its_end(claude, static):
    system = [text(static, MARK_1H)]
    events = list(ask(claude, system=system, stream=True))
    start = next(event for event in events if event.type == "message_start").message.usage
    end = next(event for event in events if event.type == "message_delta").usage
    assert counts(start) == counts(end) == (0, 1500, 1)
    assert split(start) == (0, 1500)
    assert getattr(end, "cache_creation", None) is None
    with claude.messages.stream(model=MODEL, max_tokens=9, system=system, messages=[user("hello")]) as stream:
        final = stream.get_final_message()
    assert counts(final.usage) == (1500, 0, 1)
    assert final.content[0].text == "hello"


@pytest.mark.parametrize(("size", "written"), [(1023, 0), (1024, 1024)])
def test_below_the_minimum_is_silent(claude, text_of, size, written):
    usage = ask(claude, system=[text(text_of(size), MARK)]).usage
    assert counts(usage) == (0, written, size + 1 - written)


@pytest.mark.parametrize(("marker", "seconds"), [(MARK, 300), (MARK_1H, 3600)])
def test_an_idle_entry_is_lost_and_a_read_refreshes_it(simulator, claude, static, marker, seconds):
    reads = []
    for idle in (0, seconds - 1, seconds - 1, seconds):
        simulator.clock.advance(idle)
        reads.append(ask(claude, system=[text(static, marker)]).usage.cache_read_input_tokens)
    assert reads == [0, 1500, 1500, 0]


def test_another_key_reads_nothing(simulator, claude, static):
    ask(claude, system=[text(static, MARK)])
    with anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="other") as other:
        assert counts(ask(other, system=[text(static, MARK)]).usage) == (0, 1500, 1)


async def test_the_async_client_reads_the_same(simulator, static):
    async with anthropic.AsyncAnthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client:
        reads = [(await ask(client, system=[text(static, MARK)])).usage.cache_read_input_tokens for _ in range(2)]
    assert reads == [0, 1500]


def test_the_automatic_marker_follows_a_growing_conversation(claude, static):
    messages = [user(static)]
    reachable = 0
    for turn in range(4):
        answer = ask(claude, messages, extra_body={"cache_control": MARK})
        assert answer.usage.cache_read_input_tokens == reachable
        reachable = answer.usage.cache_read_input_tokens + answer.usage.cache_creation_input_tokens
        messages = [*messages, {"role": "assistant", "content": "I see."}, user(f"turn {turn}")]


def test_a_prewarmed_prompt_is_read_by_the_first_question(claude, static):
    system = [text(static, MARK)]
    warm = ask(claude, system=system, max_tokens=0)
    assert (warm.content, warm.stop_reason, warm.usage.output_tokens) == ([], "max_tokens", 0)
    assert counts(ask(claude, system=system).usage) == (1500, 0, 1)


def test_parallel_tool_calls_are_answered_in_one_turn(tokenizer):
    calls = [ToolUse("order_status", {"order": number}) for number in (1, 2)]
    model = script([Reply(text="Let me look.", tool_calls=calls), Reply(text="Both are on their way.")])
    tools = [{"name": "order_status", "input_schema": {"type": "object"}}]
    with (
        Simulator(tokenizer=tokenizer, model=model) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client,
    ):
        first = ask(client, tools=tools)
        assert first.stop_reason == "tool_use"
        uses = [block for block in first.content if block.type == "tool_use"]
        assert [use.input for use in uses] == [{"order": 1}, {"order": 2}]
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "sent"} for use in uses]
        content = [block.model_dump(exclude_none=True) for block in first.content]
        answer = ask(client, [user("hello"), {"role": "assistant", "content": content}, user(results)], tools=tools)
        assert answer.content[0].text == "Both are on their way."


# Refusals


CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
FILLER = {"type": "text", "text": "x"}
NESTED = [{**FILLER, "cache_control": MARK}, FILLER]

REFUSALS = {
    "A maximum of 4 blocks with cache_control may be provided. Found 5.": {
        "system": [text("a", MARK), text("b", MARK), text("c", MARK), text("d", MARK)],
        "messages": [user([text("e", MARK)])],
    },
    "A maximum of 4 blocks with cache_control may be provided. Found 5": {
        "system": [text("a", MARK), text("b", MARK), text("c", MARK), text("d", MARK)],
        "extra_body": {"cache_control": MARK},
    },
    "messages.0.content.1.text: cache_control cannot be set for empty text blocks": {
        "messages": [user([text("a"), text("", MARK)])],
    },
    "system.0.text: cache_control cannot be set for empty text blocks": {"system": [text("", MARK)]},
    "system.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
    "Note that blocks are processed in the following order: `tools`, `system`, `messages`.": {
        "tools": [{**TOOL, "cache_control": MARK}],
        "system": [text("a", MARK_1H)],
    },
    "Top-level cache_control has ttl='5m' but the target block already has cache_control with ttl='1h'": {
        "messages": [user([text("a", MARK_1H)])],
        "extra_body": {"cache_control": MARK},
    },
    "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted": {
        "messages": [user("a"), {"role": "assistant", "content": [{**THINKING, "cache_control": MARK}]}, user("b")],
    },
    "messages.2.content.0.tool_result.content.0.cache_control: Extra inputs are not permitted": {
        "messages": [user("a"), CALL, user([{**RESULT, "content": NESTED}])],
    },
    "Tool 'f' cannot have both defer_loading=true and cache_control set.": {
        "tools": [{**TOOL, "defer_loading": True, "cache_control": MARK}],
    },
    "role 'system' is not supported on this model": {"messages": [user("a"), {"role": "system", "content": "b"}]},
    "system.0.cache_control.ttl: Input should be '5m' or '1h'": {"system": [text("a", {**MARK, "ttl": "2h"})]},
    "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1.": {
        "messages": [user("a"), CALL, user("b")],
    },
    "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after": {
        "messages": [user("a"), CALL, user([FILLER, RESULT])],
    },
    "messages.0: unexpected `tool_use_id` found in `tool_result` blocks: t1.": {"messages": [user([RESULT])]},
    "messages.0.content.0.text.prompt_cache_breakpoint: Extra inputs are not permitted": {
        "messages": [user([{**FILLER, "prompt_cache_breakpoint": {"mode": "explicit"}}])],
    },
    "prompt_cache_key: Extra inputs are not permitted": {"extra_body": {"prompt_cache_key": "ours"}},
    "messages: text content blocks must be non-empty": {"messages": [user([text("")])]},
    "messages.0: all messages must have non-empty content": {"messages": [user("")]},
    "stream: not supported when max_tokens is 0": {"max_tokens": 0, "stream": True},
}


@pytest.mark.parametrize(("message", "call"), REFUSALS.items(), ids=range(len(REFUSALS)))
def test_what_claude_refuses_is_refused_in_its_words(claude, message, call):
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(claude, **call)
    error = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(message)


def test_a_refused_request_writes_nothing(claude, static):
    blocks = [text(static, MARK), text("b", MARK), text("c", MARK), text("d", MARK)]
    with pytest.raises(anthropic.BadRequestError):
        ask(claude, [user([text("e", MARK)])], system=blocks)
    assert ask(claude, system=blocks[:1]).usage.cache_read_input_tokens == 0


def test_a_model_that_takes_late_instructions_accepts_them(claude):
    messages = [user("a"), {"role": "system", "content": "Be brief."}]
    assert ask(claude, messages, model="claude-opus-5-5").content[0].text == "Be brief."


@pytest.mark.parametrize("model", [script([]), lambda _: 1 / 0])
def test_a_model_that_fails_says_so(tokenizer, model):
    with (
        Simulator(tokenizer=tokenizer, model=model) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key") as client,
        pytest.raises(anthropic.BadRequestError, match=r"the simulated model failed: (LookupError|ZeroDivisionError)"),
    ):
        ask(client)


# Diagnostics


def diagnose(client, before, after):
    """Return what is said about ``after``, asked to compare it with ``before``."""
    first = ask(client, **before, extra_body={"diagnostics": {"previous_message_id": None}})
    assert first.diagnostics is None
    return ask(client, **after, extra_body={"diagnostics": {"previous_message_id": first.id}}).diagnostics


def said(value):
    return {"role": "assistant", "content": value}


BASE = {"tools": [TOOL], "system": "Be kind.", "messages": [user("one two three four")]}

DIVERGENCES = {
    "model_changed": {"model": "claude-sonnet-5"},
    "tools_changed": {"tools": [{**TOOL, "description": "new"}]},
    "system_changed": {"system": "Be terse."},
    "messages_changed": {"messages": [user("five"), said("six"), user("seven")]},
    "unavailable": {"tool_choice": {"type": "any"}},
}


@pytest.mark.parametrize(("kind", "change"), DIVERGENCES.items(), ids=DIVERGENCES)
def test_the_first_divergence_is_diagnosed(claude, kind, change):
    reason = diagnose(claude, BASE, {**BASE, **change}).cache_miss_reason
    assert reason.type == kind
    assert (getattr(reason, "cache_missed_input_tokens", 0) > 0) == (kind != "unavailable")


def test_the_tokens_missed_are_those_beyond_the_divergence(claude, text_of):
    before = {"messages": [user([text(text_of(300)), text(text_of(50, " beta"))])]}
    after = {"messages": [user([text(text_of(300)), text("other")])]}
    assert diagnose(claude, before, after).cache_miss_reason.cache_missed_input_tokens == 50


def test_a_prompt_that_only_grew_has_no_divergence(claude):
    grown = {**BASE, "messages": [*BASE["messages"], said("six"), user([text("seven", MARK)])]}
    assert diagnose(claude, BASE, grown) is None


def test_an_unknown_message_is_not_found_nor_is_anothers(simulator, claude):
    mine = ask(claude, **BASE)
    with anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="other") as other:
        for client, name in [(claude, "msg_unknown"), (other, mine.id)]:
            answer = ask(client, **BASE, extra_body={"diagnostics": {"previous_message_id": name}})
            assert answer.diagnostics.cache_miss_reason.type == "previous_message_not_found"


def test_a_stream_brings_the_diagnosis_at_its_start(claude):
    first = ask(claude, **BASE)
    options = {**BASE, "system": "Be terse.", "extra_body": {"diagnostics": {"previous_message_id": first.id}}}
    start = next(iter(ask(claude, **options, stream=True)))
    assert start.message.diagnostics.cache_miss_reason.type == "system_changed"
