"""``python -m benchmarks.accounting``: what metering adds to a call of about 100,000 tokens in a growing conversation.

Each turn is decoded anew, as from the wire: no object of the turns before is in it, only texts are shared, as an app
shares them. Its new words have been counted before, as a planner does. Told is the processor time of the calling
thread: the median over all turns of all rounds, the kinds interleaved, beside the 90th percentile. Other work on the
machine slows it down still, by shared caches: read it beside the load. A row is a conversation: one of few long
messages, one of many, and an agent whose turns are tool calls and their results.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

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


def measure(meter: Meter, bodies: list[Body], bills: list[Usage], shape: Shape) -> list[float]:
    """Return the processor seconds that each call spends in the meter, the first two left out."""
    taken, labels = [], Labels(app="shop", session="s", tags=("bench",))
    for body, usage in zip(bodies, bills, strict=True):
        request = dialects.by_name(shape.dialect).decode_request(body)
        started = time.thread_time()
        call = meter.begin(request.model, shape.provider, labels=labels)
        if meter.reads_requests:
            call.sent(request)
        recorded = call.answered(usage)
        taken.append(time.thread_time() - started)
        if recorded is None or recorded.broken is not None:
            raise AssertionError(recorded)
    return taken[2:]


def main() -> None:
    """Print microseconds per call."""
    tokenizer = tokens.load()
    settings = ("ledger", "ledger, diagnosis", "ledger, diagnosis, recording")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; median and 90th percentile in us")
    print(f"{'conversation':14}{'shape':20}{'messages':>9}" + "".join(f"{name:>30}" for name in settings))
    for kind in WORDS:
        for shape in SHAPES:
            bodies = shape.bodies(script(kind))
            bills = list(billed(bodies, shape, tokenizer))
            taken: defaultdict[str, list[float]] = defaultdict(list)
            for _ in range(ROUNDS):
                for name, meter in meters(tokenizer):
                    taken[name] += measure(meter, bodies, bills, shape)
            cells = "".join(
                f"{median(taken[name]) * 1e6:>23.0f} {quantiles(taken[name], n=10)[-1] * 1e6:>6.0f}"
                for name in settings
            )
            print(f"{kind:14}{shape.name:20}{len(bodies[TURNS // 2]['messages']):>9}{cells}")
    print(f"load average {os.getloadavg()[0]:.1f}")


def meters(tokenizer: Tokenizer) -> Iterator[tuple[str, Meter]]:
    """Yield a meter of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        options = ({}, {"diagnose": True}, {"record": Path(folder) / "run.jsonl"})
        for name, given in zip(("ledger", "ledger, diagnosis", "ledger, diagnosis, recording"), options, strict=True):
            yield name, Meter(observers=[Ledger(clock=time.time)], tokenizer=tokenizer, **given)


if __name__ == "__main__":
    main()
