"""Telemetry as a real OpenTelemetry SDK receives it."""

from decimal import Decimal

import pytest

pytest.importorskip("opentelemetry.sdk", reason="telemetry is tested with opentelemetry-sdk, which is not installed")

from msgspec.structs import replace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from prefixcache_integrations import otel
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import (
    AnswerTimed,
    CacheHit,
    CacheMiss,
    CallFailed,
    CallJoined,
    EntryRejected,
    EntryStored,
    Labels,
    PassedThrough,
    PrefixBroken,
    StoreDegraded,
    UsageRecorded,
)

WARM = Usage(input_tokens=2_000, cache_read_tokens=1_500, cache_write_tokens=400, output_tokens=50)
CALL = UsageRecorded(
    model="gpt-5.6-luna",
    asked="our-luna",
    provider="azure",
    usage=WARM,
    cost=Decimal("0.25"),
    uncached_cost=Decimal("0.5"),
    seconds=2.0,
    first_token_seconds=0.5,
    labels=Labels(app="shop", session="s1", namespace="eu"),
)


class Told:
    def __init__(self, **settings):
        self.reader = InMemoryMetricReader()
        self.spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = tracers.get_tracer("test")
        meters = MeterProvider([self.reader])
        self.observer = otel.OpenTelemetryObserver(meter_provider=meters, tracer_provider=tracers, **settings)

    def points(self):
        """Return every point as (metric, attributes) → value; the sum of a histogram."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return {
            (metric.name, frozenset(point.attributes.items())): getattr(point, "sum", None) or point.value
            for metric in metrics
            for point in metric.data.data_points
        }

    def value(self, name, **attributes):
        found = [
            value
            for (metric, told), value in self.points().items()
            if metric == name and attributes.items() <= {k.rpartition(".")[2]: v for k, v in told}.items()
        ]
        assert len(found) == 1, (name, self.points())
        return found[0]


@pytest.fixture
def told():
    return Told()


def test_the_names_are_those_of_the_conventions():
    ours = {name: getattr(otel, name) for name in dir(otel) if str(getattr(otel, name)).startswith("gen_ai.")}
    theirs = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}

    assert len(ours) == 10
    assert set(ours.values()) <= theirs


def test_a_call_becomes_the_metrics_of_the_conventions(told):
    told.observer(CALL)

    assert told.value(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, type="input") == 2_000
    assert told.value(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, type="output") == 50
    assert told.value(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION) == 2.0
    assert told.value(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK) == 0.5
    for _, attributes in told.points():
        assert {
            (otel.OPERATION, "chat"),
            (otel.PROVIDER, "azure.ai.openai"),
            (otel.ASKED, "our-luna"),
            (otel.MODEL, "gpt-5.6-luna"),
            (otel.APP, "shop"),
            (otel.NAMESPACE, "eu"),
        } <= attributes
        assert not any(value == "s1" for _, value in attributes)


def test_what_was_cached_and_what_it_cost_is_counted(told):
    for _ in range(2):
        told.observer(CALL)

    assert {part: told.value("prefixcache.input_tokens", part=part) for part in ("read", "write", "uncached")} == {
        "read": 3_000,
        "write": 800,
        "uncached": 200,
    }
    assert told.value("prefixcache.cost") == 0.5
    assert told.value("prefixcache.uncached_cost") == 1.0


def test_unknown_is_not_recorded_as_nothing(told):
    told.observer(UsageRecorded(model=None, usage=Usage()))

    assert {name for name, _ in told.points()} == {"prefixcache.calls.unknown"}


def test_the_response_cache_and_its_store_are_counted(told):
    for event in (
        CacheHit(key="k"),
        CallJoined(key="k"),
        CacheMiss(key="k"),
        AnswerTimed(seconds=0.25),
        EntryStored(key="k", size=120),
        EntryRejected(key="k", reason="a refusal"),
        StoreDegraded(operation="get", error="StoreUnavailable"),
        PrefixBroken(model="m", reason="system_changed", lost_tokens=900),
        CallFailed(error="RateLimitError", seconds=0.5),
        PassedThrough(reason="no body"),
    ):
        told.observer(event)

    lookups = {outcome: told.value("prefixcache.response_cache.lookups", outcome=outcome) for outcome in OUTCOMES}
    assert lookups == dict.fromkeys(OUTCOMES, 1)
    assert told.value("prefixcache.response_cache.duration") == 0.25
    assert told.value("prefixcache.response_cache.stored_bytes") == 120
    assert told.value("prefixcache.response_cache.rejected") == 1
    assert told.value("prefixcache.store.errors", operation="get") == 1
    assert told.value("prefixcache.lost_tokens", reason="system_changed") == 900
    assert told.value("gen_ai.client.operation.duration", type="RateLimitError") == 0.5


OUTCOMES = ("hit", "joined", "miss")


def test_the_current_span_is_annotated(told):
    with told.tracer.start_as_current_span("agent"):
        told.observer(CALL)
        told.observer(PrefixBroken(model="m", reason="system_changed", lost_tokens=900))

    [span] = told.spans.get_finished_spans()
    assert span.attributes[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == 2_000
    assert span.attributes[gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 1_500
    assert span.attributes[gen_ai_attributes.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS] == 400
    assert span.attributes[gen_ai_attributes.GEN_AI_CONVERSATION_ID] == "s1"
    assert span.attributes["prefixcache.cost"] == 0.25
    assert span.attributes["prefixcache.break.reason"] == "system_changed"


def test_a_call_can_have_a_span_of_its_own():
    told = Told(spans="create", session=False)
    with told.tracer.start_as_current_span("agent") as agent:
        told.observer(CALL)
        told.observer(CallFailed(error="RateLimitError", model="m"))
        told.observer(CacheHit(key="k"))

    call, failed, parent = told.spans.get_finished_spans()
    assert call.name == "chat gpt-5.6-luna"
    assert call.parent.span_id == agent.get_span_context().span_id
    assert call.end_time - call.start_time == 2_000_000_000
    assert otel.CONVERSATION not in call.attributes
    assert (failed.status.is_ok, failed.attributes["error.type"]) == (False, "RateLimitError")
    assert (failed.attributes[otel.ASKED], failed.attributes.get(otel.MODEL)) == ("m", None)
    assert dict(parent.attributes) == {"prefixcache.response_cache.outcome": "hit"}


def test_why_a_call_missed_is_on_its_own_span_and_on_no_other():
    told = Told(spans="create")
    broken = PrefixBroken(model="m", reason="system_changed", lost_tokens=7)
    with told.tracer.start_as_current_span("agent"):
        told.observer(replace(CALL, broken=broken))
        told.observer(broken)
        told.observer(CALL)

    missed, read, parent = told.spans.get_finished_spans()
    assert (missed.attributes[otel.REASON], missed.attributes[otel.LOST]) == ("system_changed", 7)
    assert otel.REASON not in {**read.attributes, **parent.attributes}


def test_a_call_that_nobody_heard_the_end_of_names_no_model_that_answered():
    told = Told(spans="create")
    told.observer(UsageRecorded(model="m", asked="m", usage=Usage()))

    [span] = told.spans.get_finished_spans()
    assert (span.attributes[otel.ASKED], span.attributes.get(otel.MODEL)) == ("m", None)


def test_spans_can_be_left_alone():
    told = Told(spans="none")
    with told.tracer.start_as_current_span("agent"):
        told.observer(CALL)

    [span] = told.spans.get_finished_spans()
    assert not span.attributes


def test_without_a_span_nothing_fails(told):
    told.observer(CALL)

    assert told.spans.get_finished_spans() == ()
