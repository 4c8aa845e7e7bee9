"""Calls made with raw bodies over HTTP: what the meter tells must be what the simulated providers billed."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from datetime import date
from decimal import Decimal

import httpx2
import pytest
from anthropic.types.messages import MessageBatchIndividualResponse
from msgspec.structs import replace

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import AnswerTimed, CallFailed, Labels, PrefixBroken, UsageRecorded
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.metering import Meter
from prefixcache_integrations.prices import PriceBook
from tests.sent import streamed

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
MARK = {"mode": "explicit"}
PATHS = {
    "anthropic_messages": ("anthropic", "/v1/messages"),
    "openai_chat": ("openai", "/chat/completions"),
    "openai_responses": ("openai", "/responses"),
}


@pytest.fixture
def ledger():
    return Ledger(clock=lambda: 0)


@pytest.fixture
def meter(ledger, events):
    return Meter(
        observers=[ledger, events.append],
        prices=PriceBook(genai_prices=False),
        diagnose=True,
        day=lambda: date(2026, 11, 21),
    )


def body(dialect, question="Where is it?", *, stream=False, system=LONG):
    if dialect == "anthropic_messages":
        mark = {"cache_control": {"type": "ephemeral"}}
        made = {
            "model": "claude-sonnet-4-6",
            "max_tokens": 100,
            "system": [{"type": "text", "text": system, **mark}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": question, **mark}]}],
        }
    elif dialect == "openai_chat":
        made = {
            "model": "gpt-5.6-luna",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": system, "prompt_cache_breakpoint": MARK}]},
                {"role": "user", "content": question},
            ],
            **({"stream_options": {"include_usage": True}} if stream else {}),
        }
    else:
        made = {"model": "gpt-4o-mini", "instructions": system, "input": question}
    return {**made, "stream": True} if stream else made


def target(simulator, name):
    provider, path = PATHS[name]
    return {
        "url": simulator.base_url(provider) + path,
        "headers": {"authorization": "Bearer key", "x-api-key": "key", "connection": "close"},
    }


def ask(simulator, meter, name, question="Where is it?", *, stream=False, extra=None, **fields):
    sent = body(name, question, stream=stream, **fields) | (extra or {})
    call = meter.send(dialects.by_name(name), sent, PATHS[name][0])
    answer = httpx2.post(json=sent, **target(simulator, name))
    if answer.status_code != 200:
        call.failed(httpx2.HTTPError("a message that quotes the prompt"))
    elif stream:
        for _ in call.events(pieces_of(answer)):
            pass
    else:
        call.received(answer.json())


async def ask_awaiting(simulator, meter, name, question="Where is it?", *, stream=False):
    sent = body(name, question, stream=stream)
    call = meter.send(dialects.by_name(name), sent, PATHS[name][0])
    async with httpx2.AsyncClient() as client:
        answer = await client.post(json=sent, **target(simulator, name))
    if stream:
        async for _ in call.aevents(awaited(pieces_of(answer))):
            pass
    else:
        call.received(answer.json())


def pieces_of(answer):
    return [event for _, event in streamed(answer.content) if event is not None]


async def awaited(values):
    for value in values:
        yield value


def check(ledger, simulator):
    billed = [call.usage for call in simulator.calls]
    totals = ledger.totals
    assert totals.calls == len(billed)
    assert totals.input_tokens == sum(usage.input_tokens for usage in billed)
    assert totals.cache_read_tokens == sum(usage.cache_read_tokens for usage in billed) > 0
    assert totals.cache_write_tokens == sum(usage.cache_write_tokens or 0 for usage in billed)
    assert totals.output_tokens == sum(usage.output_tokens for usage in billed)
    assert totals.unknown.keys() <= {"cache_write_tokens"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", PATHS)
def test_the_ledger_adds_up_what_was_billed(simulator, meter, ledger, name, stream):
    for number in range(3):
        ask(simulator, meter, name, f"Question {number}", stream=stream)

    check(ledger, simulator)
    assert ledger.account().call_latency.count == 3
    assert sum(latency.count for latency in ledger.account().first_token.values()) == (3 if stream else 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", PATHS)
async def test_awaited_calls_add_up_alike(simulator, meter, ledger, name, stream):
    await ask_awaiting(simulator, meter, name, stream=stream)
    await asyncio.gather(*(ask_awaiting(simulator, meter, name, f"Question {n}", stream=stream) for n in range(4)))

    check(ledger, simulator)


def test_eight_threads_add_up_alike(simulator, meter, ledger):
    names = list(PATHS)
    for name in names:
        ask(simulator, meter, name)
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for turn in range(3):
            ask(simulator, meter, names[(number + turn) % 3], f"Question {number} {turn}", stream=bool(turn % 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    check(ledger, simulator)
    assert ledger.totals.calls == 27


TIERS = {
    "chat, flex": ("openai_chat", {"service_tier": "flex"}, "0.5"),
    "chat, fast": ("openai_chat", {"service_tier": "fast"}, "2"),
    "responses, priority": ("openai_responses", {"model": "gpt-5.4-mini", "service_tier": "priority"}, "2"),
    "responses, flex": ("openai_responses", {"model": "gpt-5.4-mini", "service_tier": "flex"}, "0.5"),
    "Claude, in the US": ("anthropic_messages", {"inference_geo": "us"}, "1.1"),
    "Claude, fast in the US": (
        "anthropic_messages", {"model": "claude-opus-4-8", "speed": "fast", "inference_geo": "us"}, "2.2",
    ),
    "Claude, priority where there is some": ("anthropic_messages", {"service_tier": "auto"}, "1"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", TIERS.values(), ids=TIERS)
def test_money_is_that_of_the_tier_in_which_calls_were_processed(simulator, meter, ledger, case, stream):
    name, extra, factor = case
    for _ in range(2):
        ask(simulator, meter, name, stream=stream, extra=extra)

    check(ledger, simulator)
    plain = [replace(call.usage, service_tier=None, speed=None, region=None) for call in simulator.calls]
    prices, model = PriceBook(genai_prices=False), simulator.calls[0].request.model
    listed = sum(prices.cost(usage, model, on=date(2026, 11, 21)) for usage in plain)
    assert ledger.totals.cost == listed * Decimal(factor) > 0


def test_a_batchs_result_costs_half(simulator, meter, ledger):
    sent = body("anthropic_messages")
    answer = httpx2.post(json=sent, **target(simulator, "anthropic_messages")).json()
    message = answer | {"usage": answer["usage"] | {"service_tier": "batch"}}
    line = {"custom_id": "1", "result": {"type": "succeeded", "message": message}}
    told = MessageBatchIndividualResponse.model_validate(line).result.message.model_dump(mode="json")
    meter.send(dialects.ANTHROPIC_MESSAGES, sent, "anthropic").received(told)

    cost = PriceBook(genai_prices=False).cost(simulator.calls[0].usage, "claude-sonnet-4-6", on=date(2026, 11, 21))
    assert ledger.totals.cost == cost / 2


@pytest.mark.parametrize("name", PATHS)
def test_a_stream_closed_early_is_unknown(simulator, meter, ledger, events, name):
    sent = body(name, stream=True)
    answer = httpx2.post(json=sent, **target(simulator, name))
    call = meter.send(dialects.by_name(name), sent, PATHS[name][0])
    with closing(call.events(pieces_of(answer))) as pieces:
        next(pieces)

    assert (ledger.totals.calls, ledger.totals.input_tokens) == (1, 0)
    assert ledger.totals.unknown["input_tokens"] == ledger.totals.unknown["cost"] == 1
    assert events[0].first_token_seconds is not None


async def test_an_awaited_stream_closed_early_is_unknown(simulator, meter, ledger):
    sent = body("openai_chat", stream=True)
    answer = httpx2.post(json=sent, **target(simulator, "openai_chat"))
    call = meter.send(dialects.OPENAI_CHAT, sent)
    async with aclosing(call.aevents(awaited(pieces_of(answer)))) as pieces:
        await anext(pieces)

    assert ledger.totals.unknown["output_tokens"] == 1


def test_a_refused_call_is_failed_and_leaves_nothing_to_compare_with(simulator, meter, ledger, events):
    ask(simulator, meter, "anthropic_messages")
    bad = {**body("anthropic_messages", system="Other. " + LONG), "max_tokens": -1}
    call = meter.send(dialects.ANTHROPIC_MESSAGES, bad, "anthropic", labels=Labels(session="s"))
    call.failed(ValueError("prompt"))
    ask(simulator, meter, "anthropic_messages", "And then?")

    assert [type(event) for event in events] == [UsageRecorded, CallFailed, UsageRecorded]
    assert (ledger.totals.calls, ledger.totals.failed) == (2, 1)
    assert events[1].error == "ValueError"


def caused(error, cause):
    error.__cause__ = cause
    return error


BROKEN_OFF = {
    "waited too long": (httpx2.ReadTimeout("slow"), 1, 0),
    "waited too long, said in other words": (caused(RuntimeError("x"), httpx2.ReadTimeout("slow")), 1, 0),
    "gave up": (TimeoutError(), 1, 0),
    "was interrupted": (KeyboardInterrupt(), 1, 0),
    "got no connection in time": (httpx2.ConnectTimeout("slow"), 0, 1),
    "got no connection": (caused(httpx2.ConnectError("x"), TimeoutError(110, "timed out")), 0, 1),
    "was refused": (httpx2.HTTPError("429"), 0, 1),
}


@pytest.mark.parametrize(("error", "unknown", "failed"), BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_a_call_that_may_have_gone_on_without_its_caller_is_of_unknown_cost(meter, ledger, error, unknown, failed):
    meter.begin("m").broken_off(error)

    assert (ledger.totals.calls, ledger.totals.unknown.get("cost", 0), ledger.totals.failed) == (
        unknown,
        unknown,
        failed,
    )


def test_a_call_ends_once(meter, ledger):
    call = meter.begin("m")
    call.answered(Usage(input_tokens=1))
    call.answered(Usage(input_tokens=1))
    call.abandoned()
    call.failed(ValueError())
    call.served("other_cache")

    assert (ledger.totals.calls, ledger.totals.failed) == (1, 0)


def test_an_answer_out_of_a_cache_is_timed_and_costs_nothing(meter, ledger, events):
    recorded = meter.begin("m", labels=Labels(app="shop")).served("response_cache")

    assert [type(event) for event in events] == [AnswerTimed]
    assert (recorded.cost, recorded.usage.input_tokens) == (0, 0)
    assert ledger.by("app")["shop"].hit_latency.count == 1
    assert ledger.totals.calls == 0


def test_observers_that_nobody_can_call_are_refused():
    with pytest.raises(ConfigurationError, match="observers"):
        Meter(observers="nobody")


def test_without_a_dialect_no_body_can_be_read(meter):
    with pytest.raises(ConfigurationError):
        meter.begin("m").received({})


def conversation(simulator, meter, systems):
    history = []
    for number, system in enumerate(systems):
        history.append({"role": "user", "content": [{"type": "text", "text": f"Question {number}"}]})
        history[-1]["content"][0]["cache_control"] = {"type": "ephemeral"}
        sent = {**body("anthropic_messages", system=system), "messages": history}
        call = meter.send(dialects.ANTHROPIC_MESSAGES, sent, "anthropic", labels=Labels(session="s", app="shop"))
        answer = httpx2.post(json=sent, **target(simulator, "anthropic_messages")).json()
        call.received(answer)
        del history[-1]["content"][0]["cache_control"]
        history.append({"role": "assistant", "content": answer["content"]})


def test_a_broken_prefix_is_told_with_its_price_and_the_perfect_cost_leaves_it_out(simulator, meter, ledger, events):
    conversation(simulator, meter, [LONG, LONG, "Friday. " + LONG])

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    before = simulator.calls[1].usage.input_tokens
    assert (broken.reason, broken.lost_tokens, broken.labels.app) == ("system_changed", before, "shop")
    # What was lost was written again: $3.75 a million tokens in place of $0.30.
    assert broken.lost_cost == before * (Decimal("3.75") - Decimal("0.30")) / 1_000_000
    assert ledger.totals.perfect_cost == ledger.totals.cost - broken.lost_cost


def test_an_unbroken_conversation_raises_no_alarm(simulator, meter, ledger):
    conversation(simulator, meter, [LONG] * 4)

    assert ledger.totals.breaks == 0
    assert ledger.totals.perfect_cost == ledger.totals.cost


def test_a_recording_has_a_line_per_call_that_says_what_the_prompt_was_made_of(simulator, tmp_path):
    path = tmp_path / "run.jsonl"
    meter = Meter(record=path, prices=PriceBook(genai_prices=False))
    conversation(simulator, meter, [LONG, LONG, "Friday. " + LONG])
    meter.begin("m").failed(RuntimeError("secret"))

    first, second, third, failed = recording.read(path.read_bytes().splitlines())

    assert [run.group for run in second.prompt] == ["system", "history", "question"]
    assert [run.marker for run in second.prompt] == ["", None, ""]
    assert sum(run.tokens for run in second.prompt) == second.usage.input_tokens
    assert first.prompt[0].digest == second.prompt[0].digest != third.prompt[0].digest
    assert first.conversation == second.conversation == third.conversation == "s #1"
    assert (third.broken.reason, third.broken.path) == ("system_changed", "system[0].text")
    assert third.broken.lost_cost > 0
    assert (failed.outcome, failed.error, failed.usage) == ("failed", "RuntimeError", Usage())


def test_the_path_of_a_break_ends_before_a_calls_arguments(tmp_path, events):
    path = tmp_path / "run.jsonl"
    meter = Meter(record=path, observers=[events.append], prices=PriceBook(genai_prices=False))
    mark = {"cache_control": {"type": "ephemeral"}}
    for turn, answer in enumerate(("yes", "no")):
        use = {"type": "tool_use", "id": "t", "name": "note", "input": {"canary-5417": {"said": answer}}}
        messages = [
            {"role": "user", "content": "Question"},
            {"role": "assistant", "content": [use]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": LONG},
                    {"type": "text", "text": "?", **mark},
                ],
            },
        ]
        if turn:
            messages += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "And?"}]
        sent = {"model": "claude-sonnet-4-6", "max_tokens": 10, "messages": messages}
        call = meter.send(dialects.ANTHROPIC_MESSAGES, sent, labels=Labels(session="s"))
        call.answered(Usage(input_tokens=2_000, cache_read_tokens=0, cache_write_tokens=2_000, output_tokens=1))

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    assert broken.path == "messages[1].content[0].input"
    assert "canary-5417" not in path.read_text()


def test_content_is_recorded_only_when_asked_for(simulator, tmp_path):
    for content in (False, True):
        path = tmp_path / f"{content}.jsonl"
        conversation(simulator, Meter(record=path, record_content=content), [LONG])

        [line] = path.read_text().splitlines()
        assert ("parcel" in line) is content
        assert ("Question 0" in line) is content
    assert json.loads(line)["request"]["messages"][0]["content"][0]["text"] == "Question 0"
    assert json.loads(line)["answer"]["content"][0]["text"] == "Question 0"


def test_a_recording_that_cannot_be_written_costs_a_warning_not_the_call(simulator, tmp_path, caplog):
    meter = Meter(record=tmp_path / "missing" / "run.jsonl")
    conversation(simulator, meter, [LONG])

    assert "A call was not recorded: FileNotFoundError" in caplog.text
    assert "parcel" not in caplog.text


def test_threads_write_whole_lines(tmp_path):
    path = tmp_path / "run.jsonl"
    meter = Meter(record=path)

    def work(number):
        for _ in range(25):
            meter.begin("m" * 500, labels=Labels(session=str(number))).answered(Usage(input_tokens=1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert len(list(recording.read(path.read_bytes().splitlines()))) == 200
