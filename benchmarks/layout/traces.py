"""Traces of block hashes with times: whether to write what a request adds, where entries end after a while.

A hash stands for all that leads up to it. Each policy says how many of a request's blocks are written; what is written
is read, up to any of its blocks, until its entry ends, and each read begins its lifetime anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.layout import emit
from benchmarks.layout.plot import Costs
from benchmarks.layout.regimes import CLAUDE, lasting
from benchmarks.layout.rules import Bill, Bills
from prefixcache_integrations.prompt.classes import MANY
from prefixcache_integrations.prompt.pieces import Block
from prefixcache_integrations.prompt.pricing import Prices, best_marks
from prefixcache_integrations.prompt.priors import Kind
from prefixcache_integrations.prompt.prospects import Company, ahead
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting
from prefixcache_integrations.prompt.steps import Step

HASHED = 512
"""Tokens per hash; the last one of a request stands for the rest."""

MINUTES = (5, 30)
REFERENCE = ("none", "write all")


class Asked(NamedTuple):
    """One request: when, in seconds, and its blocks with their tokens."""

    rid: object
    at: float
    blocks: tuple[tuple[int | str, int], ...]


class Trace(NamedTuple):
    """A named run of requests, by their times."""

    name: str
    asked: tuple[Asked, ...]


Places = tuple[int, ...]
"""The indices of a request's blocks that are marked; all up to the last is written."""

Policy = Callable[[Asked], Places]


def report(trace: Trace, folder: Path | None = None) -> list[Costs]:
    """Print what each policy costs; with a folder, write our decisions there. Return the costs."""
    total = sum(tokens for row in trace.asked for _, tokens in row.blocks)
    print(f"\n{trace.name}: {len(trace.asked):,} requests, {total:,} tokens, write decision alone")
    print(f"\n    {'':20}" + "".join(f"   {f'{minutes} min':>6}" for minutes in MINUTES))
    runs = {minutes: _runs(trace, minutes, folder) for minutes in MINUTES}
    for name in runs[MINUTES[0]]:
        print(f"    {name:20}" + "".join(f"   {runs[minutes][name].cost / total:.4f}" for minutes in MINUTES))
    for minutes, rows in runs.items():
        best, ours, oracle = (
            min((rows[name] for name in REFERENCE), key=lambda row: row.cost),
            rows["ours"],
            rows["hindsight"],
        )
        gap = best.cost - oracle.cost
        closed = f"{(best.cost - ours.cost) / gap:.0%}" if gap > 0 else "there is none"
        half = (best.cost + oracle.cost) / 2 / total
        print(f"    {minutes:2} min: gap to hindsight closed {closed} (half: {half:.4f})", end="")
        print(f"; against the best fixed {ours.cost / best.cost:.4f}, after any request {ours.worst_beside(best):.4f}")
    return [
        Costs(f"{trace.name}, {minutes} min", {name: row.cost / total for name, row in rows.items()})
        for minutes, rows in runs.items()
    ]


def _runs(trace: Trace, minutes: int, folder: Path | None) -> Mapping[str, Bills]:
    ttl = minutes * 60.0
    known = iter(_with_hindsight(trace.asked, ttl))
    ours = dict(zip(map(id, trace.asked), map(_ours(ttl), trace.asked), strict=True))
    if folder is not None:
        name = trace.name if minutes == MINUTES[0] else f"{trace.name}-{minutes}m"
        rows = (
            (row.rid, [block for block, _ in row.blocks], [(at, f"{minutes}m") for at in ours[id(row)]])
            for row in trace.asked
        )
        emit.write(rows, folder / f"{name}.jsonl")
    policies: dict[str, Policy] = {
        "none": lambda _: (),
        "write all": lambda row: (len(row.blocks) - 1,),
        "write what was seen": _seen(),
        "ours": lambda row: ours[id(row)],
        "hindsight": lambda _: next(known),
    }
    return {name: billed(trace.asked, ttl, policy) for name, policy in policies.items()}


def billed(asked: tuple[Asked, ...], ttl: float, policy: Policy) -> Bills:
    """Return what each request costs when all up to the last of its marked blocks is written."""
    alive: dict[int | str, float] = {}
    return Bills(_billed(row, ttl, max(policy(row), default=-1), alive) for row in asked)


def _billed(row: Asked, ttl: float, last: int, alive: dict[int | str, float]) -> Bill:
    read, written, tokens, reading = 0, 0, 0, True
    for place, (block, count) in enumerate(row.blocks):
        tokens += count
        reading = reading and alive.get(block, -1.0) >= row.at
        if reading:
            read += count
        elif place <= last:
            written += count
        if reading or place <= last:
            alive[block] = row.at + ttl
    return Bill(tokens + (CLAUDE.write - 1) * written - 0.9 * read, tokens, read, written)


def _seen() -> Policy:
    seen = set[int | str]()

    def decide(row: Asked) -> Places:
        found = [place for place, (block, _) in enumerate(row.blocks) if block in seen]
        seen.update(block for block, _ in row.blocks)
        return tuple(found[-1:])

    return decide


def _with_hindsight(asked: tuple[Asked, ...], ttl: float) -> Iterator[Places]:
    """Yield how much of each request is read again before its entry ends."""
    times: defaultdict[int | str, list[float]] = defaultdict(list)
    for row in reversed(asked):
        for block, _ in row.blocks:
            times[block].append(row.at)
    for row in asked:
        again: Places = ()
        for place, (block, _) in enumerate(row.blocks):
            times[block].pop()
            if times[block] and times[block][-1] - row.at <= ttl:
                again = (place,)
        yield again


def _ours(ttl: float) -> Policy:
    """Return our planner's decisions; a request is learned from after it was decided.

    What is new behind an earlier request's end comes after an answer, what else is new before one.
    """
    memory = PromptMemory(limit=1_000_000)
    profile, kinds = lasting(CLAUDE.profile, ttl), dict[bytes, Kind]()

    def decide(row: Asked) -> Places:
        snapshot, keys = memory.snapshot(row.at), [str(block).encode() for block, _ in row.blocks]
        kind: Kind = "turn" if snapshot.begun(snapshot.path(keys)) > MANY else "opening"
        known = [kinds.setdefault(key, kind) for key in keys]
        rows = zip(keys, known, (tokens for _, tokens in row.blocks), strict=True)
        blocks = [Block(key, each, tokens, markable=True) for key, each, tokens in rows]
        view = ahead(blocks, Company({}, {}, {}), profile, snapshot)
        marks = best_marks(view, Prices(profile, snapshot), enough=1).marks
        last = max(marks, default=-1)
        steps = (Step(step.key, step.likeness, ttl * (place <= last)) for place, step in enumerate(view.steps))
        memory.observe(Sighting(tuple(steps)), row.at)
        return marks

    return decide
