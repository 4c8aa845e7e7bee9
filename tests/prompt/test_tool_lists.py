"""In which order a set of tools is sent, going by those that were."""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from prefixcache_integrations.prompt.tool_lists import LISTS, ToolLists, tool_digests
from tests.prompt.words import WORDS

CHAT = OpenAIChat()
NAMES = st.sets(st.sampled_from("abcdefg"), min_size=1, max_size=6)
law = settings(max_examples=80)


def send(memory: PromptMemory, names: Any, agent: str = "Answer.") -> str:
    """Send a request with tools called ``names``, in this order, and return the order they were sent in."""
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]
    body = {
        "model": "gpt-4.1-mini",
        "tools": tools,
        "messages": [{"role": "system", "content": agent}, {"role": "user", "content": "Why?"}],
    }
    made = decide(CHAT.decode_request(body), resolve("gpt-4.1-mini"), WORDS, snapshot=memory.snapshot(0.0))
    assert made.sighting is not None
    memory.observe(made.sighting, 0.0)
    return "".join(tool.name for tool in made.request.tools)


def shared(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@law
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), NAMES), max_size=8), st.randoms(use_true_random=False))
def test_the_same_tools_in_any_order_are_sent_in_one(
    requests: list[tuple[str, set[str]]], shuffle: random.Random
) -> None:
    memory, other = PromptMemory(), PromptMemory()
    for agent, names in requests:
        shuffled = sorted(names)
        shuffle.shuffle(shuffled)
        assert send(memory, shuffled, agent) == send(other, sorted(names), agent)


@law
@given(st.lists(NAMES, min_size=1, max_size=8), NAMES)
def test_no_order_shares_more_with_what_was_sent(requests: list[set[str]], names: set[str]) -> None:
    lists = ToolLists()
    sent = []
    for each in requests:
        sent.append("".join(lists.order(each, b"")))
        lists.observe(tool_digests(tuple(sent[-1])), b"")
    chosen = "".join(lists.order(names, b""))
    assert sorted(chosen) == sorted(names)
    reached = max(shared(chosen, each) for each in sent)
    assert reached == max(len(list(itertools.takewhile(names.__contains__, each))) for each in sent)
    if names in requests:
        assert chosen == sent[requests.index(names)], "a set keeps its order"


@law
@given(st.permutations("abcdefg"), st.permutations("hijklmn"), st.lists(st.booleans(), min_size=14, max_size=14))
def test_two_agents_with_one_memory_each_add_at_the_end(one: list[str], two: list[str], turns: list[bool]) -> None:
    memory = PromptMemory()
    known = {"one": "", "two": ""}
    for is_first in turns:
        agent, names = ("one", one) if is_first else ("two", two)
        if len(known[agent]) == len(names):
            continue
        order = send(memory, reversed(names[: len(known[agent]) + 1]), agent)
        assert order.startswith(known[agent])
        known[agent] = order


def test_a_tool_that_another_agent_has_does_not_come_first() -> None:
    memory = PromptMemory()
    assert send(memory, "z", "one") == "z"
    assert send(memory, "a", "two") == "a"
    assert send(memory, "az", "one") == "za"
    assert send(memory, "az", "two") == "za", "the same tools share a prefix, whoever has them"


def test_a_tool_that_goes_leaves_those_before_it_where_they_were() -> None:
    memory = PromptMemory()
    send(memory, "cd")
    send(memory, "abcd")
    assert send(memory, "bcd") == "cdb"
    assert send(memory, "abd") == "dba"
    assert send(memory, "abcd") == "cdab"


def test_tools_of_one_name_stay_together_and_in_their_order() -> None:
    memory = PromptMemory()
    assert send(memory, "baab") == "aabb"
    assert send(memory, "abcab") == "aabbc"


def test_lists_are_bounded() -> None:
    lists = ToolLists()
    for number in range(LISTS * 2):
        lists.observe(tool_digests((f"tool {number}",)), b"")
    assert len(lists._lists) == LISTS
    assert lists.order(["x", f"tool {LISTS * 2 - 1}"], b"") == [f"tool {LISTS * 2 - 1}", "x"]
    assert lists.order(["x", "tool 0"], b"") == ["tool 0", "x"]
