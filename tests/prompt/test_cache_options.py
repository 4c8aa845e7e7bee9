"""Cache settings that were made for another model."""

from __future__ import annotations

import pytest

from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import PromptPlan
from prefixcache_integrations.flows.prepare import prepare
from prefixcache_integrations.insight.simulator import refusal
from tests.prompt.words import Words

CHAT = {"messages": [{"role": "user", "content": "Why do cats purr?"}]}
RESPONSES = {"input": "Why do cats purr?"}


def laid_out(body: dict[str, object]) -> tuple[dict[str, object], PromptPlan]:
    dialect = dialects.by_name("openai_responses" if "input" in body else "openai_chat")
    result = prepare(body, dialect, profiles.resolve, Words())
    assert result.plan is not None
    request = dialect.decode_request(result.body)
    assert refusal(request, profiles.resolve(request.model)) is None
    again = prepare(result.body, dialect, profiles.resolve, Words())
    assert again.body == result.body
    assert again.plan is not None
    assert "option_removed" not in [finding.code for finding in again.plan.findings]
    return dict(result.body), result.plan


REFUSED = [
    ("gpt-4o-mini", CHAT, {"prompt_cache_options": {"mode": "explicit"}}, {}),
    ("gpt-5.5", RESPONSES, {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}}, {}),
    ("gpt-5.6-luna", CHAT, {"prompt_cache_options": {"mode": "implicit", "ttl": "12h"}}, {"prompt_cache_options": {"mode": "implicit"}}),
    ("gpt-5.6-luna", RESPONSES, {"prompt_cache_options": {"ttl": "99h"}}, {"prompt_cache_options": {}}),
    ("gpt-5.5", CHAT, {"prompt_cache_retention": "in_memory"}, {}),
    ("gpt-6-luna", RESPONSES, {"prompt_cache_retention": "in_memory"}, {}),
    ("gpt-4o-mini", CHAT, {"prompt_cache_retention": "24h"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "settings", "left"), REFUSED)
def test_a_setting_the_model_refuses_is_removed_and_said_to_be(model, body, settings, left):
    whole = {"model": model, **body, **settings}
    result, plan = laid_out(whole)
    assert result == {"model": model, **body, **left}
    assert [finding.code for finding in plan.findings if finding.code == "option_removed"] == ["option_removed"]
    assert whole == {"model": model, **body, **settings}


TAKEN = [
    ("gpt-5.6-luna", CHAT, {"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}),
    ("gpt-5.6-luna", RESPONSES, {"prompt_cache_options": {"mode": "implicit", "ttl": "12h"}}),
    ("gpt-5.6-luna", CHAT, {"prompt_cache_retention": "24h"}),
    ("gpt-5.1", CHAT, {"prompt_cache_retention": "24h"}),
    ("gpt-4o-mini", CHAT, {"prompt_cache_key": "shop"}),
]


@pytest.mark.parametrize(("model", "body", "settings"), TAKEN)
def test_a_setting_the_model_takes_stays(model, body, settings):
    whole = {"model": model, **body, **settings}
    assert laid_out(whole)[0] == whole


def test_an_unknown_models_settings_are_not_ours_to_judge():
    whole = {"model": "gpt-99", **CHAT, "prompt_cache_options": {"mode": "explicit"}}
    result = prepare(whole, dialects.by_name("openai_chat"), profiles.resolve, Words())
    assert result.body == whole
