"""What a provider takes it takes laid out, too: instructions and questions in which little is said, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.insight.simulator import refusal
from prefixcache_integrations.profiles import CacheProfile, resolve
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, KnownText, Slot
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

law = settings(max_examples=150)
_SAID = ["", " ", "\n", "Help ", "It is ", "Be kind. ", "word " * 30 + ". ", "One line.\nAnother one. "]
_FILLED_IN = ["", "", " ", "\n", "Ann", "2026-01-05 08:17:23", "10:05:33", "[value1] x", "<document>x</document>"]
_TEXT = st.lists(st.tuples(st.sampled_from(_SAID), st.sampled_from(["", "value", "documents"])), min_size=1, max_size=4)
_QUESTION = st.sampled_from(["Well?", " ", "\n", "<document>one</document>"])
_CLAUDE_SETTINGS = st.sampled_from(
    [{}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"cache_control": {"type": "ephemeral"}}]
)


def claude(system: list[str], question: str, model: str, more: dict[str, Any]) -> dict[str, Any]:
    blocks = [{"type": "text", "text": text} for text in system if text.strip()]
    messages = [{"role": "user", "content": question}]
    return {"model": model, "max_tokens": 2000, "system": blocks, "messages": messages, **more}


def chat(system: list[str], question: str, model: str, more: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "system", "content": text} for text in system]
    return {"model": model, "messages": [*messages, {"role": "user", "content": question}], **more}


FORMATS: list[Any] = [
    (AnthropicMessages(), claude, ["claude-haiku-4-5", "claude-opus-4-8"], _CLAUDE_SETTINGS),
    (OpenAIChat(), chat, ["gpt-4o-mini", "gpt-5.6-sol"], st.just({})),
]


def profile_of(request: Request) -> CacheProfile:
    return replace(resolve(request.model), minimum_tokens=8)


def filled_in(form: list[tuple[str, Any]], values: list[str]) -> KnownText:
    text, slots = "", list[Slot]()
    for (said, kind), value in zip(form, values, strict=False):
        text += said
        if kind:
            slots.append(Slot(name="it", start=len(text), end=len(text) + len(value), kind=kind))
            text += value
    return KnownText(text, tuple(slots))


@pytest.mark.parametrize(("dialect", "build", "models", "more"), FORMATS, ids=["claude", "chat"])
def test_no_request_is_refused_that_would_not_be_as_it_came(
    dialect: Dialect, build: Any, models: list[str], more: Any
) -> None:
    values = st.lists(st.sampled_from(_FILLED_IN), min_size=4, max_size=4)
    calls = st.lists(st.tuples(values, values, _QUESTION), min_size=1, max_size=5)

    @law
    @given(st.tuples(_TEXT, _TEXT), calls, st.sampled_from(models), more, st.booleans())
    def check(forms: Any, said: Any, model: str, settings_: dict[str, Any], told: bool) -> None:
        memory, (one, other) = PromptMemory(), forms
        for number, (first, second, question) in enumerate(said):
            texts = (filled_in(one, first), filled_in(other, second))
            body = build([each.text for each in texts], question, model, settings_)
            request, before = dialect.decode_request(body), json.dumps(body)
            profile, snapshot = profile_of(request), memory.snapshot(number * 9.0)
            known = KnownPrompt(texts) if told else NOTHING_KNOWN
            made = decide(request, profile, WORDS, level="arrange", snapshot=snapshot, known=known)
            sent = dialect.encode_request(made.request)
            if refusal(request, profile) is None:
                assert refusal(dialect.decode_request(sent), profile) is None
            assert json.dumps(body) == before
            if made.sighting is not None:
                memory.observe(made.sighting, number * 9.0)

    check()
