"""Fifty faults of every class, put into conversations on purpose: class, place, and numbers against the simulator."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from itertools import pairwise

import pytest

from benchmarks.diagnosis import scripts
from benchmarks.diagnosis.bed import Bed
from benchmarks.diagnosis.faults import CONTENT, OTHER, Fault, inject
from benchmarks.diagnosis.shapes import SHAPES, Shape, unmark_claude
from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.insight.diagnosis import Explainer, explain
from prefixcache_integrations.prompt.layout import apply, plan

CASES = 50
BUILT = {"document_order_changed": scripts.library, "images_changed": scripts.gallery, "below_minimum": scripts.short}


class Words:
    """One token per word or sign."""

    name = "words"
    exact = True

    @lru_cache(maxsize=20_000)  # noqa: B019 - one for the whole run
    def encode(self, text: str) -> list[int]:
        return [int.from_bytes(word.encode()[:7].ljust(7), "big") for word in re.findall(r"\w+|[^\w\s]", text)]

    def count(self, text: str) -> int:
        return len(self.encode(text))


@pytest.fixture(scope="module")
def bed() -> Bed:
    return Bed(Words())


@lru_cache(maxsize=300)
def conversation(write: object, seed: int) -> scripts.Script:
    return write(seed, 4) if write is not scripts.short else write(seed)


def cases(fault: Fault, bed: Bed) -> list:
    """Return fifty cases, over all the shapes that the fault has a place in."""
    write = BUILT.get(fault.__name__, scripts.agent)
    found, seed = [], 0
    while len(found) < CASES and seed < 20 * CASES:
        shape = SHAPES[seed % len(SHAPES)]
        rng = random.Random(f"{fault.__name__} {seed}")  # noqa: S311 - a seeded choice of places
        case = inject(fault, rng, shape.bodies(conversation(write, seed % 25)), shape)
        found += [(case, shape, seed)] if case and bed.has_effect(case, shape) else []
        seed += 1
    return found


@pytest.mark.parametrize("fault", CONTENT + OTHER, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_placed_and_counted(bed: Bed, fault: Fault) -> None:
    found = cases(fault, bed)
    assert len(found) == CASES
    wrong = []
    for case, shape, seed in found:
        verdict = bed.judge(case, shape, told=seed % 2 == 0)
        if not verdict.right:
            wrong.append((shape.name, seed, verdict.said, verdict.settled, verdict.lost, case.path, case.offset))
    assert wrong == []


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("write", [scripts.agent, scripts.library, scripts.gallery, scripts.short])
def test_a_clean_conversation_raises_no_alarm(bed: Bed, shape: Shape, write: object) -> None:
    assert [alarm for seed in range(3) for alarm in bed.alarms(shape.bodies(write(seed)), shape)] == []


def parallel(seed: int) -> scripts.Script:
    """Return an agent whose turns have up to 25 tool calls at once."""
    script = scripts.agent(seed)
    rows = [script.turns[0]]
    for turn in range(6):
        calls = [(f"t{turn}_{n}", script.tools[0][0], {"date": f"{turn} {n}"}) for n in range(4 * turn + 5)]
        rows.append((("calls", calls), ("results", [(i, f"found {i} for you") for i, _, _ in calls])))
    return scripts.Script(system=script.system, tools=script.tools, turns=tuple(rows))


def laid_out(bed: Bed, shape: Shape, script: scripts.Script) -> list[Request]:
    """Return the requests of a conversation as the planner sends them."""
    requests = []
    for body in shape.bodies(script):
        request = bed.request(unmark_claude(body) if shape.claude else body, shape)
        planned = apply(request, plan(request, bed.profile(request, shape), bed.tokenizer))
        requests.append(bed.request(dialects.by_name(shape.dialect).encode_request(planned), shape))
    return requests


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("write", [scripts.agent, scripts.library, parallel])
def test_a_remembered_conversation_is_told_the_same_as_a_strange_one(bed: Bed, shape: Shape, write: object) -> None:
    explainer = Explainer(bed.tokenizer)
    for previous, current in pairwise(laid_out(bed, shape, write(3))):
        profile = bed.profile(current, shape)
        known = explainer.explain(previous, current, profile=profile)
        assert known == explain(previous, current, profile=profile, tokenizer=bed.tokenizer)
        assert known.available_tokens == known.readable_tokens > 0


class Counting(Words):
    """Counts how often it is asked."""

    asked = 0

    def count(self, text: str) -> int:
        self.asked += 1
        return super().count(text)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_of_a_turn_of_an_agent_only_what_it_adds_is_read(bed: Bed, shape: Shape) -> None:
    tokenizer = Counting()
    explainer = Explainer(tokenizer)
    first, *pairs = pairwise(laid_out(bed, shape, parallel(3)))
    explainer.explain(*first, profile=bed.profile(first[1], shape))
    for previous, current in pairs:
        added = current.messages[len(previous.messages) :]
        tokenizer.asked = 0
        explainer.explain(previous, current, profile=bed.profile(current, shape))
        assert 0 < tokenizer.asked <= sum(len(message.parts) for message in added)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("fault", [*CONTENT, *OTHER[:-1]], ids=lambda fault: fault.__name__)
def test_a_fault_is_seen_also_where_the_conversation_is_remembered(bed: Bed, shape: Shape, fault: Fault) -> None:
    write = BUILT.get(fault.__name__, scripts.agent)
    for seed in range(2):
        rng = random.Random(seed)  # noqa: S311 - a seeded choice of places
        case = inject(fault, rng, shape.bodies(write(seed)), shape)
        if case is None:
            continue
        explainer = Explainer(bed.tokenizer)
        sent = [bed.request(body, shape) for body in (*case.earlier, case.previous)]
        for previous, current in pairwise(sent):
            explainer.explain(previous, current, profile=bed.profile(current, shape))
        current = bed.request(case.current, shape)
        told = {"profile": bed.profile(current, shape), "elapsed": case.elapsed, "previous_begun": case.begun}
        known = explainer.explain(sent[-1], current, **told)
        assert known == explain(sent[-1], current, tokenizer=bed.tokenizer, **told)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("write", [scripts.agent, scripts.library, scripts.gallery, parallel])
def test_a_conversation_that_the_planner_laid_out_raises_no_alarm(bed: Bed, shape: Shape, write: object) -> None:
    for seed in range(3):
        encode = dialects.by_name(shape.dialect).encode_request
        assert bed.alarms([encode(request) for request in laid_out(bed, shape, write(seed))], shape) == []
