"""What the handler records of LlamaIndex calls, and why they missed, against what the simulator billed."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage

from prefixcache_integrations import claims
from prefixcache_integrations.events import CallFailed, PrefixBroken
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.llama_index import CachedTokensEventHandler, PrefixCacheEvent, enable
from tests.llama_index.test_handler import Listener

LONG = "The handbook says that lamps are taken back within thirty days. " * 150
CANARY = "canary-5417"
PROVIDERS = ("openai", "claude", "responses")


async def achat(llm, messages):
    return (await llm.achat(messages)).message


async def astream(llm, messages):
    pieces = [piece async for piece in await llm.astream_chat(messages)]
    return pieces[-1].message


STYLES = {
    "chat": lambda llm, messages: llm.chat(messages).message,
    "stream_chat": lambda llm, messages: list(llm.stream_chat(messages))[-1].message,
    "achat": achat,
    "astream_chat": astream,
}


@pytest.fixture
def seen(handlers, tmp_path):
    """A handler that records, and what everybody is told: observers, LlamaIndex's dispatcher, readers of the file."""
    told, facts, path = [], [], tmp_path / "run.jsonl"
    handler = CachedTokensEventHandler(observers=[told.append], record=path, app="shop", namespace="eu")
    handlers(handler)
    handlers(Listener(facts))
    return SimpleNamespace(handler=handler, told=told, facts=facts, path=path, calls=lambda: read(path))


def read(path):
    return list(recording.read(path.read_bytes().splitlines()))


def talk(llm, systems, style="chat"):
    """Ask once under each system prompt, the history growing."""
    history = []
    for system in systems:
        history.append(ChatMessage(content="How long for lamps?"))
        answer = STYLES[style](llm, [ChatMessage(role="system", content=system), *history])
        history.append(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("style", STYLES)
def test_a_broken_prefix_is_told_once_with_what_was_lost(simulator, llms, seen, provider, style):
    talk(enable(getattr(llms, provider)()), [LONG, LONG, "Monday. " + LONG], style)

    _, before, after = [call.usage for call in simulator.calls]
    [broken] = [event for event in seen.told if isinstance(event, PrefixBroken)]
    assert (broken.reason, broken.offset, broken.labels.app) == ("system_changed", 0, "shop")
    assert broken.lost_tokens > 1_000
    if provider == "claude":
        assert broken.lost_tokens == before.cache_read_tokens + before.cache_write_tokens - after.cache_read_tokens
    facts = [event for event in seen.facts if isinstance(event, PrefixCacheEvent) and event.fact == "PrefixBroken"]
    assert [fact.details["lost_tokens"] for fact in facts] == [broken.lost_tokens]


def test_handlers_that_share_a_ledger_book_a_call_once(simulator, llms, handlers):
    ledger = Ledger(clock=lambda: 0)
    both = [CachedTokensEventHandler(observers=[ledger], diagnose=each) for each in (False, True)]
    for handler in both:
        handlers(handler)
    talk(enable(llms.claude()), [LONG, "Monday. " + LONG])

    assert (ledger.totals.calls, ledger.totals.breaks) == (2, 1)
    assert ledger.totals.input_tokens == sum(call.usage.input_tokens for call in simulator.calls)
    assert [handler.totals.calls for handler in both] == [2, 2]
    assert not claims._shared


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_growing_conversation_raises_no_alarm_and_is_recorded_as_it_was_sent(simulator, llms, seen, provider):
    talk(enable(getattr(llms, provider)()), [LONG] * 3)

    assert not [event for event in seen.told if isinstance(event, PrefixBroken)]
    calls = seen.calls()
    assert [sum(run.tokens for run in call.prompt) for call in calls] == [
        call.usage.input_tokens for call in simulator.calls
    ]
    assert {call.conversation for call in calls} == {calls[0].conversation}
    assert calls[2].usage.cache_read_tokens == simulator.calls[2].usage.cache_read_tokens > 1_000


def test_calls_carry_the_session_that_the_tags_name(llms, seen):
    llm = enable(llms.openai(), cache="memory://")
    for session in ("a", "b", "a"):
        with instrument_tags({"session_id": session}):
            llm.chat([ChatMessage(content=f"How long, {session}?")])

    assert [call.labels.session for call in seen.calls()] == ["a", "b", "a"]
    assert [call.outcome for call in seen.calls()] == ["provider", "provider", "response_cache"]
    assert {event.labels.namespace for event in seen.told} == {"eu"}


def test_without_a_laid_out_client_the_prompt_is_unknown(llms, seen):
    talk(enable(llms.claude(), layout=None), [LONG, "Monday. " + LONG])

    assert [call.prompt for call in seen.calls()] == [(), ()]
    assert not [event for event in seen.told if isinstance(event, PrefixBroken)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_word_of_prompt_answer_or_key_is_recorded_told_or_logged(llms, seen, caplog, capsys, provider):
    caplog.set_level(logging.DEBUG, logger="prefixcache_integrations")
    llm = enable(getattr(llms, provider)(api_key=f"key-{CANARY}"), cache="memory://")
    talk(llm, [f"{CANARY} {LONG}", f"{CANARY} {CANARY} {LONG}"], "stream_chat")
    with pytest.raises(Exception, match="400"):
        llm.chat([ChatMessage(content=CANARY)], tools=[{"name": CANARY, "input_schema": 3, "type": "function"}])

    assert {PrefixBroken, CallFailed} <= {type(event) for event in seen.told}
    facts = [repr(event) for event in seen.facts if isinstance(event, PrefixCacheEvent)]
    everything = [
        seen.path.read_text(),
        repr(seen.told),
        seen.handler.report(),
        caplog.text,
        *facts,
        *capsys.readouterr(),
    ]
    assert not [text for text in everything if CANARY in text or "lamps" in text]


def test_content_is_recorded_when_it_is_asked_for(llms, handlers, tmp_path):
    path = tmp_path / "run.jsonl"
    handlers(CachedTokensEventHandler(record=path, record_content=True))
    llm = enable(llms.claude())
    llm.chat([ChatMessage(content=CANARY)])
    llm.complete(CANARY)

    first, second = read(path)
    assert CANARY in repr(first.request["messages"])
    assert first.answer["role"] == "assistant"
    assert CANARY in repr(second.request["messages"])
