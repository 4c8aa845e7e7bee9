"""Laws of what an application allows to be done with its documents, over runs of requests that share them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from prefixcache_integrations.canonical import Part, Request
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.documents import movable
from prefixcache_integrations.prompt.layout import Decision, apply, decide, plan
from prefixcache_integrations.prompt.moves import moved, moves_for
from prefixcache_integrations.prompt.reading import NOTHING_READ, Begun, Reading, in_order, read
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.test_foresight_laws import CLAUDE, LOOKED_UP, profile_of
from tests.prompt.wire_rules import claude_faults
from tests.prompt.words import WORDS

law = settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
RULES = st.builds(
    DocumentRules,
    move=st.sampled_from([True, True, True, False]),
    keep_top=st.sampled_from([0, 0, 1, 2, 9]),
    max_distance=st.sampled_from([1.0, 1.0, 0.5, 0.2, 0.0]),
    drop_copies=st.booleans(),
    ranking_note=st.booleans(),
)
RUNS = st.lists(LOOKED_UP, min_size=2, max_size=5)


def remembered(bodies: list[dict[str, Any]], rules: DocumentRules) -> PromptMemory:
    memory = PromptMemory()
    for number, body in enumerate(bodies * 4):
        made = arranged(body, memory, rules, number * 10.0)
        assert made.sighting is not None
        memory.observe(made.sighting, number * 10.0)
    return memory


def arranged(body: dict[str, Any], memory: PromptMemory, rules: DocumentRules, now: float = 1000.0) -> Decision:
    request = CLAUDE.decode_request(body)
    snapshot = memory.snapshot(now)
    return decide(request, profile_of(request), WORDS, level="arrange", snapshot=snapshot, documents=rules)


def is_document(part: Part) -> bool:
    return part.kind == "document" or part.text.startswith("<document")


def documents(request: Request) -> list[list[str]]:
    """The documents of each message of the user's, in order."""
    spoken = [message for message in request.messages if message.role == "user"]
    return [[json.dumps(part.raw) for part in message.parts if is_document(part)] for message in spoken]


def content(request: Request) -> Counter[str]:
    parts = [(message.role, part) for message in request.messages for part in message.parts]
    return Counter(json.dumps([role, part.raw]) for role, part in parts if not part.text.startswith("[ranking] "))


def inverted(before: list[str], after: list[str]) -> Iterator[bool]:
    order = [each for each in after if each in before]
    for one, other in combinations(before, 2):
        yield order.index(one) > order.index(other)


@law
@given(RUNS, RULES)
def test_only_listed_copies_are_left_out(bodies: list[dict[str, Any]], rules: DocumentRules) -> None:
    memory = remembered(bodies, rules)
    for body in bodies:
        request = CLAUDE.decode_request(body)
        made = arranged(body, memory, rules)
        gone = [move for move in made.plan.moves if move.reason == "copy"]
        left = Counter[str]()
        for move in gone:
            parts = [request.messages[at.index].parts[at.part or 0] for at in (move.source, move.target)]
            assert parts[0].raw == parts[1].raw
            assert move.target < move.source
            beside = request.messages[move.source.index].parts
            assert any(part.kind == "text" and not is_document(part) for part in beside)
            left[json.dumps(["user", parts[0].raw])] += 1
        assert content(made.request) == content(request) - left
        assert not gone or rules.drop_copies
        assert all(message.parts for message in made.request.messages)
        assert claude_faults(CLAUDE.encode_request(made.request)) == []


@law
@given(RUNS, RULES)
def test_documents_keep_their_order_as_far_as_it_was_asked(bodies: list[dict[str, Any]], rules: DocumentRules) -> None:
    memory = remembered(bodies, rules)
    for body in bodies:
        before = documents(CLAUDE.decode_request(body))
        after = documents(arranged(body, memory, rules).request)
        flat = [each for together in after for each in together]
        came = [each for together in before for each in together]
        if len(set(came)) == len(came):
            wrong = list(inverted(came, flat))
            assert sum(wrong) <= rules.max_distance * len(wrong)
        if not rules.move and not rules.drop_copies:
            assert after == before
        for given_, sent in zip(before, after, strict=True):
            if len(set(given_)) < len(given_) or any(flat.count(each) > 1 for each in given_):
                continue  # which of two equal ones went where cannot be told
            if sum(each in together for each in given_ for together in before) > len(given_):
                continue
            wrong = list(inverted(given_, flat))
            assert sum(wrong) <= rules.max_distance * len(wrong)
            assert sent[: rules.keep_top] == given_[: rules.keep_top]
            if rules.keep_top:
                assert sorted(sent) == sorted(given_)


@law
@given(RUNS, RULES)
def test_planning_what_was_planned_moves_drops_and_says_nothing_more(
    bodies: list[dict[str, Any]], rules: DocumentRules
) -> None:
    memory = remembered(bodies, rules)
    for body in bodies:
        request = CLAUDE.decode_request(body)
        profile, snapshot = profile_of(request), memory.snapshot(1000.0)
        made = arranged(body, memory, rules)
        assert apply(request, made.plan) == made.request
        again = CLAUDE.decode_request(CLAUDE.encode_request(made.request))
        twice = plan(again, profile, WORDS, level="arrange", snapshot=snapshot, documents=rules)
        assert twice.moves == ()


def looked_up(*turns: tuple[str, str]) -> dict[str, Any]:
    """A conversation; the documents of each turn, a letter each, stand before its question."""
    messages: list[dict[str, Any]] = []
    for number, (names, question) in enumerate(turns):
        found = [{"type": "text", "text": f"<document>{name} {'word ' * 60}</document>"} for name in names]
        messages.append({"role": "user", "content": [*found, {"type": "text", "text": question}]})
        if number < len(turns) - 1:
            messages.append({"role": "assistant", "content": f"answer to {question}"})
    return {"model": "claude-opus-4-8", "max_tokens": 1, "messages": messages}


def letters(request: Request) -> list[str]:
    spoken = [message for message in request.messages if message.role == "user"]
    return ["".join(part.text[10] for part in message.parts if is_document(part)) for message in spoken]


def test_where_turns_share_documents_a_context_is_appended_to() -> None:
    """Only the latest documents are sent along; those that came before go where they stood, new ones follow."""
    memory = PromptMemory()
    for number in range(60):
        first, second = f"question {number}", f"and then {number}"
        for step, body in enumerate((looked_up(("ABC", first)), looked_up(("", first), ("CABD", second)))):
            made = arranged(body, memory, DocumentRules(), number * 20.0 + step)
            assert made.sighting is not None
            memory.observe(made.sighting, number * 20.0 + step)
    assert [sorted(each) for each in letters(made.request)] == [["A", "B", "C"], ["D"]]


def test_where_questions_share_documents_a_context_is_put_in_another_order() -> None:
    memory = PromptMemory()
    for number, names in enumerate(["ABCD", "DCBA", "CADB", "BDAC"] * 20):
        made = arranged(looked_up((names, f"question {number}")), memory, DocumentRules(), number * 5.0)
        assert made.sighting is not None
        memory.observe(made.sighting, number * 5.0)
    latest = arranged(looked_up(("BADC", "a new question")), memory, DocumentRules(), 405.0)
    assert letters(latest.request) != ["BADC"]
    assert letters(latest.request) == letters(
        arranged(looked_up(("DBCA", "?")), memory, DocumentRules(), 405.0).request
    )


@pytest.mark.parametrize(("most", "sent"), [(0.5, ["BA", "CX"]), (0.4, ["X", "BAC"])])
def test_documents_that_pass_those_of_another_message_are_that_far_away(most: float, sent: list[str]) -> None:
    memory = PromptMemory()
    for number in range(30):
        first = f"question {number}"
        for step, body in enumerate((looked_up(("AB", first)), looked_up(("", first), ("ABC", f"and {number}")))):
            made = arranged(body, memory, DocumentRules(), number * 20.0 + step)
            assert made.sighting is not None
            memory.observe(made.sighting, number * 20.0 + step)
    rules = DocumentRules(max_distance=most)
    assert letters(arranged(looked_up(("X", "first"), ("BAC", "second")), memory, rules, 700.0).request) == sent


def test_documents_whose_ranking_is_said_stay_as_that_says() -> None:
    rules, memories = DocumentRules(ranking_note=True), []
    for favourite in ("ABCD", "?AC"):
        memories.append(PromptMemory())
        for number in range(120):
            names = favourite.replace("?", "EFGHIJKL"[number % 8])
            made = arranged(looked_up((names, f"question {number}")), memories[-1], rules, number * 2.0)
            assert made.sighting is not None
            memories[-1].observe(made.sighting, number * 2.0)
    once = arranged(looked_up(("BADC", "a new question")), memories[0], rules, 305.0)
    assert letters(once.request) != ["BADC"]
    assert once.request.messages[-1].parts[-1].text.startswith("[ranking] ")
    twice = arranged(CLAUDE.encode_request(once.request), memories[1], rules, 305.0)
    alone = arranged(looked_up((letters(once.request)[0], "?")), memories[1], rules, 305.0)
    assert letters(alone.request) != letters(once.request), "the other memory would have another order"
    assert letters(twice.request) == letters(once.request)
    assert [part.text for part in twice.request.messages[-1].parts] == [
        part.text for part in once.request.messages[-1].parts
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"move": 1},
        {"keep_top": -1},
        {"keep_top": True},
        {"keep_top": 1.5},
        {"max_distance": 1.1},
        {"max_distance": "0"},
    ],
)
def test_rules_that_cannot_be_followed_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DocumentRules(**wrong)


@law
@given(LOOKED_UP, st.data())
def test_what_is_moved_is_known_as_if_it_were_read_once_more(body: dict[str, Any], data: st.DataObject) -> None:
    request = CLAUDE.decode_request(body)
    reading, found = read_anew(request), movable(request, read_anew(request).blocks)
    if not found.documents:
        return
    slot, documents = data.draw(st.sampled_from(found.slots)), data.draw(st.permutations(found.documents))
    order = [*found.fixed[:slot], *documents, *found.fixed[slot:]]
    after = moved(request, moves_for(reading.pieces, order, found.documents))
    assert in_order(reading, after, order).blocks == read_anew(after).blocks


def read_anew(request: Request) -> Reading:
    return read(request, profile_of(request), WORDS, Begun(NOTHING_READ, request.messages))
