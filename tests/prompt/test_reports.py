"""What is told of requests that were sent: planning by it is planning by them, and nothing of a prompt is in it."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Level, Request
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.reporting import RETOLD, Reporter
from prefixcache_integrations.prompt.reports import Report, packed, unpacked
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES
from tests.prompt.test_document_laws import law
from tests.prompt.test_foresight_laws import CLAUDE, LEVELS, LOOKED_UP, OpenAIChat, profile_of
from tests.prompt.words import WORDS

DATED = st.builds(
    lambda minute, question: {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": f"Be kind. It is 10:{minute}. " + "Go by the rules of the house. " * 30,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in ("zeta", "alpha")],
        "messages": [{"role": "user", "content": f"question {question}"}],
    },
    st.integers(10, 59),
    st.integers(0, 3),
)
RUNS = st.lists(st.tuples(st.one_of(LOOKED_UP, DATED), st.sampled_from(["", "tenant"])), min_size=1, max_size=6)


def told(
    dialect: Dialect, run: list[tuple[dict[str, Any], str]], level: Level, times: int = 3
) -> tuple[PromptMemory, list[Report]]:
    """A memory that has seen ``run``, and all that was told of it."""
    memory, reporter, reports = PromptMemory(), Reporter(), list[Report]()
    for number, (body, namespace) in enumerate(run * times):
        request, now = dialect.decode_request(body), 1e9 + number * 7.0
        snapshot = memory.snapshot(now, namespace)
        made = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot, namespace=namespace)
        if made.sighting is not None:
            memory.observe(made.sighting, now, namespace)
            reports.append(reporter.report(made.sighting, now, namespace))
    return memory, reports


def planned(request: Request, memory: PromptMemory, level: Level, namespace: str, now: float) -> tuple[Any, str]:
    snapshot = memory.snapshot(now, namespace)
    made = decide(request, profile_of(request), WORDS, level=level, snapshot=snapshot, namespace=namespace)
    return made.plan, json.dumps(CLAUDE.encode_request(made.request), default=repr)


@law
@given(RUNS, LEVELS)
def test_a_process_that_was_told_all_plans_as_the_one_that_sent_it(
    run: list[tuple[dict[str, Any], str]], level: Level
) -> None:
    memory, reports = told(CLAUDE, run, level)
    fresh, now = PromptMemory(), 1e9 + 500.0
    for report in unpacked(packed(reports)):
        fresh.learn(report, now)
    assert len(fresh) == len(memory)
    for body, _ in run:
        for namespace in ("", "tenant", "nobody"):
            request = CLAUDE.decode_request(body)
            assert planned(request, fresh, level, namespace, now) == planned(request, memory, level, namespace, now)


@pytest.mark.parametrize(("dialect", "bodies"), [(CLAUDE, CLAUDE_BODIES), (OpenAIChat(), CHAT_BODIES)])
def test_any_request_can_be_told_of(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(st.lists(bodies, min_size=1, max_size=3))
    def check(run: list[dict[str, Any]]) -> None:
        _, reports = told(dialect, [(body, "") for body in run], "arrange", times=2)
        assert unpacked(packed(reports)) == tuple(reports)

    check()


def test_nothing_of_a_prompt_or_a_tenants_name_is_told() -> None:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": "The secret instruction is a zebra. " * 100,
        "tools": [{"name": "secret_tool", "description": "zebra", "input_schema": {"type": "object"}}],
        "messages": [{"role": "user", "content": "a secret question about a zebra " * 100}],
    }
    _, reports = told(CLAUDE, [(body, "secret tenant")], "arrange")
    written = msgspec.msgpack.encode(reports)
    assert reports
    assert b"secret" not in written
    assert b"zebra" not in written


def test_a_text_that_stays_the_same_is_told_in_full_now_and_then() -> None:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": "Be kind. " * 200,
        "messages": [{"role": "user", "content": "a question"}],
    }
    bodies = [{**body, "messages": [{"role": "user", "content": f"question {each}"}]} for each in range(RETOLD + 2)]
    _, reports = told(CLAUDE, [(each, "") for each in bodies], "canonical", times=1)
    assert [number for number, report in enumerate(reports, start=1) if report.texts[0].pieces] == [1, RETOLD]


def test_what_comes_late_keeps_nothing_alive_for_less_long() -> None:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": "Be kind. " * 2000,
        "messages": [{"role": "user", "content": "a question"}],
    }
    _, reports = told(CLAUDE, [(body, "")], "canonical", times=1)
    memory = PromptMemory()
    memory.learn(replace(reports[0], at=1000.0), 1000.0)
    memory.learn(replace(reports[0], at=800.0), 1000.0)
    snapshot = memory.snapshot(1290.0)
    ends = [snapshot.continuations(0).get(reports[0].steps[0].key)]
    assert snapshot.alive(ends[0])


def test_a_clock_that_is_ahead_does_not_count() -> None:
    _, reports = told(
        CLAUDE,
        [({"model": "claude-opus-4-8", "max_tokens": 1, "messages": [{"role": "user", "content": "hi " * 99}]}, "")],
        "mark",
    )
    memory = PromptMemory()
    for at in (1e12, float("nan"), float("inf")):
        memory.learn(replace(reports[0], at=at), 1000.0)
    prefix = memory.snapshot(1000.0).continuations(0).get(reports[0].steps[0].key)
    assert memory.snapshot(1000.0).sent_within(prefix, 0.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"anything",
        packed([])[:-1],
        zlib.compress(b"anything"),
        zlib.compress(msgspec.msgpack.encode([2, "of another version"])),
        zlib.compress(msgspec.msgpack.encode([1, [[b"tenant", 0.0, [], [], [0, 0.0], [], b"", None, 3, []]]])),
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptEntry):
        unpacked(data)
