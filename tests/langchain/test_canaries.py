"""Planted secrets: what is told, recorded, drawn, logged and measured holds none of them, whatever goes wrong."""

import io
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from prefixcache_integrations import dialects, tokens
from prefixcache_integrations.events import CallFailed, EntryStored, PrefixBroken, PromptPlanned, StoreDegraded
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.diagnosis import explain
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.insight.report import report
from prefixcache_integrations.insight.report_html import render
from prefixcache_integrations.langchain import (
    CachedTokensHandler,
    PromptLayoutMiddleware,
    ResponseCache,
    with_prompt_layout,
)
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.stability import PromptMemory
from prefixcache_integrations.stores.shared_sums import SharedSums

CANARY = "canary5417"
KEY = f"sk-{CANARY}"
LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
WORDS = ("parcel", "warehouse")
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class Seen:
    """All that leaves the package: events, a recording, logs at every level, metrics and spans."""

    def __init__(self, path, caplog):
        self.events, self.path, self.caplog = [], path, caplog
        self.ledger = Ledger(clock=lambda: 0)
        self.observers = [self.events.append, self.ledger]
        with suppress(ModuleNotFoundError):
            self._trace()
        self.handler = CachedTokensHandler(observers=self.observers, record=path, app="shop")
        self.config = {"callbacks": [self.handler], "metadata": {"thread_id": "t"}}

    def _trace(self):
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from prefixcache_integrations.otel import OpenTelemetryObserver

        self.reader, self.spans, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        meters = MeterProvider([self.reader])
        self.observers.append(OpenTelemetryObserver(meter_provider=meters, tracer_provider=tracers, spans="create"))

    def everything(self):
        yield "events", repr(self.events)
        yield "ledger", repr(self.ledger.account()) + repr(self.ledger.by("model")) + repr(self.ledger.by("tag"))
        yield "table", self.handler.report()
        yield "log", self.caplog.text
        lines = self.path.read_bytes() if self.path.exists() else b""
        yield "recording", lines.decode()
        yield "report", render(report(recording.read(io.BytesIO(lines))))
        if hasattr(self, "reader"):
            data = self.reader.get_metrics_data()
            yield "metrics", "" if data is None else data.to_json()
            yield "spans", "".join(span.to_json() for span in self.spans.get_finished_spans())

    def assert_clean(self):
        found = {name for name, text in self.everything() if CANARY in text or any(word in text for word in WORDS)}
        assert found == set()

    def findings(self):
        plans = (event.plan for event in self.events if isinstance(event, PromptPlanned))
        return {finding.code for plan in plans for finding in plan.findings}


@pytest.fixture
def seen(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="prefixcache_integrations")
    return Seen(tmp_path / "run.jsonl", caplog)


@pytest.fixture(params=["claude", "openai"])
def model(request, simulator):
    settings = {"api_key": SecretStr(KEY), "max_retries": 0}
    if request.param == "claude":
        return ChatAnthropic(model="claude-sonnet-5", base_url=simulator.base_url("anthropic"), **settings)
    return ChatOpenAI(model="gpt-5.6-luna", base_url=simulator.base_url("openai"), **settings)


def test_templates_what_is_filled_in_and_what_is_moved(seen, model):
    prompt = ChatPromptTemplate(
        [
            ("system", f"{CANARY} {LONG} It is {{now}}, and {{customer}} asks. Go by this: {{context}}\n\nBe kind."),
            ("placeholder", "{history}"),
            ("human", "{question}"),
        ]
    )
    chain = with_prompt_layout(prompt | model, level="arrange", observers=seen.observers)
    for number in range(2):
        values = {
            "now": f"09:3{number}",
            "customer": f"{CANARY}-{number}@example.org",
            "context": [Document(f"{CANARY} {number} {LONG[:400]}", metadata={"source": f"{CANARY}.txt"})],
            "history": [HumanMessage(f"{CANARY} before"), AIMessage(f"{CANARY} then")],
            "question": f"Where is {CANARY}-{number}?",
        }
        chain.invoke(values, seen.config)

    assert any(event.plan.moves for event in seen.events if isinstance(event, PromptPlanned))
    seen.assert_clean()


@tool
def order_status(order: str) -> str:
    """Look up an order."""
    return f"{CANARY}: order {order} is on its way"


def test_what_changes_in_instructions_and_history_and_tools(seen, model):
    layout = PromptLayoutMiddleware(level="arrange", memory=PromptMemory(), observers=seen.observers)
    volatile = f"{CANARY} {LONG} Today is {NOW:%Y-%m-%d %H:%M}, session 7f0e4b8e-5b1c-4f7e-9a57-3f2d1c0b9a88."
    called = [{"name": "order_status", "args": {"order": CANARY, CANARY: CANARY}, "id": "c1"}]
    history = [
        HumanMessage(f"{CANARY}? " * 30),
        AIMessage("", tool_calls=called),
        ToolMessage(f"{CANARY} " * 400, tool_call_id="c1"),
        AIMessage(f"{CANARY}."),
    ]
    runs = [
        (volatile, history),
        (volatile, [*history, HumanMessage(f"{CANARY} again")]),
        (volatile, [*history[:2], ToolMessage("[cleared]", tool_call_id="c1"), *history[3:], HumanMessage(CANARY)]),
        (volatile, [HumanMessage(f"Summary: {CANARY}"), AIMessage(CANARY), HumanMessage(f"{CANARY} more")]),
        (volatile.replace("Today", "Now"), [HumanMessage(f"Summary: {CANARY}"), AIMessage(CANARY), HumanMessage("x")]),
    ]
    for system, messages in runs:
        sent = messages if isinstance(messages[-1], HumanMessage) else [*messages, HumanMessage(CANARY)]
        agent = create_agent(model, tools=[order_status], system_prompt=system, middleware=[layout])
        agent.invoke({"messages": sent}, seen.config)

    assert {PrefixBroken, PromptPlanned} <= {type(event) for event in seen.events}
    assert {"volatile_text", "volatile_moved"} & seen.findings()
    assert seen.findings() & {"history_cleared", "history_rewritten", "history_summarised", "system_changed"}
    seen.assert_clean()


def test_errors_and_where_they_came_from(seen, model):
    nameless = model.model_copy(update={"model_name" if hasattr(model, "model_name") else "model": ""})
    with pytest.raises(Exception, match="model"):
        nameless.invoke([SystemMessage(CANARY), HumanMessage(CANARY)], seen.config)

    @tool
    def leaks(order: str) -> str:
        """Fail."""
        raise RuntimeError(f"{CANARY} {order}")

    def breaks(event):
        raise ValueError(type(event).__name__)

    prompt = ChatPromptTemplate([("human", "{question}")])
    chain = prompt | model | (lambda answer: leaks.invoke({"order": answer.text}))
    laid_out = with_prompt_layout(chain, observers=[*seen.observers, breaks])
    with pytest.raises(RuntimeError, match=CANARY):
        laid_out.invoke({"question": CANARY}, seen.config)

    assert "An observer failed" in seen.caplog.text
    assert CallFailed in {type(event) for event in seen.events}
    seen.assert_clean()


def test_addresses_with_passwords(seen, model):
    url = f"redis://user:{CANARY}@127.0.0.1:1/0"
    cached = model.model_copy(update={"cache": ResponseCache.from_url(url, observers=seen.observers)})
    cached.invoke([HumanMessage(CANARY)], seen.config)
    sums = SharedSums(url, observers=seen.observers, flush_seconds=3600, timeout=0.2)
    for event in list(seen.events):
        sums(event)
    assert not sums.flush()
    sums.close()
    closed = {
        "anthropic_api_url" if isinstance(model, ChatAnthropic) else "openai_api_base": f"http://u:{CANARY}@127.0.0.1:1"
    }
    kind = type(model)
    with pytest.raises(Exception, match=r"(?i)connect"):
        kind(model="gpt-4o", api_key=SecretStr(KEY), max_retries=0, **closed).invoke(CANARY, seen.config)

    assert {StoreDegraded, CallFailed} <= {type(event) for event in seen.events}
    seen.assert_clean()


def test_answers_that_are_kept(seen, model):
    cache = ResponseCache.from_url("memory://", observers=seen.observers)
    cached = model.model_copy(update={"cache": cache})
    for _ in range(2):
        assert CANARY in cached.invoke([HumanMessage(CANARY)], seen.config).text

    assert EntryStored in {type(event) for event in seen.events}
    assert CANARY not in repr(cache.stats())
    seen.assert_clean()


def test_an_excerpt_is_only_there_when_it_is_asked_for():
    first, second = (
        dialects.by_name("anthropic_messages").decode_request(
            {
                "model": "claude-sonnet-5",
                "max_tokens": 1,
                "system": [{"type": "text", "text": f"{word} {CANARY} {LONG}", "cache_control": {"type": "ephemeral"}}],
                "messages": [{"role": "user", "content": CANARY}],
            }
        )
        for word in ("one", "two")
    )
    known = {"profile": resolve("claude-sonnet-5"), "tokenizer": tokens.load()}
    said = explain(first, second, **known)

    assert said.reason == "system_changed"
    assert CANARY not in repr(said) + said.render() + json.dumps(str(said.event("m")))
    assert CANARY in explain(first, second, redact=False, **known).render()
