"""What is told of conversations that a planner laid out, against the simulator's bill."""

from datetime import date
from random import Random

import pytest

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.insight.watch import Watch
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

MODELS = {"claude-sonnet-5": ANTHROPIC_MESSAGES, "gpt-5.6-sol": OPENAI_CHAT}


def chats(model):
    """Yield the name and body of each request: every question brings documents that some others bring, too."""
    chance = Random(1)  # noqa: S311 - a seeded run
    documents = [f"<document>{number} {chance.random()} {'fact ' * 200}</document>" for number in range(12)]
    for chat in range(8):
        messages = []
        for turn in range(5):
            texts = [*chance.sample(documents, chance.choice([1, 2, 3])), f"why {chat} {turn}"]
            messages.append({"role": "user", "content": [{"type": "text", "text": text} for text in texts]})
            instructions = "brief " * 1200
            if model.startswith("claude"):
                yield str(chat), {"max_tokens": 9, "system": instructions, "messages": list(messages)}
            else:
                yield str(chat), {"messages": [{"role": "system", "content": instructions}, *messages]}
            messages.append({"role": "assistant", "content": f"so it is {turn}"})


def breaks(model, *, told_the_plan):
    profile, dialect = resolve(model), MODELS[model]
    cache, memory, watch = PromptCache(WORDS), PromptMemory(), Watch(WORDS, lambda: date(2026, 11, 21))
    found = []
    for now, (chat, body) in enumerate(chats(model)):
        request = dialect.decode_request({"model": model, **body})
        made = decide(request, profile, WORDS, level="canonical", snapshot=memory.snapshot(now))
        memory.observe(made.sighting, now)
        turn = watch.place(made.request, now, chat, plan=made.plan if told_the_plan else None)
        ticket = cache.begin(made.request, profile, scope="one", now=now)
        cache.started(ticket, now=now)
        turn.begun = True
        found.append(watch.broken(turn, profile, ticket.usage, Labels()))
    return [event.reason for event in found if event is not None]


@pytest.mark.parametrize("model", MODELS)
def test_a_marker_that_a_planner_left_out_for_its_price_is_not_missing(model):
    assert breaks(model, told_the_plan=True) == []
    assert set(breaks(model, told_the_plan=False)) == {"marker_missing"}
