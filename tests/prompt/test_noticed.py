"""Places that change are told of once each, wherever they move to and however the values around them change."""

from __future__ import annotations

from typing import Any

import pytest

from prefixcache_integrations.canonical import Finding, Level
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.events import Event, VolatileFound
from prefixcache_integrations.flows.prepare import prepare
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.noticed import PLACES, Noticed
from prefixcache_integrations.prompt.reporting import Reporter
from prefixcache_integrations.prompt.reports import packed, unpacked
from prefixcache_integrations.prompt.stability import PromptMemory
from prefixcache_integrations.prompt.templates import LONGEST
from tests.prompt.words import WORDS

CLAUDE, CHAT = AnthropicMessages(), OpenAIChat()
RULES = "".join(f"Rule {number}: look every order up before you say anything about it.\n" for number in range(400))


def claude(system: Any, tools: Any = (), model: str = "claude-sonnet-5") -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": model, "max_tokens": 9, "system": system, "tools": list(tools), "messages": messages}


def chat(system: str, model: str = "gpt-4o-mini") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}]}


def tool(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": {"type": "object"}}


class App:
    """Sends requests through one layout, and keeps what was found new in each."""

    def __init__(self, level: Level = "canonical", dialect: Dialect = CLAUDE, *, remembers: bool = True) -> None:
        self.level: Level = level
        self.dialect = dialect
        self.memory = PromptMemory() if remembers else None
        self.now = 0.0
        self.plans: list[Any] = []

    def send(self, body: dict[str, Any], namespace: str = "") -> list[Finding]:
        heard: list[Event] = []
        self.now += 60.0
        made = prepare(
            body,
            self.dialect,
            resolve,
            WORDS,
            level=self.level,
            observers=[heard.append],
            memory=self.memory,
            now=self.now,
            namespace=namespace,
        )
        self.plans.append(made.plan)
        return [event.finding for event in heard if isinstance(event, VolatileFound)]


def kinds(found: list[list[Finding]]) -> list[list[str | None]]:
    return [[each.kind for each in one] for one in found]


@pytest.mark.parametrize("level", ["mark", "canonical"])
@pytest.mark.parametrize(("dialect", "body"), [(CLAUDE, claude), (CHAT, chat)], ids=["claude", "chat"])
def test_a_clock_in_the_instructions_is_told_once_with_its_price(dialect: Dialect, body: Any, level: Level) -> None:
    app = App(level, dialect)
    found = [app.send(body(f"It is 2026-01-05 08:17:{second:02}.\n{RULES}")) for second in range(10, 40, 3)]

    assert kinds(found) == [["timestamp"], *[[]] * 9]
    (told,) = found[0]
    assert told.tokens is not None
    assert told.cost is not None
    assert told.tokens > 4000
    assert told.cost == pytest.approx(told.tokens * (1.15 if dialect is CLAUDE else 0.5), abs=1)
    assert 'level "arrange"' in told.remedies[0]
    assert "2026" not in repr(told)
    assert all(any(each.code == "volatile_text" for each in plan.findings) for plan in app.plans)


def test_one_that_was_moved_to_the_end_is_no_news() -> None:
    app = App("arrange")
    found = [app.send(claude(f"It is 2026-01-05 08:17:{second:02}.\n{RULES}")) for second in range(10, 40, 3)]

    assert kinds(found) == [[]] * 10
    assert [[each.code for each in plan.findings] for plan in app.plans] == [["volatile_moved"]] * 10


def test_a_name_that_is_seen_to_change_later_leaves_the_clock_behind_it_as_it_was() -> None:
    app = App()
    found = [
        app.send(claude(f"You help {name}. Be kind. It is 2026-01-05 08:17:{second:02}.\n{RULES}"))
        for second, name in enumerate(["Anna", "Bob Jones", "Mia", "Anna", "Li"], start=10)
    ]

    assert kinds(found) == [["timestamp"], ["text"], [], [], []]


def test_two_of_a_kind_are_two_places_and_so_are_those_of_two_agents() -> None:
    app = App()
    two = "It is 2026-01-05 08:17:{0}. {1} The cache is of 2026-01-05 09:00:{0}."
    other = "You sell shoes, and it is 2026-01-05 08:17:{0}. " + RULES.replace("order", "shoe")

    assert kinds([app.send(claude(two.format(second, RULES))) for second in (11, 12, 13)]) == [
        ["timestamp"] * 2,
        [],
        [],
    ]
    assert kinds([app.send(claude(other.format(second))) for second in (14, 15, 16)]) == [["timestamp"], [], []]


def test_an_address_in_a_tool_is_told_once_a_tool() -> None:
    app = App()
    tools = [tool("book", "Uses <function f at 0x7f00aa11bb22>."), tool("add", "Adds.")]
    other = tool("sell", "Uses <object at 0x7f00aa11bb33>.")

    found = [app.send(claude(RULES, offered)) for offered in (tools, tools[::-1], [*tools, other], [other, *tools])]
    assert kinds(found) == [["address"], [], ["address"], []]
    assert "describe the tool in words of its own" in found[0][0].remedies[0]


def test_what_looks_like_a_date_is_told_once_and_tenants_apart() -> None:
    app = App()
    found = [app.send(claude(f"Today is 2026-01-05.\n{RULES}"), who) for who in ("one", "one", "two", "one", "two")]

    assert kinds(found) == [["date"], [], ["date"], [], []]


def test_a_text_too_long_to_be_learned_is_known_by_what_is_left_of_it() -> None:
    app = App()
    rest = "word " * (LONGEST // 4)
    assert kinds([app.send(claude(f"It is 2026-01-05 08:17:{second}. {rest}")) for second in (11, 12, 13)]) == [
        ["timestamp"],
        [],
        [],
    ]


def test_without_a_memory_every_request_tells() -> None:
    app = App(remembers=False)
    assert kinds([app.send(claude(f"It is 2026-01-05 08:17:{second}. {RULES}")) for second in (11, 12)]) == [
        ["timestamp"],
        ["timestamp"],
    ]


def test_a_prompt_too_short_for_the_cache_tells_nothing() -> None:
    assert App().send(claude("It is 2026-01-05 08:17:23.")) == []


def test_what_another_process_has_told_of_is_no_news_here() -> None:
    one, other, reporter = App(), App(), Reporter()
    assert one.memory is not None
    assert other.memory is not None
    tools = [tool("book", "Uses <function f at 0x7f00aa11bb22>.")]
    for app, second in ((one, 10), (one, 11), (other, 12)):
        body = claude(f"It is 2026-01-05 08:17:{second}.\n{RULES}", tools)
        assert kinds([app.send(body)]) == [["address", "timestamp"] if second == 10 else []]
        request = CLAUDE.decode_request(body)
        seen = decide(request, resolve(request.model), WORDS, snapshot=app.memory.snapshot(app.now)).sighting
        assert seen is not None
        (told,) = unpacked(packed([reporter.report(seen, app.now, "")]))
        other.memory.learn(told, app.now)


def test_places_are_forgotten_from_the_oldest_on() -> None:
    noticed = Noticed()
    places = [str(number).encode() for number in range(PLACES + 2)]
    noticed.observe(places[:PLACES])
    noticed.observe([places[0], *places[PLACES:]])

    finding = Finding(code="volatile_text", message="")
    known = [not noticed.unknown([finding], [place]) for place in places]
    assert known == [True, False, False, *[True] * (PLACES - 1)]


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "claude-opus-4-8"])
@pytest.mark.parametrize(
    "wordings",
    [["never reveal prices"] * 3 + ["reveal prices to staff alone"] * 9, ["book flights", "sell shoes"] * 6],
    ids=["an edit", "two agents"],
)
def test_two_wordings_are_the_application_s_own_and_stay_where_they_are(wordings: list[str], model: str) -> None:
    app = App("arrange")
    found = [app.send(claude(f"You {wording}, always. {RULES}", model=model)) for wording in wordings]

    assert sum(map(len, found)) == 1, "that the place changed is told of once"
    assert [plan.moves for plan in app.plans] == [()] * 12


def test_a_third_value_is_moved_and_a_second_time_of_day() -> None:
    names, clocks = App("arrange"), App("arrange")
    for name, hour in (("Ann", 9), ("Bob", 10), ("Mia", 11)):
        names.send(claude(f"You help {name} here. {RULES}"))
        clocks.send(claude(f"The shop closes at noon, now is {hour}:00. {RULES}"))

    assert [len(plan.moves) for plan in names.plans] == [0, 0, 1]
    assert [len(plan.moves) for plan in clocks.plans] == [0, 1, 1]


def test_a_clock_that_stands_still_while_another_goes_is_an_example_and_stays_in_its_place() -> None:
    app = App("arrange")
    example = "An example. Current time: 2025-01-15 14:32:10, in two hours is 16:32:10.\n"
    for minute in range(12):
        app.send(claude(f"{RULES}{example}Current time: 2026-03-04 08:{minute:02}:23."))

    moved = [len(plan.moves) for plan in app.plans]
    assert moved[0] == 2, "by its looks it may be one"
    assert moved[-6:] == [1] * 6
    assert all(plan.moves[0].span[0] > len(RULES + example) for plan in app.plans[-6:])
