import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.profiles import resolve, rows


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_stem_and_its_dated_names_find_their_own_row(row):
    for stem in row.models:
        for suffix in ("", "-latest", "-20991231", "-2099-12-31", "@20991231"):
            assert resolve(stem + suffix, row.provider) is row


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("us.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("us-gov.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-5-5", "claude-opus-5-5"),
        ("bedrock_converse:anthropic.claude-opus-5", "claude-opus-5"),
        ("anthropic:claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("anthropic/claude-opus-4.5", "claude-opus-4-5"),
        ("publishers/anthropic/models/claude-fable-5-1", "claude-fable-5-1"),
        ("Claude-Opus-5-5", "claude-opus-5-5"),
        ("gpt-5", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-chat-latest", "gpt-5"),
        ("gpt-5.5", "gpt-5.5"),
        ("gpt-5.5-pro-2026-04-23", "gpt-5.5-pro"),
        ("gpt-5.6", "gpt-5.6-sol"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4.1", "gpt-4.1"),
        ("o3", "o3"),
        ("openai/gpt-6.1-sol", "gpt-6.1-sol"),
        ("openai:gpt-6.1-terra", "gpt-6.1-terra"),
        ("ft:gpt-4o-mini-2024-07-18:my-org::abc123", "gpt-4o-mini"),
        ("openai/ft:gpt-4.1-2025-04-14:my-org:suffix:abc123", "gpt-4.1"),
        ("gpt-4o-2024-08-06.ft-0123456789abcdef", "gpt-4o"),
    ],
)
def test_a_name_finds_its_row_however_it_is_spelled(model, name):
    found = resolve(model)

    assert (found.name, found.known) == (name, True)


@pytest.mark.parametrize(
    ("model", "provider", "regime"),
    [
        ("claude-opus-4-9", "anthropic", "breakpoints"),
        ("claude-sonnet-4-55", "anthropic", "breakpoints"),
        ("claude-next", "anthropic", "breakpoints"),
        ("gpt-5.10", "openai", "intervals"),
        ("gpt-5.55", "openai", "intervals"),
        ("gpt-4o-audio-preview", "openai", "intervals"),
        ("gpt-7", "openai", "intervals"),
        ("o9-mini", "openai", "intervals"),
        ("gpt-oss-120b", "unknown", "none"),
        ("llama3:8b", "unknown", "none"),
        ("deepseek-chat", "unknown", "none"),
        ("o1js", "unknown", "none"),
        ("", "unknown", "none"),
    ],
)
def test_a_model_without_a_row_gets_its_providers_stand_in(model, provider, regime):
    found = resolve(model)

    assert (found.known, found.provider, found.regime, found.prices) == (False, provider, regime, ())


def test_the_stand_in_for_claude_promises_least():
    found = resolve("claude-next")

    assert (found.minimum_tokens, found.max_breakpoints, found.tool_runs_are_one_position) == (4096, 4, False)
    assert found.strips_thinking
    assert found.tokenizer_uncertainty == max(row.tokenizer_uncertainty for row in rows())


def test_a_fine_tuned_model_has_its_bases_cache_and_not_its_price():
    tuned, base = resolve("ft:gpt-4o-mini-2024-07-18:my-org::abc123"), resolve("gpt-4o-mini")

    assert base.prices
    assert tuned.prices == ()
    assert (tuned.regime, tuned.increment, tuned.lifetimes) == (base.regime, base.increment, base.lifetimes)


def test_a_deployments_name_says_nothing_unless_it_is_a_models():
    assert resolve("support-bot", provider="azure").known is False
    assert resolve("support-bot", provider="azure").provider == "azure"
    assert resolve("gpt-5.4", provider="azure").name == "azure/gpt-5.4"
    assert resolve("gpt-35-turbo", provider="azure").regime == "none"


def test_a_given_provider_is_believed():
    assert resolve("claude-opus-5-5", provider="openai").name == "unknown-openai"
    assert resolve("my-proxy-model", provider="anthropic").name == "unknown-claude"


@given(st.text(max_size=40), st.sampled_from([None, "anthropic", "openai", "azure", "unknown"]))
def test_no_name_raises(model, provider):
    assert resolve(model, provider).known in (True, False)


@given(st.sampled_from(["claude", "gpt", "o1", "ft:", "anthropic.", "/", ":", "-", ".", "5", "20250101", "@"]).map(str))
def test_no_half_a_name_raises(piece):
    assert resolve(piece * 3).name
