"""The costs as a picture, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OURS = "ours"


class Costs(NamedTuple):
    """What each policy costs on one workload, 1 being no cache at all."""

    workload: str
    policies: Mapping[str, float]


def draw(rows: Sequence[Costs], path: Path) -> str:
    """Draw one panel of bars for each workload into ``path``; return a line that says what became of it."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return "no picture: matplotlib is not installed (pip install --group bench-layout)"
    mpl.use("agg")
    figure = Figure(figsize=(8, 1 + sum(0.5 + 0.25 * len(row.policies) for row in rows)), layout="constrained")
    heights = [1 + len(row.policies) for row in rows]
    for panel, row in zip(figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0], rows, strict=True):
        names = list(row.policies)[::-1]
        costs = [row.policies[name] for name in names]
        bars = panel.barh(names, costs, color=["tab:blue" if name == OURS else "lightgrey" for name in names])
        panel.bar_label(bars, [f"{cost:.3f}" for cost in costs], padding=2, fontsize=7)
        panel.axvline(1, color="black", linewidth=0.5)
        panel.set_title(row.workload, loc="left", fontsize=9)
        panel.tick_params(labelsize=7)
        panel.set_xlim(0, 1.15 * max(1.0, *costs))
    figure.supxlabel("cost, in what the same tokens cost without a cache", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return f"picture: {path}"
