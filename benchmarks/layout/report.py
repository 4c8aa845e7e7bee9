"""The tables of the layout benchmark."""

from __future__ import annotations

from benchmarks.layout.measure import Run
from benchmarks.layout.ours import kendall_tau
from benchmarks.layout.plot import Costs
from benchmarks.layout.rules import Bills
from benchmarks.layout.state import state_bytes
from benchmarks.layout.workload import Workload

WIDTH = 27


def heading(workload: Workload) -> None:
    """Print what a workload is."""
    conversations = len({call.conversation for call in workload.calls})
    print(f"\n{workload.name}: {len(workload.calls):,} requests, {conversations:,} conversations", end="")
    print(f", {workload.tokens:,} tokens")


def under_one_rule(run: Run, timed: Run | None) -> None:
    """Print what each policy costs, what could be reached, and how ours compares; ``timed``: with lifetimes."""
    ending = "" if timed is None or timed.lifetime is None else f"   {f'{timed.lifetime / 60:.0f} min':>6}"
    print(f"\n  {run.regime.name}")
    titles = "".join(f"   {title:>6}" for title in ("cost", "hit", "writes", "sent"))
    print(f"    {'':{WIDTH}}{titles}{ending}")
    for name in (*run.fixed, "ours"):
        bills = run.ours if name == "ours" else run.fixed[name]
        lasting = None if timed is None else timed.ours if name == "ours" else timed.fixed[name]
        _line(name, bills, run.workload, lasting)
    for name, bills in run.hindsight.items():
        _line(f"hindsight, {name}", bills, run.workload)
    orders, anything = (bound / run.workload.tokens for bound in run.bounds)
    print(f"    no order of the same blocks below {orders:.4f}, no layout below {anything:.4f}")
    closed = run.gap_closed
    print(f"    gap to hindsight closed: {'there is none' if closed is None else f'{closed:.0%}'}", end="")
    print(f"; {_regret(run)}" + ("" if timed is None else f"\n    with lifetimes {_regret(timed)}"))


def _line(name: str, bills: Bills, workload: Workload, lasting: Bills | None = None) -> None:
    total = workload.tokens
    shares = (bills.cost / total, bills.read / bills.tokens, bills.written / bills.tokens, bills.tokens / total)
    ended = "" if lasting is None else f"   {lasting.cost / total:.4f}"
    print(f"    {name:{WIDTH}}" + "".join(f"   {share:.4f}" for share in shares) + ended)


def _regret(run: Run) -> str:
    best = run.fixed[run.best_fixed]
    ratio, worst = run.ours.cost / best.cost, run.ours.worst_beside(best)
    return f"against {run.best_fixed} {ratio:.4f}, after any request {worst:.4f}"


def documents(run: Run) -> None:
    """Print how often documents were moved, and how far."""
    blocks = run.workload.blocks
    documents = [([part for part in row.call.parts if blocks[part].kind == "doc"], row.parts) for row in run.sent]
    taus = [kendall_tau(before, after) for before, after in documents if len(before) > 1]
    if taus:
        moved = sum(row.parts != row.call.parts for row in run.sent)
        print(
            f"\n  documents moved in {moved:,} requests, Kendall tau {sum(taus) / len(taus):.3f}, least {min(taus):.3f}"
        )


def planning(run: Run) -> None:
    """Print how long a plan takes, and how large what is remembered is."""
    seconds = sorted(row.spent.seconds for row in run.sent)
    p50, p99 = (seconds[int(len(seconds) * share)] * 1e6 for share in (0.5, 0.99))
    print(f"  plan() p50 {p50:,.0f} µs   p99 {p99:,.0f} µs   max {seconds[-1] * 1e6:,.0f} µs", end="")
    print(" of processor time, digests and counts included")
    collecting = [row.spent.collecting for row in run.sent]
    share = sum(collecting) / sum(seconds)
    print(f"    {share:.1%} of it in the garbage collector, at most {max(collecting) * 1e6:,.0f} µs of one plan")
    size = state_bytes(run.replayer.memory)
    print(
        f"  state {size:,} bytes, {size / len(run.sent):,.0f} per request,"
        f" {size / max(len(run.replayer.memory), 1):,.0f} per prefix"
    )


def costs(run: Run) -> Costs:
    """Return what every policy costs, with the best that hindsight gives."""
    bills = {**run.fixed, "ours": run.ours, "hindsight": min(run.hindsight.values(), key=lambda each: each.cost)}
    return Costs(run.workload.name, {name: each.cost / run.workload.tokens for name, each in bills.items()})
