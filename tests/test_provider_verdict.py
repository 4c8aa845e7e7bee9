"""The provider's own diagnosis, asked for through the real SDKs, beside ours: end to end over the simulator."""

import anthropic
import openai
import pytest

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_RESPONSES
from prefixcache_integrations.events import Labels, PrefixBroken
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.diagnosis import explain
from prefixcache_integrations.insight.verdict import read_verdict
from prefixcache_integrations.metering import Meter
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.tokens import load

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
MARK = {"cache_control": {"type": "ephemeral"}}
TOOL = {"name": "track", "description": "Say where a parcel is.", "input_schema": {"type": "object"}}
FUNCTION = {"type": "function", "name": "track", "description": "Say where.", "parameters": {"type": "object"}}


@pytest.fixture
def claude(simulator):
    with anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(simulator):
    with openai.OpenAI(base_url=simulator.base_url("openai"), api_key="k", max_retries=0) as client:
        yield client


def claude_body(question="Where is it?", **fields):
    system = [{"type": "text", "text": LONG, **MARK}]
    messages = [{"role": "user", "content": [{"type": "text", "text": question, **MARK}]}]
    return {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "tools": [TOOL],
        "system": system,
        "messages": messages,
        **fields,
    }


def gpt_body(question="Where is it?", **fields):
    return {"model": "gpt-5.6-luna", "instructions": LONG, "input": question, "tools": [FUNCTION], **fields}


def both(dialect, before, after, answer):
    """Explain ``after`` by ``before`` with all that the answer to it says."""
    first, second = dialect.decode_request(before), dialect.decode_request(after)
    return explain(
        first,
        second,
        profile=resolve(second.model),
        tokenizer=load(),
        usage=dialect.decode_response(answer).usage,
        verdict=read_verdict(second, answer),
    )


CLAUDE = {
    "model_changed": {"model": "claude-sonnet-5"},
    "tools_changed": {"tools": [{**TOOL, "description": "Another."}]},
    "system_changed": {"system": [{"type": "text", "text": "Friday. " + LONG, **MARK}]},
    "messages_changed": {"messages": [{"role": "user", "content": "Another question, in other words."}]},
    "unavailable": {"tool_choice": {"type": "any"}},
}


@pytest.mark.parametrize(("kind", "change"), CLAUDE.items(), ids=CLAUDE)
def test_claude_and_we_name_the_same_difference(claude, kind, change):
    before = claude_body(f"{kind}, where is it?")
    first = claude.messages.create(**before)
    after = {**before, **change, "diagnostics": {"previous_message_id": first.id}}
    said = both(ANTHROPIC_MESSAGES, before, after, claude.messages.create(**after).to_dict())

    assert (said.verdict.reason, said.verdict.compared_with) == (kind, first.id)
    assert said.disagreement is None
    assert said.reason is not None


def test_claude_finds_no_difference_where_the_prompt_only_grew(claude):
    before = claude_body("And this?")
    first = claude.messages.create(**before)
    more = [
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "?", **MARK}]},
    ]
    after = {
        **before,
        "messages": [*before["messages"], *more],
        "diagnostics": {"previous_message_id": first.id},
    }
    said = both(ANTHROPIC_MESSAGES, before, after, claude.messages.create(**after).to_dict())

    assert (said.verdict.outcome, said.disagreement, said.broken) == ("same", None, False)


OPENAI = {
    "model_changed": {"model": "gpt-5.6-terra"},
    "tools_changed": {"tools": [{**FUNCTION, "description": "Another."}]},
    "prompt_cache_key_changed": {"prompt_cache_key": "b"},
    "text_format_changed": {"text": {"format": {"type": "json_object"}}},
    "verbosity_changed": {"text": {"verbosity": "low"}},
    "reasoning_effort_changed": {"reasoning": {"effort": "low"}},
    "service_tier_changed": {"service_tier": "flex"},
    "input_changed": {"instructions": "Friday. " + LONG},
}


@pytest.mark.parametrize(("kind", "change"), OPENAI.items(), ids=OPENAI)
def test_openai_and_we_name_the_same_difference(gpt, kind, change):
    before = gpt_body(f"{kind}, where is it?")
    first = gpt.responses.create(**before)
    after = {**before, **change, "prompt_cache_options": {"comparison_response_id": first.id}}
    said = both(OPENAI_RESPONSES, before, after, gpt.responses.create(**after).to_dict())

    assert (said.verdict.outcome, said.verdict.reason) == ("changed", kind)
    assert said.disagreement is None
    assert said.lost_tokens == said.verdict.missed_tokens


def test_openai_tells_a_hit(gpt):
    before = gpt_body([{"role": "user", "content": "Is it here?"}])
    first = gpt.responses.create(**before)
    grown = [*before["input"], {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}]
    after = {**before, "input": grown, "prompt_cache_options": {"comparison_response_id": first.id}}
    said = both(OPENAI_RESPONSES, before, after, gpt.responses.create(**after).to_dict())

    assert (said.verdict.outcome, said.disagreement) == ("hit", None)


@pytest.mark.parametrize(
    ("told", "change", "words"),
    [
        (None, {"system": "Friday. " + LONG}, "the provider finds no difference, and we find system_changed at system"),
        (
            {"cache_miss_reason": {"type": "tools_changed", "cache_missed_input_tokens": 7}},
            {"system": "Friday. " + LONG},
            "the provider says tools_changed, and the first difference we find is system_changed at system",
        ),
        (
            {"cache_miss_reason": {"type": "messages_changed", "cache_missed_input_tokens": 7}},
            {},
            "the provider says messages_changed, and we find no difference",
        ),
        ({"cache_miss_reason": None}, {"system": "Friday. " + LONG}, None),
        ({"cache_miss_reason": {"type": "previous_message_not_found"}}, {"system": "Friday. " + LONG}, None),
        ({"cache_miss_reason": {"type": "unavailable"}}, {"system": "Friday. " + LONG}, None),
    ],
)
def test_it_is_said_where_the_two_disagree(told, change, words):
    before = claude_body(system=LONG)
    after = {**before, **change, "diagnostics": {"previous_message_id": "msg_1"}}
    first, second = map(ANTHROPIC_MESSAGES.decode_request, (before, after))
    said = explain(
        first,
        second,
        profile=resolve(second.model),
        tokenizer=load(),
        verdict=read_verdict(second, {"diagnostics": told}),
    )

    assert said.disagreement == words
    assert (words or "the provider says") in said.render()


def test_a_hit_that_we_miss_tokens_of_is_a_disagreement():
    before = gpt_body()
    after = {**before, "prompt_cache_options": {"comparison_response_id": "resp_1"}}
    first, second = map(OPENAI_RESPONSES.decode_request, (before, after))
    said = explain(
        first,
        second,
        profile=resolve(second.model),
        tokenizer=load(),
        usage=Usage(input_tokens=2_000, cache_read_tokens=0, cache_write_tokens=1_997, output_tokens=1),
        verdict=read_verdict(second, {"prompt_cache_diagnostics": {"type": "cache_hit"}}),
    )

    assert said.reason == "dropped_by_provider"
    assert said.disagreement.startswith("the provider says that all was read, and we miss 1,9")


@pytest.mark.parametrize("stream", [False, True])
def test_the_meter_tells_and_records_what_the_provider_said(claude, tmp_path, stream):
    events, path = [], tmp_path / "run.jsonl"
    meter = Meter(observers=[events.append], prices=PriceBook(genai_prices=False), record=path)
    previous, history = None, []
    for number, system in enumerate([LONG, "Friday. " + LONG]):
        history.append({"role": "user", "content": [{"type": "text", "text": f"Question {number} {stream}"}]})
        body = claude_body(
            system=[{"type": "text", "text": system, **MARK}],
            messages=list(history),
            diagnostics={"previous_message_id": previous},
        )
        call = meter.send(dialects.ANTHROPIC_MESSAGES, body, "anthropic", labels=Labels(session="s"))
        if stream:
            answer = [event.to_dict() for event in claude.messages.create(**body, stream=True)]
            list(call.events(answer))
            previous = answer[0]["message"]["id"]
        else:
            answer = claude.messages.create(**body).to_dict()
            call.received(answer)
            previous = answer["id"]
        history.append({"role": "assistant", "content": "Yes."})

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    *_, last = recording.read(path.read_bytes().splitlines())
    assert (broken.reason, broken.provider_reason, broken.disagreement) == ("system_changed", "system_changed", None)
    assert last.broken.provider_reason == "system_changed"


def test_a_verdict_on_another_pair_is_passed_over(claude):
    events, history = [], []
    meter = Meter(observers=[events.append], prices=PriceBook(genai_prices=False), diagnose=True)
    for system, compared in ((LONG, None), ("Friday. " + LONG, "msg_of_somebody_else")):
        history.append({"role": "user", "content": [{"type": "text", "text": "Where?", **MARK}]})
        body = claude_body(
            system=[{"type": "text", "text": system}],
            messages=list(history),
            diagnostics={"previous_message_id": compared},
        )
        call = meter.send(dialects.ANTHROPIC_MESSAGES, body, "anthropic", labels=Labels(session="s"))
        call.received(claude.messages.create(**body).to_dict())
        history.append({"role": "assistant", "content": "Here."})

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    assert broken.provider_reason is None
