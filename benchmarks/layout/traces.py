"""Traces of block hashes with times: whether to write what a request adds, where entries end after a while."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.layout.ours import claude, lasting
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.pricing import best_marks
from prefixcache_integrations.prompt.prospects import Block, Company, ahead
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting

BLOCK = 512
"""Tokens per hash; the last one of a request stands for the rest."""

READ, WRITE = 0.1, 1.25
MINUTES = (5, 30)


class Asked(NamedTuple):
    """One request: when, and its blocks with their tokens."""

    at: float
    blocks: tuple[tuple[int, int], ...]


def read(path: Path) -> list[Asked]:
    """Return the requests of a trace in the Mooncake format: ``timestamp`` in ms, ``input_length``, ``hash_ids``."""
    return [_asked(json.loads(line)) for line in path.read_text().splitlines()]


def _asked(row: dict[str, list[int]]) -> Asked:
    hashes = row["hash_ids"]
    rest = int(str(row["input_length"])) - BLOCK * (len(hashes) - 1)
    counts = [BLOCK] * (len(hashes) - 1) + [rest]
    return Asked(float(str(row["timestamp"])) / 1000, tuple(zip(hashes, counts, strict=True)))


def report(path: Path) -> None:
    """Print what writing everything costs, what knowing the future would, and what ours does."""
    asked = read(path)
    total = sum(tokens for row in asked for _, tokens in row.blocks)
    print(f"\n{path.parent.name}: {len(asked):,} requests, {total:,} tokens, write decision alone")
    for minutes in MINUTES:
        ttl = minutes * 60.0
        everything = _cost(asked, ttl, lambda row: len(row.blocks)) / total
        known = iter(_with_hindsight(asked, ttl))
        oracle = _cost(asked, ttl, lambda _row, known=known: next(known)) / total  # type: ignore[misc]
        ours = _cost(asked, ttl, _ours(ttl)) / total
        half = (everything + oracle) / 2
        figures = f"hindsight {oracle:.4f}   half the gap {half:.4f}   ours {ours:.4f}"
        print(f"  {minutes:2} min: write all {everything:.4f}   {figures}")


def _cost(asked: list[Asked], ttl: float, written: Callable[[Asked], int]) -> float:
    """Return the cost when of each request the first so many blocks are written."""
    alive: dict[int, float] = {}
    cost = 0.0
    for row in asked:
        upto, reading = written(row), True
        for place, (block, tokens) in enumerate(row.blocks):
            reading = reading and alive.get(block, -1.0) >= row.at
            cost += tokens * (READ if reading else WRITE if place < upto else 1)
            if reading or place < upto:
                alive[block] = row.at + ttl
    return cost


def _with_hindsight(asked: list[Asked], ttl: float) -> Iterator[int]:
    """Yield how much of each request is read again before its entry ends."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    for row in reversed(asked):
        for block, _ in row.blocks:
            times[block].append(row.at)
    for row in asked:
        upto = 0
        for place, (block, _) in enumerate(row.blocks):
            times[block].pop()
            if times[block] and times[block][-1] - row.at <= ttl:
                upto = place + 1
        yield upto


def _ours(ttl: float) -> Callable[[Asked], int]:
    memory = PromptMemory(limit=1_000_000)
    profile = lasting(claude(minimum=1), ttl)

    def decide(row: Asked) -> int:
        blocks = [Block(block.to_bytes(8, "big"), "turn", tokens, markable=True) for block, tokens in row.blocks]
        snapshot = memory.snapshot(row.at)
        view = ahead(blocks, Company({}, {}), profile, snapshot)
        choice = best_marks(view, profile, snapshot, enough=1)
        upto = max(choice.marks, default=-1) + 1
        steps = [Step(step.key, step.likeness, ttl * (place < upto)) for place, step in enumerate(view.steps)]
        memory.observe(Sighting(tuple(steps)), row.at)
        return upto

    return decide
