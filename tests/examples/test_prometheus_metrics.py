import re

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus", reason="the exporter for Prometheus is not installed")

from examples.prometheus_metrics import main


def test_prometheus_would_scrape_what_was_read_from_the_cache():
    scraped = main()

    [read] = re.findall(r'^prefixcache_input_tokens_total\{.*part="read".*\} (\S+)$', scraped, re.MULTILINE)
    assert float(read) > 2_000
    assert re.search(r'^gen_ai_client_token_usage_count\{.*type="input".*\} 3.0$', scraped, re.MULTILINE)
    assert "parcel" not in scraped
