"""What is remembered of sent prompts, and what planning makes of it."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from prefixcache_integrations.canonical import Level, PromptPlan
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import Decision, decide
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()
INSTRUCTIONS = "instruction " * 1500


def body(*said: Any, tools: tuple[str, ...] = (), system: str = INSTRUCTIONS) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": system,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in tools],
        "messages": [{"role": roles[number % 2], "content": content} for number, content in enumerate(said)],
    }


def document(name: str, words: int = 300) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": f"{name} " * words}}


def send(memory: PromptMemory, sent: dict[str, Any], now: float = 0.0, level: Level = "arrange") -> Decision:
    request = CLAUDE.decode_request(sent)
    made = decide(request, resolve(request.model), WORDS, level=level, snapshot=memory.snapshot(now))
    assert made.sighting is not None
    memory.observe(made.sighting, now)
    return made


def reasons(plan: PromptPlan) -> list[str]:
    return [row.reason for row in plan.breakpoints]


def test_a_first_request_is_marked_after_its_instructions_and_at_its_end() -> None:
    assert reasons(send(PromptMemory(), body("a question")).plan) == ["system", "tail"]


def test_documents_are_not_written_before_any_came_again() -> None:
    looked_up = [document("one"), document("two"), document("three"), document("four")]
    question = [*looked_up, {"type": "text", "text": "a question"}]

    assert send(PromptMemory(), body(question, system="Answer.")).plan.breakpoints == ()


def test_ends_that_nobody_reads_are_no_longer_written() -> None:
    memory = PromptMemory()

    last = [send(memory, body(f"question {number} " + "word " * 400), now=number * 10.0).plan for number in range(60)]

    assert reasons(last[0]) == ["system", "tail"]
    assert reasons(last[-1]) == ["system"]


def test_a_conversation_marks_what_it_reads_and_its_new_end() -> None:
    memory = PromptMemory()
    send(memory, body("a question " * 100))

    again = send(memory, body("a question " * 100, "an answer " * 100, "thanks " * 100), now=10.0).plan

    marked = {str(row.at): row.reason for row in again.breakpoints}
    assert marked["system[0]"] == "system"
    assert marked["messages[0].parts[0]"] == "anchor"
    assert marked["messages[2].parts[0]"] == "tail"


def test_documents_that_come_again_lead_in_the_order_they_were_cached_in() -> None:
    memory = PromptMemory()
    names = ["one", "two", "three", "four", "five"]

    def question(order: list[str], number: int) -> dict[str, Any]:
        said = {"type": "text", "text": f"question {number}"}
        return body([*(document(name) for name in order), said], system="Answer.")

    cached = [send(memory, question(names, number), now=float(number)) for number in range(80)][-1]
    shuffled = send(memory, question(["five", "three", "one", "four", "two"], 80), now=80.0)

    assert shuffled.plan.breakpoints
    assert _documents(shuffled) == _documents(cached)
    assert [finding.code for finding in shuffled.plan.findings] == ["documents_moved"]


def _documents(made: Decision) -> list[Any]:
    return [part.raw for part in made.request.messages[0].parts[:-1]]


@pytest.mark.parametrize("level", ["mark", "canonical"])
def test_documents_stay_where_they_are_below_level_arrange(level: Level) -> None:
    memory = PromptMemory()
    for number, order in enumerate([("one", "two", "three", "four"), ("four", "one", "three", "two")] * 5):
        content = [*map(document, order), {"type": "text", "text": str(number)}]
        assert send(memory, body(content, system="Answer."), now=float(number), level=level).plan.moves == ()


def test_documents_that_answers_refer_to_by_number_stay() -> None:
    memory = PromptMemory()
    for number, order in enumerate([("one", "two", "three", "four"), ("four", "one", "three", "two")] * 5):
        cited = [{**document(name), "citations": {"enabled": True}} for name in order]
        content = [*cited, {"type": "text", "text": str(number)}]
        assert send(memory, body(content, system="Answer."), now=float(number)).plan.moves == ()


def test_new_tools_come_after_those_sent_before() -> None:
    memory = PromptMemory()
    first = send(memory, body("hi", tools=("search", "book")))
    second = send(memory, body("hi", tools=("add", "search", "book")))

    assert [tool.name for tool in first.request.tools] == ["book", "search"]
    assert [tool.name for tool in second.request.tools] == ["book", "search", "add"]


def test_an_entry_that_ended_is_not_counted_on() -> None:
    memory = PromptMemory()
    made = send(memory, body("a question"))
    assert made.sighting is not None
    first = made.sighting.steps[0].key

    assert memory.snapshot(299.0).alive(memory.snapshot(299.0).continuations(0).get(first))
    assert not memory.snapshot(301.0).alive(memory.snapshot(301.0).continuations(0).get(first))


def test_what_is_remembered_is_bounded_by_number_and_by_age() -> None:
    memory = PromptMemory(limit=50, horizon=1000.0)
    for number in range(500):
        send(memory, body(f"question {number}"), now=float(number))
    assert len(memory) <= 50

    send(memory, body("much later"), now=5000.0)
    assert len(memory) == 2


def test_tenants_learn_nothing_from_each_other() -> None:
    memory = PromptMemory(limit=10)
    request = CLAUDE.decode_request(body("a question", tools=("book",)))
    made = decide(request, resolve(request.model), WORDS, snapshot=memory.snapshot(0.0, "one"))
    assert made.sighting is not None
    memory.observe(made.sighting, 0.0, "one")
    first = made.sighting.steps[0].key

    assert memory.snapshot(1.0, "one").continuations(0).get(first) is not None
    assert memory.snapshot(1.0, "two").continuations(0).get(first) is None
    for number in range(8):
        memory.observe(made.sighting, 2.0, f"tenant {number}")
    assert len(memory) <= 10
    assert memory.snapshot(3.0, "one").continuations(0).get(first) is None


def test_another_attempt_teaches_nothing_and_a_third_is_a_request_of_its_own() -> None:
    memory = PromptMemory()
    visits = []
    for number in range(4):
        send(memory, body("a question"), now=float(number))
        snapshot = memory.snapshot(float(number))
        visits.append(sum(snapshot.sent_often(snapshot.path([_first(body("a question"))]))))
    assert visits == [1, 1, 1, 2]


def _first(sent: dict[str, Any]) -> bytes:
    made = send(PromptMemory(), sent)
    assert made.sighting is not None
    return made.sighting.steps[0].key


def test_nothing_of_a_prompt_is_kept() -> None:
    memory = PromptMemory()
    for number in range(3):
        content = [document("secret"), document("other"), {"type": "text", "text": f"secret {number}"}]
        send(memory, body(content, "a secret answer", "a secret question"))

    assert "secret" not in repr(_everything(memory))


def _everything(value: Any, depth: int = 0) -> Any:
    if depth > 12:
        return "too deep"
    if isinstance(value, dict):
        return [(_everything(key, depth + 1), _everything(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        return [_everything(item, depth + 1) for item in value]
    if isinstance(value, msgspec.Struct):
        return [_everything(getattr(value, name), depth + 1) for name in value.__struct_fields__]
    return _everything(vars(value), depth + 1) if hasattr(value, "__dict__") else value


def test_gpt_writes_nothing_by_itself_where_no_end_is_read_again() -> None:
    dialect, memory = OpenAIChat(), PromptMemory()
    profile = replace(resolve("gpt-5.6"), tokenizer_uncertainty=0.0)
    for number in range(60):
        said = f"question {number} " + "word " * 2000
        request = dialect.decode_request({"model": "gpt-5.6", "messages": [{"role": "user", "content": said}]})
        made = decide(request, profile, WORDS, snapshot=memory.snapshot(number * 10.0))
        assert made.sighting is not None
        memory.observe(made.sighting, number * 10.0)

    assert made.plan.breakpoints == ()
    assert made.request.options["prompt_cache_options"] == {"mode": "explicit"}


def test_where_most_talks_end_with_the_first_answer_only_those_that_go_on_are_written() -> None:
    memory, now = PromptMemory(), 0.0
    for number in range(120):
        said = [f"question {number} " + "word " * 1500]
        for turn in range(6 if number % 12 == 0 else 1):
            now += 10.0
            send(memory, body(*said, system="Answer."), now)
            said += [f"answer {turn} " * 100, f"and {turn} " * 100]

    fresh, going_on = ["new " * 1500], ["first " * 1500, "an answer " * 100, "thanks " * 100]
    assert reasons(send(memory, body(*fresh, system="Answer."), now + 10).plan) == []
    send(memory, body(going_on[0], system="Answer."), now + 20)
    assert "tail" in reasons(send(memory, body(*going_on, system="Answer."), now + 30).plan)


def test_what_is_read_again_more_often_than_not_is_written_at_first_sight() -> None:
    memory = PromptMemory()
    for number in range(60):
        for again in range(2):
            last = f"question {again}"
            send(memory, body(f"text {number} " * 1500, "yes", last, system="Answer."), number * 20.0 + again * 5)

    marked = send(memory, body("other " * 1500, "yes", "question", system="Answer."), 1300.0).plan.breakpoints

    assert str(marked[-1].at) == "messages[1].parts[0]"


def test_what_is_remembered_is_nothing_for_the_garbage_collector_to_walk() -> None:
    memory = PromptMemory()

    def talk(topics: range) -> int:
        for topic in topics:
            for turn in range(3):
                send(
                    memory, body(*(f"turn {number} of {topic}" for number in range(2 * turn + 1))), now=topic + turn / 4
                )
        gc.collect()
        return len(gc.get_objects())

    before = talk(range(20))
    assert talk(range(20, 120)) - before < 100
