"""Thinking that some models no longer read: its loss is told as what it is, and nothing else is."""

import json
from itertools import pairwise

import pytest

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES
from prefixcache_integrations.insight.diagnosis import Explainer, explain
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.insight.verdict import Verdict
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.tokens import EstimateTokenizer

TOKENS = EstimateTokenizer()
DROPS, KEEPS = "claude-sonnet-4-5", "claude-sonnet-4-6"
LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
MARK = {"cache_control": {"type": "ephemeral"}}


def thinking(number):
    return {"type": "thinking", "thinking": f"Thought {number}: let me look that up for them.", "signature": "s"}


def user(text):
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def turn(number, *, tool=True):
    """Return what an agent and its user add: thinking, a tool call, its result, an answer, a question."""
    call = {"type": "tool_use", "id": f"t{number}", "name": "find", "input": {"order": number}}
    result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": f"order {number} is on its way"}
    used = [
        {"role": "assistant", "content": [thinking(number), {"type": "text", "text": "One moment."}, call]},
        {"role": "user", "content": [result]},
    ]
    answer = {"role": "assistant", "content": [thinking(-number), {"type": "text", "text": "It comes tomorrow."}]}
    return [*(used if tool else ()), answer, user(f"And order {number}?")]


def request(model, messages):
    *before, last = json.loads(json.dumps(messages))
    last["content"][-1] |= MARK
    body = {
        "model": model,
        "max_tokens": 9,
        "tools": [{"name": "find", "input_schema": {"type": "object"}}],
        "system": [{"type": "text", "text": LONG, **MARK}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [*before, last],
    }
    return ANTHROPIC_MESSAGES.decode_request(body)


def talk(model, *, tool=True, turns=4):
    """Return one request for each time the model is asked, also after each of its tool calls."""
    messages, sent = [user("Where is my order?")], []
    for number in range(1, turns):
        sent.append(request(model, messages))
        added = turn(number, tool=tool)
        if tool:
            sent.append(request(model, messages + added[:2]))
        messages = messages + added
    return [*sent, request(model, messages)]


def told(requests, *, known=True):
    """Return what is said before and after each request is sent, and what the simulator read of it."""
    cache, profile, explainer, found = PromptCache(TOKENS), resolve(requests[0].model), Explainer(TOKENS), []
    for number, (previous, current) in enumerate(pairwise([None, *requests])):
        ticket = cache.begin(current, profile, scope="", now=number)
        cache.started(ticket, now=number)
        if previous is None:
            continue
        explainer = explainer if known else Explainer(TOKENS)
        said = explainer.explain(previous, current, profile=profile, elapsed=1.0)
        settled = explain(previous, current, profile=profile, tokenizer=TOKENS, elapsed=1.0, usage=ticket.usage)
        assert said.readable_tokens == settled.readable_tokens == ticket.usage.cache_read_tokens
        assert (said.reason, said.divergence, said.lost_tokens) == (
            settled.reason,
            settled.divergence,
            settled.lost_tokens,
        )
        found.append(said)
    return found


@pytest.mark.parametrize("known", [True, False])
def test_what_a_model_no_longer_reads_is_named_with_its_place_and_its_tokens(known):
    found = told(talk(DROPS), known=known)

    assert [said.reason for said in found] == [None, "thinking_dropped"] * 3
    first, second, third = (said for said in found if said.reason)
    assert [said.divergence.path for said in (first, second, third)] == [
        "messages[1].content[0]",
        "messages[5].content[0]",
        "messages[9].content[0]",
    ]
    assert all(said.broken for said in (first, second, third))
    assert "Opus 4.5" in first.remedy


@pytest.mark.parametrize(("model", "tool"), [(KEEPS, True), (KEEPS, False), (DROPS, False)])
@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_lost_where_it_is_kept_or_was_never_cached(model, tool, known):
    assert [said.reason for said in told(talk(model, tool=tool), known=known)] == [None] * (6 if tool else 3)


def bare(sent):
    messages = ANTHROPIC_MESSAGES.encode_request(sent)["messages"]
    kept = [
        {**each, "content": [block for block in each["content"] if block["type"] != "thinking"]} for each in messages
    ]
    return request(sent.model, kept)


@pytest.mark.parametrize("known", [True, False])
def test_an_app_may_leave_out_what_the_model_does_not_read(known):
    sent = talk(DROPS, tool=False)

    assert [said.reason for said in told([*sent[:2], *map(bare, sent[2:])], known=known)] == [None] * 3
    kept = talk(KEEPS, tool=False)
    changed = told([*kept[:2], *map(bare, kept[2:])], known=known)
    assert [said.reason for said in changed] == [None, "history_rewritten", None]


@pytest.mark.parametrize(
    ("index", "block", "reason", "path"),
    [
        (2, 0, "thinking_dropped", "messages[1].content[0]"),
        (1, 1, "thinking_dropped", "messages[1].content[0]"),
        (0, 0, "history_rewritten", "messages[0].content[0].text"),
    ],
)
def test_the_earlier_one_of_two_differences_is_told(index, block, reason, path):
    sent = talk(DROPS)
    body = ANTHROPIC_MESSAGES.encode_request(sent[2])
    key = "text" if body["messages"][index]["content"][block]["type"] == "text" else "content"
    body["messages"][index]["content"][block][key] = "Something else."
    *_, said = told([*sent[:2], ANTHROPIC_MESSAGES.decode_request(body)])

    assert (said.reason, said.divergence.path) == (reason, path)


def test_places_count_the_thinking_that_was_sent():
    sent = talk(DROPS, tool=False)
    body = ANTHROPIC_MESSAGES.encode_request(sent[3])
    body["messages"][1]["content"][1]["text"] = "It comes today."
    *_, said = told([*sent[:3], ANTHROPIC_MESSAGES.decode_request(body)])

    assert (said.reason, said.divergence.path, said.divergence.offset) == (
        "history_rewritten",
        "messages[1].content[1].text",
        9 + len("to"),
    )


def test_a_provider_that_compares_what_is_sent_does_not_disagree():
    _, previous, current, *_ = talk(DROPS)
    same = Verdict(outcome="same", reason=None, compared_with="msg")
    said = explain(previous, current, profile=resolve(DROPS), tokenizer=TOKENS, verdict=same)

    assert said.reason == "thinking_dropped"
    assert said.disagreement is None
