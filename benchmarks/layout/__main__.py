"""``python -m benchmarks.layout [--data DIR] [--emit DIR]``: what every way of laying out prompts costs.

Workloads are read from ``--data``: every folder below it with ``blocks.jsonl`` and ``requests.jsonl``, and every
``trace.jsonl`` of block hashes. Without it they are made up. All is replayed in order; no policy sees the future but
those of the row ``hindsight``. Costs are in uncached input tokens, 1 being no cache at all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.layout import faults, hindsight, traces
from benchmarks.layout.ours import Replayer, Sent, claude, intervals, kendall_tau, lasting
from benchmarks.layout.policies import FIXED
from benchmarks.layout.rules import Bill, Intervals, Markers
from benchmarks.layout.workload import Workload, generated, read

REFERENCE = ("none", "system+last", "last")
"""The fixed policies of which the best is held against ours."""

WARM_UP = 100
"""From which request on the cumulative cost is held against that of the best of them."""

LIFETIME = 300.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of workloads")
    parser.add_argument("--emit", type=Path, help="write what was decided for each request here, as JSON lines")
    options = parser.parse_args()
    for workload in generated() if options.data is None else read(options.data):
        report(workload, options.emit)
    for trace in [] if options.data is None else sorted(options.data.rglob("trace.jsonl")):
        traces.report(trace)


def report(workload: Workload, emit: Path | None = None) -> None:
    """Print all figures of a workload; write its decisions below ``emit``."""
    sent = list(Replayer(workload).replay(claude()))
    print(f"\n{workload.name}: {len(sent):,} requests, {workload.tokens:,} tokens")
    fixed = {name: _fixed_bills(workload, name) for name in FIXED}
    ours = _bills(workload, sent)
    for name, bills in (*fixed.items(), ("ours", ours)):
        print(f"  {name:18} {_line(bills, workload)}")
    _bounds(workload, sent, ours, fixed)
    _regret(ours, fixed)
    _free(workload)
    if any(call.at is not None for call in workload.calls):
        _timed(workload)
    _about_plans(workload, sent)
    faults.report(workload)
    if emit is not None:
        _write(sent, emit / f"{workload.name}.jsonl")


def _fixed_bills(workload: Workload, name: str, ttl: float | None = None) -> list[Bill]:
    rule = Markers(ttl=ttl)
    return [
        rule.bill(call.parts, _tokens(workload, call.parts), FIXED[name](workload.kinds(call)), call.at)
        for call in workload.calls
    ]


def _bills(workload: Workload, sent: Iterable[Sent], rule: Markers | Intervals | None = None) -> list[Bill]:
    rule = rule or Markers()
    return [
        rule.bill(row.parts, _tokens(workload, row.parts), [place for place, _ in row.markers], row.call.at)
        for row in sent
    ]


def _tokens(workload: Workload, parts: Sequence[int]) -> list[int]:
    return [workload.blocks[part].tokens for part in parts]


def _cost(bills: Iterable[Bill]) -> float:
    return sum(bill.cost for bill in bills)


def _line(bills: Sequence[Bill], workload: Workload) -> str:
    tokens = sum(bill.tokens for bill in bills)
    hit, written = (sum(each) / tokens for each in ([bill.read for bill in bills], [bill.written for bill in bills]))
    sent = f"   tokens sent {tokens / workload.tokens:.3f}" if tokens != workload.tokens else ""
    return f"cost {_cost(bills) / workload.tokens:.4f}   hit {hit:.4f}   written {written:.4f}{sent}"


def _bounds(workload: Workload, sent: Sequence[Sent], ours: Sequence[Bill], fixed: dict[str, list[Bill]]) -> None:
    given = hindsight.marked_with_hindsight(workload, [call.parts for call in workload.calls])
    moved = hindsight.marked_with_hindsight(workload, [row.parts for row in sent])
    best, reached = min(_cost(fixed[name]) for name in REFERENCE), min(given, moved)
    gap = (best - _cost(ours)) / (best - reached) if best > reached else 1.0
    total = workload.tokens
    print(
        f"  hindsight          as given {given / total:.4f}   in our orders {moved / total:.4f}   gap closed {gap:.0%}"
    )
    print(f"  no layout below    {hindsight.content_bound(workload) / total:.4f}")


def _regret(ours: Sequence[Bill], fixed: dict[str, list[Bill]]) -> None:
    best = min(REFERENCE, key=lambda name: _cost(fixed[name]))
    worst, mine, theirs = 0.0, 0.0, 0.0
    for number, (bill, other) in enumerate(zip(ours, fixed[best], strict=True)):
        mine, theirs = mine + bill.cost, theirs + other.cost
        worst = max(worst, mine / theirs) if number >= WARM_UP else worst
    print(f"  against {best}: whole {mine / theirs:.4f}   worst from request {WARM_UP} on {worst:.4f}")


def _free(workload: Workload) -> None:
    for name, minimum, increment in (("intervals of 128", 1024, 128), ("engine, 16", 1, 16)):
        rule, plain = Intervals(minimum, increment), Intervals(minimum, increment)
        sent = Replayer(workload).replay(intervals(minimum, increment))
        ours = _bills(workload, sent, rule)
        given = [plain.bill(call.parts, _tokens(workload, call.parts)) for call in workload.calls]
        hits = (sum(bill.read for bill in bills) / workload.tokens for bills in (given, ours))
        print("  {:18} hit as given {:.4f}   ours {:.4f}".format(name, *hits))


def _timed(workload: Workload) -> None:
    sent = Replayer(workload).replay(lasting(claude(), LIFETIME), timed=True)
    ours = _cost(_bills(workload, sent, Markers(ttl=LIFETIME))) / workload.tokens
    others = "   ".join(
        f"{name} {_cost(_fixed_bills(workload, name, LIFETIME)) / workload.tokens:.4f}" for name in REFERENCE
    )
    print(f"  entries of 5 min   {others}   ours {ours:.4f}")


def _about_plans(workload: Workload, sent: Sequence[Sent]) -> None:
    seconds = sorted(row.seconds for row in sent)
    p50, p99 = (seconds[int(len(seconds) * share)] * 1e6 for share in (0.5, 0.99))
    documents = [([part for part in row.call.parts if workload.blocks[part].kind == "doc"], row.parts) for row in sent]
    orders = [kendall_tau(before, after) for before, after in documents if len(before) > 1]
    print(f"  planning           p50 {p50:,.0f} µs   p99 {p99:,.0f} µs   max {seconds[-1] * 1e6:,.0f} µs")
    if orders:
        moved = sum(row.parts != row.call.parts for row in sent)
        print(f"  documents          moved in {moved:,} requests, Kendall tau {sum(orders) / len(orders):.3f}")


def _write(sent: Iterable[Sent], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for row in sent:
            markers = [{"at": place, "ttl": ttl} for place, ttl in row.markers]
            file.write(json.dumps({"rid": row.call.rid, "parts": list(row.parts), "markers": markers}) + "\n")


if __name__ == "__main__":
    main()
