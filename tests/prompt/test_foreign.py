"""Markers and settings of another provider's cache, as an application sends them after a fallback."""

from typing import Any

import pytest

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import DialectName
from prefixcache_integrations.insight.simulator import refusal
from prefixcache_integrations.profiles import Provider, resolve
from prefixcache_integrations.prompt.layout import apply, plan
from tests.prompt.words import WORDS

CLAUDE_S = {"cache_control": {"type": "ephemeral"}}
OPENAI_S = {"prompt_cache_breakpoint": {"mode": "explicit"}}
SETTINGS = {"prompt_cache_key": "ours", "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "explicit"}}


def chat(model: str, **marker: Any) -> dict[str, Any]:
    said = [{"role": role, "content": [{"type": "text", "text": role, **marker}]} for role in ("system", "user")]
    return {"model": model, "messages": said, **marker}


def responses(model: str, **marker: Any) -> dict[str, Any]:
    return {"model": model, "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", **marker}]}]}


def messages(model: str, **marker: Any) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x", **marker}], **marker}
    said = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", **marker}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}, **marker}]},
        {"role": "user", "content": [result]},
    ]
    system = [{"type": "text", "text": "Be kind.", **marker}]
    return {"model": model, "max_tokens": 9, "system": system, "messages": said, **(SETTINGS if marker else {})}


BODIES = {
    "claude's at openai": ("openai_chat", "openai", chat("gpt-4o-mini"), chat("gpt-4o-mini", **CLAUDE_S)),
    "claude's at newer openai": ("openai_chat", "openai", chat("gpt-5.6-sol"), chat("gpt-5.6-sol", **CLAUDE_S)),
    "claude's at azure": ("openai_chat", "azure", chat("ours"), chat("ours", **CLAUDE_S)),
    "claude's in responses": ("openai_responses", "openai", responses("gpt-5.5"), responses("gpt-5.5", **CLAUDE_S)),
    "openai's at claude": (
        "anthropic_messages",
        "anthropic",
        messages("claude-opus-5"),
        messages("claude-opus-5", **OPENAI_S),
    ),
}


@pytest.mark.parametrize(("name", "provider", "bare", "marked"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("level", ["mark", "canonical", "arrange"])
def test_what_is_another_provider_s_is_taken_out_and_told(
    name: DialectName, provider: Provider, bare: Any, marked: Any, level: Any
) -> None:
    dialect, profile = dialects.by_name(name), resolve(marked["model"], provider)
    request = dialect.decode_request(marked)
    made = plan(request, profile, WORDS, level=level)
    sent = apply(request, made)

    assert refusal(request, profile) is not None
    assert refusal(sent, profile) is None
    assert dialect.encode_request(sent) == bare
    assert "marker_removed" in [finding.code for finding in made.findings]
    assert apply(sent, plan(sent, profile, WORDS, level=level)) == sent


def test_a_router_that_speaks_openai_s_format_gets_claude_s_markers() -> None:
    body = chat("anthropic/claude-sonnet-4-6", **CLAUDE_S)
    dialect = dialects.by_name("openai_chat")
    for model in ("anthropic/claude-sonnet-4-6", "gpt-5.6-sol"):
        profile = resolve(model, "openai", "https://openrouter.ai/api/v1")
        request = dialect.decode_request({**body, "model": model})
        assert dialect.encode_request(apply(request, plan(request, profile, WORDS))) == {**body, "model": model}
