"""Whatever comes, our layout costs little more than the best of the policies that never change."""

from __future__ import annotations

import pytest

from benchmarks.layout.generated import generated
from benchmarks.layout.measure import Run
from benchmarks.layout.regimes import CLAUDE, GPT_5_6, Regime
from benchmarks.layout.workload import Block, BlockId, Call, Workload

WHOLE, ANY_TIME = 1.005, 1.02


@pytest.mark.parametrize(("regime", "lifetime"), [(CLAUDE, None), (GPT_5_6, GPT_5_6.lifetime)], ids=["claude", "gpt"])
def test_no_workload_costs_more_than_under_the_best_fixed_policy(regime: Regime, lifetime: float | None) -> None:
    for workload in generated(seed=3):
        run = Run(workload if lifetime is None else workload.by_time() or workload, regime, lifetime)
        best = run.fixed[run.best_fixed]
        assert run.ours.cost <= WHOLE * best.cost, workload.name
        assert run.ours.worst_beside(best) <= ANY_TIME, workload.name


def test_talks_with_documents_that_nobody_goes_on_with_are_given_up_after_one_requests_worth() -> None:
    run = Run(_never_again(150), CLAUDE)
    none = run.fixed["none"]

    spent = [ours.cost - bill.cost for ours, bill in zip(run.ours, none, strict=True)]
    each = run.workload.tokens / len(none)
    assert sum(spent) <= each * (1 + 0.005 * len(none))
    assert not sum(spent[-20:])


def _never_again(requests: int) -> Workload:
    """Return talks of which each is asked once, with a document of its own."""
    blocks: dict[BlockId, Block] = {0: Block(0, "system", "system", "system", 40)}
    calls = list[Call]()
    for number in range(requests):
        parts: list[BlockId] = [0]
        for kind, role, tokens in [
            *(("history", role, 700) for role in ("user", "assistant", "user", "assistant")),
            ("doc", "", 300),
            ("history", "user", 20),
        ]:
            block = len(blocks)
            blocks[block] = Block(block, kind, role, f"{kind} {block}", tokens)
            parts.append(block)
        calls.append(Call(number, str(number), float(number), tuple(parts)))
    return Workload("never again", blocks, tuple(calls))
