"""Texts that are the same but for some places: which places those are, learned from one text after the other."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.prompt.templates import LONGEST, TEMPLATES, Recognition, Templates

law = settings(max_examples=100)
RULES = "".join(f"Rule {number}: be kind, and look every order up before you speak of it.\n" for number in range(20))


def sent(texts: Templates, text: str) -> Recognition:
    found = texts.recognise(text)
    assert found is not None
    texts.observe([found])
    return found


def changes(*all_texts: str) -> list[list[str]]:
    """Return for each text what in it was seen to change."""
    texts = Templates()
    found = [sent(texts, text) for text in all_texts]
    return [[text[each.start : each.end] for each in one.changes] for text, one in zip(all_texts, found, strict=True)]


@pytest.mark.parametrize(
    ("form", "values"),
    [
        pytest.param("It is {}.\n" + RULES, ["10:05", "10:06", "10:07"], id="at the head"),
        pytest.param("{}" + RULES, ["Ann. ", "Bob. ", "Mia. "], id="first of all"),
        pytest.param(RULES + "The user is {}", ["Ann", "Bob", "Mia"], id="last of all"),
        pytest.param(RULES + "The user is {}, be kind.\n" + RULES.upper(), ["Ann", "Bob", "Li"], id="inside"),
        pytest.param("user={}, shop=12\n" + RULES, ["ann", "bob", "mia"], id="between signs"),
        pytest.param('{{"user": "{}", "shop": 12}}\n' + RULES, ["ann", "bob", "mia"], id="inside JSON"),
        pytest.param("Notes:\n{}\n" + RULES, ["one two", "three\nfour five", "six"], id="over several lines"),
        pytest.param("Grüße an {}! 🙂\n" + RULES, ["Jürgen", "Ægir", "李"], id="no English"),
        pytest.param("So: {}\n" + RULES, ["{a}", "[b]", "<c>"], id="with brackets"),
    ],
)
def test_the_place_that_changes_is_found_once_it_has(form: str, values: list[str]) -> None:
    first, *others = changes(*(form.format(value) for value in values))
    assert first == []
    for value, found in zip(values[1:], others, strict=True):
        assert len(found) == 1
        inner = value.strip(" .{}[]<>")
        assert inner in found[0]
        assert len(found[0]) <= len(value.strip()) + 1


def test_two_places_are_two_and_what_stands_between_stays() -> None:
    found = changes(*(f"You help {name}.\n{RULES}It is {time}.\n" for name, time in [("Ann", "1"), ("Bob", "2")]))
    assert found[1] == ["Bob", "2"]


def test_a_place_goes_on_being_one_while_its_value_stays() -> None:
    texts = Templates()
    for value in ("Ann", "Bob", "Bob", "Bob"):
        found = sent(texts, f"You help {value}.\n{RULES}")
    assert found.template.sightings == 4
    assert [(each.changes, each.empty) for each in found.changes] == [(1, False)]


def test_how_often_a_value_was_another_is_counted() -> None:
    texts = Templates()
    for value in ("Ann", "Bob", "Bob", "Mia", "Ann"):
        found = sent(texts, f"You help {value}.\n{RULES}")
    assert found.changes[0].changes == 3


def test_what_was_not_there_once_is_told() -> None:
    texts = Templates()
    for extra in ("", "Be quick.\n", ""):
        found = sent(texts, f"You help.\n{extra}{RULES}")
    assert [(each.start, each.end, each.empty) for each in found.changes] == [(10, 10, True)]


def test_texts_of_two_agents_are_kept_apart_and_go_by_one_name_each() -> None:
    texts, other = Templates(), RULES.replace("order", "shoe").replace("kind", "quick")
    names = [sent(texts, f"You are {who}.\n{rules}").template.name for who in "abc" for rules in (RULES, other)]
    assert [names[0::2], names[1::2]] == [[names[0]] * 3, [names[1]] * 3]
    assert names[0] != names[1]


def test_the_same_text_again_is_no_change() -> None:
    texts = Templates()
    found = [sent(texts, RULES) for _ in range(3)]
    assert [one.changes for one in found] == [()] * 3
    assert [one.number for one in found] == [None, 0, 0]


def test_texts_are_forgotten_and_long_ones_never_learned() -> None:
    texts = Templates()
    others = [f"topic{number} " * 50 for number in range(TEMPLATES)]
    sent(texts, RULES)
    for other in others:
        sent(texts, other)
    assert sent(texts, RULES).number is None
    assert sent(texts, others[-1]).number is not None
    assert texts.recognise("a" * (LONGEST + 1)) is None


def test_nothing_of_a_text_is_kept() -> None:
    texts = Templates()
    for name in ("secret", "hidden"):
        found = sent(texts, f"You help {name}.\n{RULES}")
    assert not any(word in repr(found.template) for word in ("secret", "hidden", "order", "kind"))


_WORDS = st.sampled_from(["kind", "Rule", "a", "b.", "c,", "(d)", "e=f", "\n", "\n\n", "1.", "ü", "🙂", '"g"', "  "])
_TEXTS = st.lists(st.lists(_WORDS, max_size=30).map(" ".join), min_size=1, max_size=6)


@law
@given(_TEXTS, st.text("abc .\n", max_size=20))
def test_changes_are_pieces_of_the_text_in_order_and_apart(parts: list[str], value: str) -> None:
    texts = Templates()
    for text in [RULES + part + RULES[::-1] for part in [*parts, value]]:
        end = 0
        for each in sent(texts, text).changes:
            assert end <= each.start <= each.end <= len(text)
            piece = text[each.start : each.end]
            assert piece == piece.strip()
            end = each.end


@law
@given(_TEXTS)
def test_what_stays_is_the_same_from_the_second_time_on(parts: list[str]) -> None:
    """However the values go on, once every place has been seen to change, the rest of all texts is one text."""
    texts, all_texts = Templates(), [f"{RULES}So: {part}.\n{RULES[::-1]}" for part in parts]
    for text in all_texts * 2:
        sent(texts, text)
    rests = {_words(_rest(text, sent(texts, text))) for text in all_texts}
    assert len(rests) == 1


def _rest(text: str, found: Recognition) -> str:
    ends = [0, *(each.end for each in found.changes)]
    starts = [*(each.start for each in found.changes), len(text)]
    return "\0".join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _words(text: str) -> str:
    return re.sub(r"\s*\0\s*", "\0", " ".join(text.split()))


@law
@given(_TEXTS)
def test_recognising_changes_nothing(parts: list[str]) -> None:
    texts = Templates()
    for part in parts:
        sent(texts, RULES + part)
    seen: list[Any] = [texts.recognise(RULES + part) for part in parts * 2]
    assert all(one == other for one, other in pairwise([seen[: len(parts)], seen[len(parts) :]]))


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (["Ann", "Bob"], 2),
        (["Ann", "Bob", "Ann", "Bob", "Ann"], 2),
        (["Ann", "Ann", "Bob", "Bob", "Bob"], 2),
        (["Ann", "Bob", "Mia"], 3),
        (["Ann", "Bob", "Mia Moe", "Li"], 4),
    ],
)
def test_two_values_that_come_and_go_are_two(said: list[str], values: int) -> None:
    texts = Templates()
    for value in said:
        found = sent(texts, f"You help {value} here.\n{RULES}")
    assert [each.values for each in found.changes] == [values]
