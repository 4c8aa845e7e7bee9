"""``python -m benchmarks.layout [--data PATH] [--emit DIR] [--plot FILE]``: what ways of laying out prompts cost.

Workloads are read from ``--data``, a folder or one file of it; without it they are made up from a seed. All is
replayed in order; no policy sees the future but what is called hindsight. Costs are in uncached input tokens, 1 being
no cache at all.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.layout import agent, emit, faults, plot, report, traces
from benchmarks.layout.generated import generated, generated_chats, generated_trace
from benchmarks.layout.measure import Run
from benchmarks.layout.reading import Found, Unreadable, read
from benchmarks.layout.regimes import CLAUDE, REGIMES
from benchmarks.layout.workload import Workload


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of workloads, or one file of it")
    parser.add_argument(
        "--emit", type=Path, help="a folder: what was decided for each request goes there, as JSON lines"
    )
    parser.add_argument("--plot", type=Path, help="a file for the costs as a picture, PNG or SVG; needs matplotlib")
    options = parser.parse_args()
    begun = time.monotonic()
    try:
        found = (
            Found(generated(), (generated_trace(), generated_chats()), ())
            if options.data is None
            else read(options.data)
        )
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    for line in found.left_out:
        print(f"left out: {line}")
    drawn = list[plot.Costs]()
    for workload in found.workloads:
        drawn.append(measured(workload, options.emit))
        faults.report(workload)
    for trace in found.traces:
        drawn += traces.report(trace, options.emit)
    agent.report(found.workloads)
    if options.plot is not None:
        print(f"\n{plot.draw(drawn, options.plot)}")
    print(f"\n{time.monotonic() - begun:,.0f} s in all")
    return 0


def measured(workload: Workload, folder: Path | None) -> plot.Costs:
    """Print all figures of a workload, and return what it costs under Claude's rule."""
    report.heading(workload)
    timed = workload.by_time()
    runs = {regime.name: Run(workload, regime) for regime in REGIMES}
    for regime in REGIMES:
        report.under_one_rule(runs[regime.name], None if timed is None else Run(timed, regime, regime.lifetime))
    first = runs[CLAUDE.name]
    report.documents(first)
    report.planning(first)
    if folder is not None:
        emit.decisions(first.sent, folder / f"{workload.name}.jsonl")
    return report.costs(first)


if __name__ == "__main__":
    sys.exit(main())
