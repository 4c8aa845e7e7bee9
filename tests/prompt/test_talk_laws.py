"""Laws of planning over conversations, turn by turn, with the memory of all turns before: what is sent is taken."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Level, PromptPlan, Request
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import CacheProfile, resolve
from prefixcache_integrations.prompt.layout import Decision, apply, decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.talks import chat_talks, claude_talks, faults, responses_talks
from tests.prompt.wire_rules import claude_markers, openai_markers
from tests.prompt.words import WORDS

FORMATS: list[tuple[Dialect, Any]] = [
    (AnthropicMessages(), claude_talks()),
    (OpenAIChat(), chat_talks()),
    (OpenAIResponses(), responses_talks()),
]
LEVELS = st.sampled_from(["mark", "canonical", "arrange", "arrange"])
MARKER_FIELDS = ("cache_control", "prompt_cache_breakpoint")

every_format = pytest.mark.parametrize(("dialect", "talks"), FORMATS, ids=["claude", "chat", "responses"])
law = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def profile_of(request: Request) -> CacheProfile:
    """The model's own rules, with a minimum that short texts reach."""
    return replace(resolve(request.model), minimum_tokens=32)


def sent(dialect: Dialect, talks: list[list[dict[str, Any]]], level: Level, *, remembers: bool) -> list[Decision]:
    """Plan every request of ``talks`` in turn."""
    memory, made = PromptMemory(), list[Decision]()
    for number, body in enumerate(body for talk in talks for body in talk):
        request = dialect.decode_request(body)
        snapshot = memory.snapshot(number * 7.0) if remembers else None
        found = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot)
        if found.sighting is not None:
            memory.observe(found.sighting, number * 7.0)
        made.append(found)
    return made


def bare(value: Any) -> Any:
    """Return ``value`` without markers, a text on its own as the block it is."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if key not in MARKER_FIELDS}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


def content(request: Request, plan: PromptPlan | None = None) -> Counter[str]:
    """Every block with the role of its message, but for instructions, which may be cut, notes, and what ``plan`` drops.

    A document that is there twice may be sent once.
    """
    dropped = {move.source for move in plan.moves if move.reason == "copy"} if plan else set()
    return Counter(
        json.dumps([message.role, part.text or bare(dict(part.raw)), [inner.text for inner in part.content]])
        for index, message in enumerate(request.messages)
        for number, part in enumerate(message.parts)
        if message.role not in {"system", "developer"}
        and not part.text.startswith("[value")
        and Address("messages", index, number) not in dropped
    )


@every_format
def test_what_the_provider_takes_it_takes_laid_out(dialect: Dialect, talks: Any) -> None:
    @law
    @given(st.lists(talks, min_size=1, max_size=3), LEVELS, st.booleans())
    def check(run: list[list[dict[str, Any]]], level: Level, remembers: bool) -> None:
        bodies = [body for talk in run for body in talk]
        before = copy.deepcopy(bodies)
        for body, made in zip(bodies, sent(dialect, run, level, remembers=remembers), strict=True):
            request = dialect.decode_request(body)
            profile = profile_of(request)
            result = dialect.encode_request(made.request)
            assert faults(dialect, bare(body), profile) == []
            assert faults(dialect, result, profile) == []
            assert len(claude_markers(result) if dialect.name == "anthropic_messages" else openai_markers(result)) <= 4
            assert apply(request, made.plan) == made.request
        assert bodies == before

    check()


@every_format
def test_nothing_said_is_lost_or_said_twice(dialect: Dialect, talks: Any) -> None:
    @law
    @given(st.lists(talks, min_size=1, max_size=3), LEVELS, st.booleans())
    def check(run: list[list[dict[str, Any]]], level: Level, remembers: bool) -> None:
        bodies = [body for talk in run for body in talk]
        for body, made in zip(bodies, sent(dialect, run, level, remembers=remembers), strict=True):
            request = dialect.decode_request(body)
            assert content(made.request) == content(request, made.plan)
            assert Counter(tool.name for tool in made.request.tools) == Counter(tool.name for tool in request.tools)
            fields = ("prompt_cache_options", "prompt_cache_key", "prompt_cache_retention", *MARKER_FIELDS)
            assert without(made.request.options, *fields) == without(request.options, *fields)
            if level != "arrange":
                assert made.plan.moves == ()
            if level == "mark":
                assert bare(texts(dialect.encode_request(made.request))) == bare(texts(body))

    check()


def texts(value: Any) -> Any:
    """Return ``value`` with each content that is one text as a list of that text."""
    if isinstance(value, dict):
        own = {key: inner for key, inner in value.items() if key not in {"prompt_cache_options", "prompt_cache_key"}}
        return {
            key: _listed(inner) if key in {"content", "system", "input", "output"} else texts(inner)
            for key, inner in own.items()
        }
    return [texts(inner) for inner in value] if isinstance(value, list) else value


def _listed(inner: Any) -> Any:
    if isinstance(inner, str):
        return [inner]
    if isinstance(inner, list) and len(inner) == 1 and set(inner[0]) - set(MARKER_FIELDS) == {"type", "text"}:
        return [inner[0]["text"]]
    return texts(inner)


@every_format
def test_planning_a_planned_turn_changes_nothing(dialect: Dialect, talks: Any) -> None:
    @law
    @given(st.lists(talks, min_size=1, max_size=3), LEVELS, st.booleans())
    def check(run: list[list[dict[str, Any]]], level: Level, remembers: bool) -> None:
        memory = PromptMemory()
        for number, body in enumerate(body for talk in run for body in talk):
            request = dialect.decode_request(body)
            profile = profile_of(request)
            snapshot = memory.snapshot(number * 7.0) if remembers else None
            made = decide(request, profile, WORDS, level=level, snapshot=snapshot)
            once = dialect.encode_request(made.request)
            again = decide(dialect.decode_request(once), profile, WORDS, level=level, snapshot=snapshot)
            assert json.dumps(dialect.encode_request(again.request)) == json.dumps(once)
            if made.sighting is not None:
                memory.observe(made.sighting, number * 7.0)

    check()


_PROGRAM = """
import hashlib, json
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.prompt.test_talk_laws import FORMATS, sent
plans = hashlib.sha256()
for dialect, talks in FORMATS:
    @seed(7)
    @settings(max_examples=5, database=None)
    @given(st.lists(talks, min_size=2, max_size=2))
    def plan_all(run):
        for made in sent(dialect, run, "arrange", remembers=True):
            plans.update(json.dumps(dialect.encode_request(made.request)).encode())
    plan_all()
print(plans.hexdigest())
"""


def test_every_process_lays_out_a_talk_the_same() -> None:
    outputs = {
        subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", _PROGRAM],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "42")
    }
    assert len(outputs) == 1
