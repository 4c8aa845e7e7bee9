"""Telemetry through OpenTelemetry: metrics of every event, and attributes on spans, for any exporter.

Names are those of the semantic conventions for generative AI clients (open-telemetry/semantic-conventions-genai, in
development in November 2026) where they have one; the others begin with ``prefixcache.``. Nothing carries text of a
prompt or an answer. An unknown count is not recorded as 0: it is not recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import (
    AnswerTimed,
    CacheHit,
    CacheMiss,
    CallFailed,
    CallJoined,
    EntryEvicted,
    EntryRejected,
    EntryStored,
    Event,
    PrefixBroken,
    StoreDegraded,
    UsageRecorded,
)

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        "telemetry needs opentelemetry-api: pip install 'prefixcache-integrations[otel]'"
    ) from missing

SCOPE = "prefixcache_integrations"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
ASKED = "gen_ai.request.model"
MODEL = "gen_ai.response.model"
CONVERSATION = "gen_ai.conversation.id"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - no secret: a name
ERROR = "error.type"
INPUT = "gen_ai.usage.input_tokens"
OUTPUT = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_creation.input_tokens"

APP = "prefixcache.app"
NAMESPACE = "prefixcache.namespace"
PART = "prefixcache.cache.part"
OUTCOME = "prefixcache.response_cache.outcome"
REASON = "prefixcache.break.reason"
LOST = "prefixcache.break.lost_tokens"
COST = "prefixcache.cost"
UNCACHED_COST = "prefixcache.uncached_cost"
OPERATION_OF_STORE = "prefixcache.store.operation"

_PROVIDERS: Mapping[str | None, str] = {"azure": "azure.ai.openai"}
_TOKEN_BUCKETS = [4**power for power in range(14)]
_SECOND_BUCKETS = [0.01 * 2**power for power in range(14)]

Attributes = dict[str, Any]


class OpenTelemetryObserver:
    """Turns events into metrics and spans: give it as an observer to whatever takes observers.

    Args:
        meter_provider: Where metrics go; by default the global one.
        tracer_provider: Where spans go; by default the global one.
        spans: ``annotate`` sets attributes on the span that is current when an event is told, where it records: the
            last call's stay. ``create`` makes a client span of its own per call, below the current one; it has the
            attributes of a break where whoever tells of the call diagnoses it. ``none``.
        session: Whether spans carry the session as the conversation's id; metrics never do.
    """

    def __init__(
        self,
        *,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        spans: Literal["annotate", "create", "none"] = "annotate",
        session: bool = True,
    ) -> None:
        self._instruments = _Instruments(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._spans = spans
        self._session = session

    def __call__(self, event: Event) -> None:
        """Record ``event``; one that is about neither calls nor stores is passed over."""
        record = _RECORDS.get(type(event))
        if record is not None:
            record(self._instruments, event)
        describe = _DESCRIBED.get(type(event))
        told_with_the_call = self._spans == "create" and isinstance(event, PrefixBroken)
        if describe is not None and self._spans != "none" and not told_with_the_call:
            self._trace(event, describe(event))

    def _trace(self, event: Any, attributes: Attributes) -> None:  # noqa: ANN401 - one of those in the table
        if self._session and event.labels.session is not None:
            attributes[CONVERSATION] = event.labels.session
        if self._spans == "annotate" or not isinstance(event, UsageRecorded | CallFailed):
            trace.get_current_span().set_attributes(attributes)
            return
        end = time.time_ns()
        span = self._tracer.start_span(
            f"chat {event.model}" if event.model else "chat",
            kind=trace.SpanKind.CLIENT,
            start_time=end - round((event.seconds or 0) * 1_000_000_000),
            attributes=attributes,
        )
        if isinstance(event, CallFailed):
            span.set_status(trace.StatusCode.ERROR, event.error)
        span.end(end)


class _Instruments:
    """The metrics; each is made once."""

    def __init__(self, meter: metrics.Meter) -> None:
        tokens, seconds = _TOKEN_BUCKETS, _SECOND_BUCKETS
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of a call", explicit_bucket_boundaries_advisory=tokens
        )
        self.seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "How long calls take", explicit_bucket_boundaries_advisory=seconds
        )
        self.first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "How long until a stream begins",
            explicit_bucket_boundaries_advisory=seconds,
        )
        self.parts = meter.create_counter(
            "prefixcache.input_tokens", "{token}", "Input tokens by what became of them in the provider's cache"
        )
        self.cost = meter.create_counter(COST, "{USD}", "Money spent, of calls with a known price")
        self.uncached_cost = meter.create_counter(UNCACHED_COST, "{USD}", "What the same calls cost without a cache")
        self.unknown = meter.create_counter("prefixcache.calls.unknown", "{call}", "Calls without a known price")
        self.breaks = meter.create_counter("prefixcache.breaks", "{break}", "Calls that read less than they could")
        self.lost = meter.create_counter("prefixcache.lost_tokens", "{token}", "Tokens that could have been read")
        self.lookups = meter.create_counter("prefixcache.response_cache.lookups", "{request}", "Lookups by outcome")
        self.hit_seconds = meter.create_histogram(
            "prefixcache.response_cache.duration",
            "s",
            "How long answers out of a cache take",
            explicit_bucket_boundaries_advisory=seconds,
        )
        self.stored = meter.create_counter("prefixcache.response_cache.stored", "{entry}", "Answers stored")
        self.bytes = meter.create_counter("prefixcache.response_cache.stored_bytes", "By", "Bytes of answers stored")
        self.rejected = meter.create_counter("prefixcache.response_cache.rejected", "{entry}", "Answers not stored")
        self.evicted = meter.create_counter(
            "prefixcache.response_cache.evicted", "{entry}", "Answers pushed out for others"
        )
        self.errors = meter.create_counter("prefixcache.store.errors", "{error}", "Operations that a store failed")


def _call_attributes(event: Any) -> Attributes:  # noqa: ANN401 - any event about a call
    provider = getattr(event, "provider", None)
    named = {
        OPERATION: "chat",
        PROVIDER: _PROVIDERS.get(provider, provider),
        **_models(event),
        APP: event.labels.app,
        NAMESPACE: event.labels.namespace,
    }
    return {name: value for name, value in named.items() if value is not None}


def _models(event: Any) -> Attributes:  # noqa: ANN401 - any event about a call
    """Return the model asked for and the one that answered: only what was billed had an answer to name one."""
    if not isinstance(event, UsageRecorded):
        return {ASKED: event.model}
    return {ASKED: event.asked, MODEL: None if event.usage == Usage() else event.model}


def _record_usage(to: _Instruments, event: UsageRecorded) -> None:
    attributes = _call_attributes(event)
    for kind, tokens in (("input", event.usage.input_tokens), ("output", event.usage.output_tokens)):
        if tokens is not None:
            to.tokens.record(tokens, {**attributes, TOKEN_TYPE: kind})
    for part, tokens in _parts(event.usage).items():
        if tokens:
            to.parts.add(tokens, {**attributes, PART: part})
    if event.seconds is not None:
        to.seconds.record(event.seconds, attributes)
    if event.first_token_seconds is not None:
        to.first.record(event.first_token_seconds, attributes)
    if event.cost is None:
        to.unknown.add(1, attributes)
    else:
        to.cost.add(float(event.cost), attributes)
    if event.uncached_cost is not None:
        to.uncached_cost.add(float(event.uncached_cost), attributes)


def _parts(usage: Usage) -> Mapping[str, int | None]:
    read, write = usage.cache_read_tokens, usage.cache_write_tokens
    return {"read": read, "write": write, "uncached": usage.uncached_tokens}


def _record_failure(to: _Instruments, event: CallFailed) -> None:
    if event.seconds is not None:
        to.seconds.record(event.seconds, {**_call_attributes(event), ERROR: event.error})


def _record_break(to: _Instruments, event: PrefixBroken) -> None:
    attributes = {**_call_attributes(event), REASON: event.reason}
    to.breaks.add(1, attributes)
    to.lost.add(event.lost_tokens, attributes)


def _record_lookup(outcome: str) -> Callable[[_Instruments, Any], None]:
    return lambda to, event: to.lookups.add(1, {**_call_attributes(event), OUTCOME: outcome})


def _record_stored(to: _Instruments, event: EntryStored) -> None:
    to.stored.add(1)
    to.bytes.add(event.size)


_RECORDS: Mapping[type, Callable[[_Instruments, Any], None]] = {
    UsageRecorded: _record_usage,
    CallFailed: _record_failure,
    PrefixBroken: _record_break,
    CacheHit: _record_lookup("hit"),
    CallJoined: _record_lookup("joined"),
    CacheMiss: _record_lookup("miss"),
    AnswerTimed: lambda to, event: to.hit_seconds.record(event.seconds, _call_attributes(event)),
    EntryStored: _record_stored,
    EntryEvicted: lambda to, event: to.evicted.add(event.count),
    EntryRejected: lambda to, _: to.rejected.add(1),
    StoreDegraded: lambda to, event: to.errors.add(1, {OPERATION_OF_STORE: event.operation}),
}


def _describe_usage(event: UsageRecorded) -> Attributes:
    usage = event.usage
    told = {
        INPUT: usage.input_tokens,
        OUTPUT: usage.output_tokens,
        CACHE_READ: usage.cache_read_tokens,
        CACHE_WRITE: usage.cache_write_tokens,
        COST: None if event.cost is None else float(event.cost),
        UNCACHED_COST: None if event.uncached_cost is None else float(event.uncached_cost),
    }
    known = {name: value for name, value in told.items() if value is not None}
    return _call_attributes(event) | known | (_describe_break(event.broken) if event.broken else {})


def _describe_break(event: PrefixBroken) -> Attributes:
    return {REASON: event.reason, LOST: event.lost_tokens}


_DESCRIBED: Mapping[type, Callable[[Any], Attributes]] = {
    UsageRecorded: _describe_usage,
    CallFailed: lambda event: {**_call_attributes(event), ERROR: event.error},
    PrefixBroken: _describe_break,
    CacheHit: lambda _: {OUTCOME: "hit"},
    CallJoined: lambda _: {OUTCOME: "joined"},
    CacheMiss: lambda _: {OUTCOME: "miss"},
}
