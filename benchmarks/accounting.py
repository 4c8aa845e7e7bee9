"""``python -m benchmarks.accounting``: what metering adds to a call of about 100,000 tokens in a growing conversation.

Each turn is a body of its own: no list or object of the turns before is in it, only texts are shared, as an app shares
them. Its new words have been counted before, as a planner does. Told is the processor time of the calling thread: the
median over all turns of all rounds, the kinds interleaved, beside the least. Other work on the machine slows it down
still, by shared caches: read it beside the load. A row is a conversation: one of few long messages, one of many, and an
agent whose turns are tool calls and their results. What the diagnosis adds to the ledger is told in all, with the
reading of the body that it needs, and without that.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.diagnosis.scripts import prose
from benchmarks.diagnosis.shapes import SHAPES, Body, Script, Shape
from prefixcache_integrations import dialects, profiles, tokens
from prefixcache_integrations.canonical import Tokenizer, Usage
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.insight.simulator import PromptCache
from prefixcache_integrations.metering import Meter

TOKENS = 100_000
TURNS = 40
ROUNDS = 5
WORDS = {"long turns": 450, "short turns": 150, "agent": 150}


def script(kind: str) -> Script:
    """Return a conversation that begins with some 100,000 tokens."""
    rng, numbers = random.Random(5), iter(range(10**6))
    words = WORDS[kind]

    def step() -> list[tuple[str, object]]:
        if kind != "agent":
            return [("assistant", prose(rng, words)), ("user", [prose(rng, words)])]
        called = f"call_{next(numbers)}"
        return [("calls", [(called, "look_up", {"text": prose(rng, 5)})]), ("results", [(called, prose(rng, words))])]

    size, events = 0, [("user", [prose(rng, 20)])]
    while size < TOKENS:
        added = step()
        size += sum(tokens.load().count(str(value)) for _, value in added)
        events += added
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    tools = (("look_up", "Look something up.", schema),) if kind == "agent" else ()
    return Script(system=prose(rng, 800), tools=tools, turns=(tuple(events), *(tuple(step()) for _ in range(TURNS))))


def billed(bodies: list[Body], shape: Shape, tokenizer: Tokenizer) -> Iterator[Usage]:
    """Yield what the provider bills for each of the bodies."""
    cache, profile = PromptCache(tokenizer), profiles.resolve(shape.model, shape.provider)
    for body in bodies:
        request = dialects.by_name(shape.dialect).decode_request(body)
        ticket = cache.begin(request, profile, scope="", now=0)
        cache.started(ticket, now=0)
        yield ticket.usage


def measure(meter: Meter, bodies: list[Body], bills: list[Usage], shape: Shape) -> list[tuple[float, float]]:
    """Return the processor seconds of each call, in all and without reading it; the first two are left out."""
    taken, labels, dialect = [], Labels(app="shop", session="s", tags=("bench",)), dialects.by_name(shape.dialect)
    for body, usage in zip(bodies, bills, strict=True):
        started = time.thread_time()
        request = meter.reader.read(dialect, body) if meter.reads_requests else None
        read = time.thread_time()
        call = meter.begin(body["model"], shape.provider, labels=labels)
        if request is not None:
            call.sent(request)
        recorded = call.answered(usage)
        ended = time.thread_time()
        taken.append((ended - started, ended - read))
        if recorded is None or recorded.broken is not None:
            raise AssertionError(recorded)
    return taken[2:]


def main() -> None:
    """Print microseconds per call."""
    tokenizer = tokens.load()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; median and least in us")
    names = ("ledger", "+ diagnosis: all", "without reading", "+ recording: all", "without reading")
    print(f"{'conversation':14}{'shape':20}{'messages':>9}" + "".join(f"{name:>18}" for name in names))
    for kind in WORDS:
        for shape in SHAPES:
            bodies = shape.bodies(script(kind))
            bills = list(billed(bodies, shape, tokenizer))
            taken: defaultdict[str, list[float]] = defaultdict(list)
            for _ in range(ROUNDS):
                for name, meter in meters(tokenizer):
                    for whole, rest in measure(meter, bodies, bills, shape):
                        taken[name].append(whole)
                        taken[f"{name} without reading"].append(rest)
            rows = list(taken.values())
            cells = "".join(f"{median(row) * 1e6:>11.0f} {min(row) * 1e6:>6.0f}" for row in (rows[0], *rows[2:]))
            print(f"{kind:14}{shape.name:20}{len(bodies[TURNS // 2]['messages']):>9}{cells}")
    print(f"load average {os.getloadavg()[0]:.1f}")


def meters(tokenizer: Tokenizer) -> Iterator[tuple[str, Meter]]:
    """Yield a meter of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"ledger": {}, "diagnosis": {"diagnose": True}, "recording": {"record": Path(folder) / "run.jsonl"}}
        for name, given in options.items():
            yield name, Meter(observers=[Ledger(clock=time.time)], tokenizer=tokenizer, **given)


if __name__ == "__main__":
    main()
