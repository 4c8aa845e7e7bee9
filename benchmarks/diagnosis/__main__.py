"""``python -m benchmarks.diagnosis [--data DIR]...``: how many injected faults are named, placed and counted right.

With ``--data`` over conversations in the block format (``blocks.jsonl``, ``requests.jsonl``), else over made-up ones.
Classes that a workload has no place for (images, documents) come from made-up conversations, and are starred.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.diagnosis import scripts, speed
from benchmarks.diagnosis.bed import Bed
from benchmarks.diagnosis.faults import CONTENT, OTHER, Case, Fault, below_minimum, inject
from benchmarks.diagnosis.shapes import SHAPES, Shape
from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Tokenizer

BUILT = {"document_order_changed": scripts.library, "images_changed": scripts.gallery, "below_minimum": scripts.short}
TRIES = 40


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[], help="a folder with a workload")
    parser.add_argument("--cases", type=int, default=50, help="faults per class")
    parser.add_argument("--clean", type=int, default=50, help="clean conversations per shape")
    options = parser.parse_args()
    tokenizer = tokens.load()
    print(f"tokenizer {tokenizer.name}, exact: {tokenizer.exact}")
    if not options.data:
        run("made up", [scripts.agent(seed) for seed in range(50)], tokenizer, options)
    for folder in options.data:
        run(folder.name, list(scripts.read_workload(folder)), tokenizer, options)
    print("\nmedian cost of one explanation, append-only, 100,000 tokens")
    speed.measure(tokenizer)


def run(name: str, conversations: Sequence[scripts.Script], tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    """Print a row per class, and the alarms on clean conversations."""
    bed = Bed(tokenizer)
    print(
        f"\n{name}: {len(conversations)} conversations\n"
        f"{'class':26}{'cases':>6}{'class':>7}{'place':>7}{'tokens':>7}{'all':>7}"
    )
    total: Counter[str] = Counter()
    for fault in CONTENT + OTHER:
        counts: Counter[str] = Counter()
        for seed in range(options.cases):
            drawn = draw(fault, conversations, seed, bed)
            if drawn is None:
                continue
            case, shape, built = drawn
            verdict = bed.judge(case, shape, told=seed % 2 == 1)
            counts.update(cases=1, reason=verdict.reason, place=verdict.place, numbers=verdict.numbers)
            counts.update(right=verdict.right, built=built)
        total += counts
        print(row(fault.__name__ + ("*" if counts["built"] else ""), counts))
    print(row("all", total))
    for shape in SHAPES:
        clean = [shape.bodies(script) for script in conversations[: options.clean]]
        alarms = sum(len(bed.alarms(bodies, shape)) for bodies in clean)
        pairs = sum(map(len, clean)) - len(clean)
        print(f"clean, {shape.name}: {alarms} alarms in {pairs} pairs, before and after sending")


def draw(fault: Fault, conversations: Sequence[scripts.Script], seed: int, bed: Bed) -> tuple[Case, Shape, bool] | None:
    """Return a case of ``fault``, its shape, and whether the conversation had to be made up."""
    rng = random.Random(f"{fault.__name__} {seed}")
    for built in (False, True):
        for _ in range(TRIES if fault is not below_minimum or built else 0):
            shape = rng.choice(SHAPES)
            script = (
                BUILT.get(fault.__name__, scripts.agent)(rng.randrange(10**6)) if built else rng.choice(conversations)
            )
            case = inject(fault, rng, shape.bodies(script), shape)
            if case is not None and bed.has_effect(case, shape):
                return case, shape, built
    return None


def row(name: str, counts: Counter[str]) -> str:
    """Return one line of the table."""
    cells = "".join(f"{counts[key]:>7}" for key in ("reason", "place", "numbers", "right"))
    return f"{name:26}{counts['cases']:>6}{cells}"


if __name__ == "__main__":
    main()
