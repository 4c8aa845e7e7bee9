"""Which headers count: what routes does, what travels, traces or opens a door does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.prompt.headers import routing

ROUTES = [
    "anthropic-beta",
    "openai-beta",
    "OpenAI-Organization",
    "OpenAI-Project",
    "x-portkey-provider",
    "x-portkey-virtual-key",
    "x-portkey-config",
    "helicone-target-url",
    "cf-aig-skip-cache",
    "x-tenant",
]
CHANGES_NOTHING = [
    "Authorization",
    "api-key",
    "X-Api-Key",
    "x-portkey-api-key",
    "Helicone-Auth",
    "Cookie",
    "X-Amz-Security-Token",
    "Accept",
    "Content-Type",
    "Connection",
    "Host",
    "User-Agent",
    "X-Stainless-Lang",
    "anthropic-version",
    "traceparent",
    "x-request-id",
    "Helicone-Session-Id",
    "Idempotency-Key",
]


@pytest.mark.parametrize("name", ROUTES)
def test_what_can_change_who_answers_counts_by_name_and_value(name):
    [told] = routing({name: "value"})
    assert told.startswith(f"{name.lower()}: ")
    assert "value" not in told
    assert routing({name.upper(): b"value"}) == [told]
    assert routing({name: "another"}) != [told]


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_what_opens_a_door_travels_or_is_traced_does_not_count(name):
    assert routing({name: "value"}) == []


@given(st.dictionaries(st.text(), st.text() | st.binary() | st.none() | st.integers()) | st.none() | st.text())
def test_any_headers_are_read_in_any_order(headers):
    told = routing(headers)
    if isinstance(headers, dict) and len({name.lower() for name in headers}) == len(headers):
        assert routing(dict(reversed(headers.items()))) == told
