"""What a store pushes out, from the store to everybody who counts it."""

import re

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus", reason="the exporter for Prometheus is not installed")

from langchain_core.messages import HumanMessage
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.otel import OpenTelemetryObserver
from prefixcache_integrations.stores.shared_sums import SharedSums, read_sums


@pytest.mark.parametrize("store", ["memory://?max_bytes=6000", "sqlite:///{}/answers.db?max_bytes=60000"])
def test_what_a_store_pushes_out_is_the_same_for_all_who_count(models, shared_redis, tmp_path, store):
    reader = PrometheusMetricReader()
    meters, ledger = MeterProvider([reader]), Ledger(clock=lambda: 0)
    sums = SharedSums(shared_redis.url(), book=f"evictions of {store[:6]}", flush_seconds=3600)
    telemetry = OpenTelemetryObserver(meter_provider=meters)
    cache = ResponseCache.from_url(store.format(tmp_path), observers=[ledger, sums, telemetry])
    model = models.openai(cache=cache)
    for number in range(40):
        model.invoke([HumanMessage(f"Question {number}. " + "Please. " * 40)])
    sums.close()
    scraped = generate_latest(REGISTRY).decode()
    meters.shutdown()

    evicted = cache.stats().evicted
    cache.close()
    assert evicted > 0
    assert ledger.totals.evicted == evicted
    assert read_sums(shared_redis.url(), book=f"evictions of {store[:6]}").sums.totals.evicted == evicted
    [metric] = re.findall(r"^prefixcache_response_cache_evicted_total\{.*\} (\S+)$", scraped, re.MULTILINE)
    assert float(metric) == evicted
