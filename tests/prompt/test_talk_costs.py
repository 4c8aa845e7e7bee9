"""Conversations about documents cost no more where these may move than where markers alone are set: the laws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Level
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.bills import FORMATS, bills, body
from tests.prompt.words import WORDS

law = settings(max_examples=25)
every_model = pytest.mark.parametrize("model", FORMATS)

SHAPES = st.fixed_dictionaries(
    {
        "count": st.integers(1, 6),
        "turns": st.integers(2, 7),
        "system": st.sampled_from([10, 500, 1100]),
        "pool": st.sampled_from([6, 30, 1000]),
        "seed": st.integers(0, 10_000),
    }
)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def document(number: int) -> dict[str, Any]:
    return text(f"<document>{number} {'fact ' * (150 + 50 * (number % 7))}</document>")


def asked(documents: Sequence[int], question: str) -> dict[str, Any]:
    return {"role": "user", "content": [*map(document, documents), text(question)]}


def appended(model: str, shape: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Conversations whose every turn brings documents, which stay in the history."""
    chance = Random(shape["seed"])  # noqa: S311 - a seeded run
    for talk in range(shape["count"]):
        messages = list[dict[str, Any]]()
        for turn in range(shape["turns"]):
            documents = chance.sample(range(shape["pool"]), chance.randint(0, 4))
            messages.append(asked(documents, f"why {talk} {turn}"))
            yield body(model, "brief " * shape["system"], messages)
            messages.append({"role": "assistant", "content": f"answer {talk} {turn} {'so ' * 20}"})


def led(model: str, shape: dict[str, int], change: str) -> Iterator[dict[str, Any]]:
    """Conversations whose first message has all documents: these grow, are replaced, or come in any order."""
    chance = Random(shape["seed"])  # noqa: S311 - a seeded run
    for talk in range(shape["count"]):
        history, documents = list[dict[str, Any]](), list[int]()
        for turn in range(shape["turns"]):
            found = chance.sample(range(shape["pool"]), chance.randint(0, 4))
            if change == "replaced":
                documents = found if turn % 3 == 0 else documents
            else:
                documents = list(dict.fromkeys([*documents, *found]))
            if change == "shuffled":
                chance.shuffle(documents)
            yield body(model, "brief " * shape["system"], [asked(documents, f"about {talk}"), *history])
            history.append({"role": "assistant", "content": f"answer {talk} {turn} {'so ' * 20}"})
            history.append({"role": "user", "content": [text(f"why {talk} {turn}")]})


def costs(requests: Sequence[dict[str, Any]], level: Level) -> list[float]:
    """Return the bill after each request, in uncached input tokens."""
    return list(accumulate(bill for bill, _ in bills(requests, level)))


def excess(requests: Sequence[dict[str, Any]]) -> float:
    """Return what `arrange` had cost more than `mark` at the worst time, in uncached prompts of the longest kind."""
    longest = max(WORDS.count(str(request)) for request in requests)
    pairs = zip(costs(requests, "arrange"), costs(requests, "mark"), strict=True)
    return max(arranged - marked for arranged, marked in pairs) / longest


@every_model
def test_turns_that_append_cost_at_most_one_prompt_more_in_all(model: str) -> None:
    """Which turn is the first to write is learned from what was sent: one may read what the other does not."""

    @law
    @given(SHAPES)
    def check(shape: dict[str, int]) -> None:
        assert excess(list(appended(model, shape))) <= 1

    check()


@every_model
def test_what_a_conversation_was_sent_with_is_sent_again_as_it_was(model: str) -> None:
    """Only what was never written may move, to where it can be read: none does here, as no two talks share documents."""

    @law
    @given(SHAPES)
    def check(shape: dict[str, int]) -> None:
        memory, before = PromptMemory(), list[list[str]]()
        for now, request in enumerate(appended(model, shape | {"pool": 10**9})):
            decoded, snapshot = FORMATS[model].decode_request(request), memory.snapshot(now)
            made = decide(decoded, resolve(model), WORDS, level="arrange", snapshot=snapshot)
            assert made.sighting is not None
            memory.observe(made.sighting, now)
            sent = [[part.text for part in message.parts] for message in made.request.messages]
            if now % shape["turns"]:
                assert sent[: len(before)] == before
            before = sent

    check()


@every_model
@pytest.mark.parametrize("change", ["grown", "replaced", "shuffled"])
def test_documents_that_change_in_front_cost_at_most_two_prompts_more_until_that_is_learned(
    model: str, change: str
) -> None:
    @law
    @given(SHAPES)
    def check(shape: dict[str, int]) -> None:
        assert excess(list(led(model, shape, change))) <= 2

    check()


@every_model
def test_documents_that_grow_in_front_are_read_where_markers_alone_read_nothing(model: str) -> None:
    shape = {"count": 10, "turns": 6, "system": 10, "pool": 1000, "seed": 3}
    requests = list(led(model, shape, "shuffled"))
    assert costs(requests, "arrange")[-1] < 0.7 * costs(requests, "mark")[-1]
