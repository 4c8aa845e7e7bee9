"""What is told of conversations that a planner laid out, against the simulator's bill."""

from datetime import date
from random import Random

import pytest

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT
from prefixcache_integrations.events import DiagnosisFailed, Labels
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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("between", [True, False])
def test_a_request_is_compared_with_what_was_sent_and_not_with_what_its_call_was_taken_for(model, between):
    """A handler is told of a call before it is laid out: another request may come in between."""
    profile, dialect = resolve(model), MODELS[model]
    watch = Watch(WORDS, lambda: date(2026, 11, 21))
    said = [{"role": "user", "content": "brief " * 1200}]
    more = [{"role": "assistant", "content": "so it is"}, {"role": "user", "content": "why"}]
    marked = {"max_tokens": 9} if model.startswith("claude") else {"prompt_cache_options": {"mode": "explicit"}}
    taken_for, go_on = (
        dialect.decode_request({"model": model, **marked, "messages": each}) for each in (said, said + more)
    )
    sent = decide(taken_for, profile, WORDS, level="canonical")
    go_on = decide(go_on, profile, WORDS, level="canonical").request
    assert sent.plan.breakpoints

    first = watch.place(taken_for, 0.0, None)
    after = watch.place(go_on, 1.0, None) if between else None
    first = watch.place(sent.request, 0.0, None, instead_of=first, plan=sent.plan)
    after = after or watch.place(go_on, 1.0, None)
    first.begun = True

    found = watch.broken(after, profile, Usage(input_tokens=1203, cache_read_tokens=0), Labels())
    assert found.reason == "not_yet_readable"


class Broken:
    """A defect in whatever is asked of it."""

    def __getattr__(self, name):
        raise KeyError("what the prompt says")


def talk(turns):
    """Yield the requests of a conversation."""
    messages = []
    for number in range(turns):
        messages += [{"role": "user", "content": f"question {number}"}]
        fields = {"max_tokens": 9, "system": "brief " * 1200, "cache_control": {"type": "ephemeral"}}
        yield ANTHROPIC_MESSAGES.decode_request({"model": "claude-sonnet-5", "messages": messages, **fields})
        messages += [{"role": "assistant", "content": "so it is"}]


@pytest.mark.parametrize("part", ["_conversations", "_explainer", "_tokenizer"])
def test_a_defect_costs_an_explanation_and_no_request(events, part):
    watch, profile = Watch(WORDS, lambda: date(2026, 11, 21), [events.append]), resolve("claude-sonnet-5")
    first, second, third = talk(3)
    watch.place(first, 0, "s").begun = True
    turn = watch.place(second, 1, "s")
    setattr(watch, part, Broken())

    assert watch.changes(third, profile, 10, at=2, session="s") == ()
    watch.place(third, 2, "s")
    assert watch.broken(turn, profile, Usage(), Labels()) is None
    assert watch.runs(turn, profile) == () or part != "_tokenizer"
    watch.withdraw(turn)

    assert events
    assert all(event == DiagnosisFailed(error="KeyError", model="claude-sonnet-5") for event in events)


def test_what_is_no_longer_remembered_is_no_longer_read():
    watch, profile = Watch(WORDS, lambda: date(2026, 11, 21)), resolve("claude-sonnet-5")
    for number, request in enumerate(talk(12)):
        turn = watch.place(request, number, "s")
        turn.begun = True
        watch.broken(turn, profile, Usage(), Labels())

    kept = {id(turn.request) for turn in watch._conversations._turns["session:s"]}
    assert watch._explainer._readings.keys() == kept
