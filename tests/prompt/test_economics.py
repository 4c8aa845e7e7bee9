"""What planning with a memory costs, by the simulator's bill, against planning every request on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.insight.simulator import CacheSettings, PromptCache
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()
PROFILE = replace(resolve("claude-opus-4-8"), minimum_tokens=64)
law = settings(max_examples=8)
both_counts = pytest.mark.parametrize("runs_are_one", [True, False], ids=["by position", "by block"])


def tool_turn(turn: str, calls: int, chance: Random) -> list[dict[str, Any]]:
    """The assistant's calls and the user's results."""
    uses = [{"type": "tool_use", "id": f"{turn}-{each}", "name": "look", "input": {"n": each}} for each in range(calls)]
    results = [
        {"type": "tool_result", "tool_use_id": f"{turn}-{each}", "content": "found " * chance.randint(5, 60)}
        for each in range(calls)
    ]
    return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def conversation(number: int, turns: list[int], chance: Random, system: str) -> Iterator[dict[str, Any]]:
    """Every request of an agent that makes so many parallel calls per turn."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"task {number} " * chance.randint(3, 40)}]
    for turn, calls in enumerate([*turns, 0]):
        yield {
            "model": "claude-opus-4-8",
            "max_tokens": 100,
            "tools": [{"name": "look", "description": "tool " * 70, "input_schema": {"type": "object"}}],
            "system": [{"type": "text", "text": system}],
            "messages": list(messages),
        }
        messages += tool_turn(f"{number}-{turn}", calls, chance)


def interleaved(conversations: list[Iterator[dict[str, Any]]], chance: Random) -> Iterator[tuple[int, dict[str, Any]]]:
    running = dict(enumerate(conversations))
    while running:
        number = chance.choice(sorted(running))
        body = next(running[number], None)
        if body is None:
            del running[number]
        else:
            yield number, body


def cost(
    calls: list[tuple[int, dict[str, Any]]],
    memory_of: Callable[[int], PromptMemory | None],
    *,
    runs_are_one: bool,
    pause: float,
) -> float:
    """Return the bill in uncached input tokens; ``memory_of`` gives the memory that plans the n-th request."""
    cache = PromptCache(WORDS, CacheSettings(tool_runs_are_one_position=runs_are_one))
    bill = 0.0
    for number, (_, body) in enumerate(calls):
        now, memory = number * pause, memory_of(number)
        snapshot = None if memory is None else memory.snapshot(now)
        made = decide(CLAUDE.decode_request(body), PROFILE, WORDS, snapshot=snapshot)
        if memory is not None and made.sighting is not None:
            memory.observe(made.sighting, now)
        ticket = cache.begin(made.request, PROFILE, scope="one", now=now)
        cache.started(ticket, now=now)
        bill += priced(ticket.usage)
    return bill


def priced(usage: Usage) -> float:
    by_ttl = usage.cache_write_by_ttl or {}
    extra = sum(tokens * (1.0 if name == "1h" else 0.25) for name, tokens in by_ttl.items())
    return usage.input_tokens - 0.9 * (usage.cache_read_tokens or 0) + extra


@both_counts
@pytest.mark.parametrize(
    ("workers", "restarts", "more"),
    [(1, False, 1.0), (1, True, 1.0), (3, False, 1.02)],
    ids=["one process", "one that restarts", "three processes"],
)
def test_agents_never_pay_more_for_a_memory(*, runs_are_one: bool, workers: int, restarts: bool, more: float) -> None:
    """Where conversations change processes, no memory sees all of one, and may leave the end of a turn unmarked."""

    @law
    @given(
        st.lists(st.lists(st.integers(1, 25), min_size=2, max_size=5), min_size=1, max_size=4),
        st.integers(0, 1000),
        st.sampled_from([0.0, 1.0, 7.0]),
    )
    def check(turns: list[list[int]], seed: int, pause: float) -> None:
        chance = Random(seed)  # noqa: S311 - a seeded run
        runs = [
            conversation(number, calls, chance, f"for user {seed % 2 * number} " + "be brief " * 80)
            for number, calls in enumerate(turns)
        ]
        calls = list(interleaved(runs, chance))
        memories = [PromptMemory() for _ in range(workers)]

        def memory_of(number: int) -> PromptMemory:
            if restarts and number % 5 == 0:
                memories[number % workers] = PromptMemory()
            return memories[chance.randrange(workers)]

        learned = cost(calls, memory_of, runs_are_one=runs_are_one, pause=pause)
        assert learned <= cost(calls, lambda _: None, runs_are_one=runs_are_one, pause=pause) * more + 1e-6

    check()
