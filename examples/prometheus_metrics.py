"""Cached tokens and cost as Prometheus metrics, from a chain that talks to the local simulator.

    pip install 'prefixcache-integrations[all]' opentelemetry-sdk opentelemetry-exporter-prometheus
    python -m examples.prometheus_metrics

In an application, ``start_http_server(9464)`` of prometheus_client serves the same text to a Prometheus server.
"""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest
from pydantic import SecretStr

from prefixcache_integrations.langchain import CachedTokensHandler
from prefixcache_integrations.otel import OpenTelemetryObserver
from prefixcache_integrations.server import Simulator

POLICY = "Parcels leave the warehouse in the evening and arrive on the next working day. " * 120


def main() -> str:
    """Ask three questions and return what Prometheus would scrape."""
    meters = MeterProvider([PrometheusMetricReader()])
    handler = CachedTokensHandler(observers=[OpenTelemetryObserver(meter_provider=meters)], app="support")
    with Simulator() as simulator:
        model = ChatOpenAI(
            model="gpt-4o-mini", base_url=simulator.base_url("openai"), api_key=SecretStr("any"), max_retries=0
        )
        for question in ("Where is my parcel?", "When will it come?", "Who brings it?"):
            model.invoke([SystemMessage(POLICY), HumanMessage(question)], config={"callbacks": [handler]})
    scraped = generate_latest().decode()
    meters.shutdown()
    return scraped


if __name__ == "__main__":
    lines = main().splitlines()
    print("\n".join(line for line in lines if line.startswith(("prefixcache", "gen_ai")) and "_bucket" not in line))
