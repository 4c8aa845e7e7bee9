"""The assertions an app's tests use, on calls that the simulator recorded."""

import contextlib

import anthropic
import openai
import pytest

from prefixcache_integrations.testing import assert_extends, assert_prefix_kept, assert_reads
from prefixcache_integrations.testing.fixtures import prompt_cache_simulator  # noqa: F401 - the fixture under test

MARK = {"type": "ephemeral"}
TEXT = "The shop answers within a day. " * 400


@pytest.fixture
def converse(prompt_cache_simulator):  # noqa: F811 - a fixture by name
    """Return a function that sends a conversation and returns the simulator's record of it."""

    def send(messages, model="gpt-4o-mini", **options):
        url = prompt_cache_simulator.base_url("openai")
        with (
            openai.OpenAI(base_url=url, api_key="key", max_retries=0) as client,
            contextlib.suppress(openai.BadRequestError),
        ):
            client.chat.completions.create(model=model, messages=messages, **options)
        return prompt_cache_simulator.calls[-1]

    return send


def user(content):
    return {"role": "user", "content": content}


def grown(messages, text):
    return [*messages, {"role": "assistant", "content": "Yes."}, user(text)]


def test_a_second_turn_reads_most_of_its_prompt(converse):
    first = converse([user(TEXT)])
    second = converse(grown([user(TEXT)], "Why?"))
    assert_reads(second, at_least=0.9)
    with pytest.raises(AssertionError, match=r"call 1 read 0 of \d+ input tokens from the cache: 0.0%, not 90%"):
        assert_reads(first, at_least=0.9)


def test_a_refused_call_reads_nothing_and_says_why(converse):
    refused = converse([user("hi")], prompt_cache_retention="forever")
    with pytest.raises(AssertionError, match="call 1 was refused: prompt_cache_retention is not supported"):
        assert_reads(refused, at_least=0)


def test_a_growing_conversation_keeps_its_prefix(converse):
    turns = [[user(TEXT)]]
    for text in ("Why?", "How?"):
        turns.append(grown(turns[-1], text))
    assert_prefix_kept([converse(turn) for turn in turns])


def test_the_divergence_is_named_without_its_text(converse):
    first = converse([{"role": "system", "content": "It is Monday."}, user(TEXT)])
    second = converse([{"role": "system", "content": "It is Tuesday."}, user(TEXT)])
    with pytest.raises(AssertionError) as caught:
        assert_extends(first, second)
    assert str(caught.value) == "call 2 does not extend call 1: they part at messages[0].parts[0]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "gpt-4o"}, "a setting of the request has changed: model"),
        ({"parallel_tool_calls": False}, "a setting of the request has changed: parallel_tool_calls"),
        ({"messages": [user(TEXT)]}, "it ends before messages[1].parts[0]"),
        ({"messages": grown([user("Other.")], "Why?")}, "they part at messages[0].parts[0]"),
    ],
)
def test_each_way_to_part_is_named(converse, change, said):
    conversation = {"messages": grown([user(TEXT)], "Why?")}
    first = converse(**conversation)
    with pytest.raises(AssertionError) as caught:
        assert_extends(first, converse(**{**conversation, **change}))
    assert str(caught.value) == f"call 2 does not extend call 1: {said}"


def test_a_sampling_setting_parts_nothing(converse):
    assert_extends(converse([user(TEXT)], temperature=0), converse([user(TEXT)], temperature=1))


def test_markers_do_not_part_two_prompts(prompt_cache_simulator):  # noqa: F811 - a fixture by name
    with anthropic.Anthropic(base_url=prompt_cache_simulator.base_url("anthropic"), api_key="key") as client:
        for marker in ({"cache_control": MARK}, {}):
            system = [{"type": "text", "text": TEXT, **marker}]
            client.messages.create(model="claude-opus-5-5", max_tokens=5, system=system, messages=[user("hi")])
    assert_prefix_kept(prompt_cache_simulator.calls)
