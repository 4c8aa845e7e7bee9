"""Turns of one conversation, metered from their bodies: what is looked at of each, and what is seen of the app's lists."""

import copy

import pytest

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import Labels
from prefixcache_integrations.metering import Meter
from tests.prompt.words import WORDS

LONG = "The parcel leaves the warehouse in the evening. " * 40
MARK = {"cache_control": {"type": "ephemeral"}}


class Counting:
    name, exact = "counting", True

    def __init__(self):
        self.counted = []

    def encode(self, text):
        return WORDS.encode(text)

    def count(self, text):
        self.counted.append(text)
        return WORDS.count(text)


def claude(history, **fields):
    messages = copy.deepcopy(history)
    messages[-1]["content"][-1].update(MARK)
    return {"model": "claude-sonnet-4-6", "max_tokens": 9, "system": LONG * 3, **fields, "messages": messages}


def turn(number):
    roles = ("user", "assistant")
    return {"role": roles[number % 2], "content": [{"type": "text", "text": f"{LONG} Number {number}."}]}


def send(meter, body):
    call = meter.send(dialects.ANTHROPIC_MESSAGES, body, "anthropic", labels=Labels(session="s"))
    return call.answered(Usage()).broken


@pytest.mark.parametrize("made_anew", [True, False])
def test_an_ordinary_turn_counts_only_what_it_adds(made_anew):
    tokenizer = Counting()
    meter = Meter(tokenizer=tokenizer, diagnose=True)
    history = [turn(number) for number in range(101)]
    for _ in range(3):
        assert send(meter, claude(history)) is None
        history = copy.deepcopy(history) if made_anew else history
        history += [turn(len(history)), turn(len(history) + 1)]
    tokenizer.counted.clear()

    assert send(meter, claude(history)) is None
    assert tokenizer.counted == [f"{LONG} Number {number}." for number in (105, 106)]


def test_a_break_counts_only_what_was_not_counted_before():
    tokenizer = Counting()
    meter = Meter(tokenizer=tokenizer, diagnose=True)
    history = [turn(number) for number in range(101)]
    for _ in range(2):
        assert send(meter, claude(history)) is None
        history += [turn(len(history)), turn(len(history) + 1)]
    history[50]["content"][0]["text"] = "Something else."
    tokenizer.counted.clear()
    broken = send(meter, claude(history))

    assert (broken.reason, broken.path) == ("history_rewritten", "messages[50].content[0].text")
    # Number 102 was marked, and is no longer.
    assert set(tokenizer.counted) <= {LONG * 3, "Something else.", *(f"{LONG} Number {n}." for n in range(102, 105))}


def test_an_app_that_edits_its_own_messages_is_told_of_it():
    meter = Meter(tokenizer=WORDS, diagnose=True)
    history = [turn(number) for number in range(5)]
    body = {"model": "claude-sonnet-4-6", "max_tokens": 9, "system": LONG * 3, "messages": history, **MARK}
    assert send(meter, body) is None
    history += [turn(5), turn(6)]
    assert send(meter, body) is None
    history[0]["content"][0]["text"] = "[cleared]"
    history += [turn(7), turn(8)]
    broken = send(meter, body)

    assert (broken.reason, broken.path) == ("history_rewritten", "messages[0].content[0].text")
