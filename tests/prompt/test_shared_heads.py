"""What several conversations begin with is written when the second of them shows where they part, by the bill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prefixcache_integrations.canonical import Level
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bills import Sent, billed
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()
THINKS: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 2000,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}
"""With it a value cannot be said at the end: a block of instructions is cut before it instead."""

TURNS = 3


def talks(*, in_blocks: bool, count: int = 5) -> Iterator[Sent]:
    """Conversations one after the other, whose instructions have each another value behind what all share."""
    for talk in range(count):
        shared, own = "be brief " * 800 + "\n", f"The city of the user is town{talk * 7919}.\n" + "be kind " * 100
        texts = [shared, own] if in_blocks else [shared + own]
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"talk {talk} " + "word " * 100}]
        for turn in range(TURNS):
            system = [{"type": "text", "text": each} for each in texts]
            yield Sent(talk * 60.0 + turn * 10, {**THINKS, "system": system, "messages": list(messages)})
            messages += [{"role": "assistant", "content": "so " * 50}, {"role": "user", "content": f"and {turn}"}]


def by_talk(*, in_blocks: bool, level: Level) -> list[float]:
    """Return what each conversation costs beside the first one."""
    costs = [bill.cost for bill in billed(talks(in_blocks=in_blocks), level)]
    sums = [sum(costs[start : start + TURNS]) for start in range(0, len(costs), TURNS)]
    return [each / sums[0] for each in sums]


@pytest.mark.parametrize("level", ["mark", "canonical", "arrange"])
def test_a_block_that_all_conversations_share_is_written_by_the_second_of_them(level: Level) -> None:
    _, second, *others = by_talk(in_blocks=True, level=level)
    assert second == pytest.approx(1, abs=0.01)
    assert max(others) < 0.5


def test_what_a_block_is_cut_behind_is_written_by_the_conversation_that_cuts_it() -> None:
    *_, third, fourth, fifth = by_talk(in_blocks=False, level="arrange")
    assert third > 0.9
    assert max(fourth, fifth) < 0.5


def test_a_block_behind_which_a_value_changes_is_marked_where_nothing_was_sent_with_it_yet() -> None:
    """The values were seen in instructions of one block, and now these come in two."""
    memory, requests = PromptMemory(), [*talks(in_blocks=False, count=4), *list(talks(in_blocks=True))[-TURNS:]]
    profile, now = resolve(THINKS["model"]), 0.0
    for now, body in requests[:-TURNS]:
        sent = CLAUDE.decode_request(body)
        made = decide(sent, profile, WORDS, level="mark", snapshot=memory.snapshot(now))
        assert made.sighting is not None
        memory.observe(made.sighting, now)
    apart = CLAUDE.decode_request(requests[-TURNS].body)
    made = decide(apart, profile, WORDS, level="mark", snapshot=memory.snapshot(now))
    assert [row.at.index for row in made.plan.breakpoints if row.at.section == "system"] == [0, 1]
