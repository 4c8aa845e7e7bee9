"""``python -m benchmarks.breaks``: what it costs a call of about 100,000 tokens to be told why it missed.

A conversation of `benchmarks.accounting` goes on for some turns, and the next one breaks its prefix. Told is the
processor time of the calling thread, the least and the median of some rounds, without the reading of the body: of the
diagnosis, and of finding the conversation before it.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.accounting import WORDS, billed, script
from benchmarks.diagnosis.shapes import SHAPES, Body, Shape
from prefixcache_integrations import dialects, tokens
from prefixcache_integrations.canonical import Tokenizer, Usage
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.metering import Meter

TURNS, ROUNDS = 10, 7
LABELS = Labels(app="shop", session="s")


def edited(body: Body, place: float) -> Body:
    """Change a message: the one after so much of them."""
    message = body["messages"][int(len(body["messages"]) * place)]
    if isinstance(message.get("content"), list):
        message["content"][0] = {"type": "text", "text": "Something else."}
    else:
        message["content"] = "Something else."
    return body


def instructed(body: Body) -> Body:
    """Put the time ahead of the instructions."""
    holder = body["system"][0] if "system" in body else body["messages"][0]
    field = "text" if "system" in body else "content"
    holder[field] = f"It is 12:03.\n{holder[field]}"
    return body


def dropped(body: Body) -> Body:
    """Drop the oldest messages."""
    first = 0 if "system" in body else 1
    del body["messages"][first : first + 20]
    return body


BREAKS: Mapping[str, Callable[[Body], Body]] = {
    "instructions": instructed,
    "early message": lambda body: edited(body, 0.1),
    "late message": lambda body: edited(body, 0.9),
    "oldest dropped": dropped,
}


def measure(bodies: list[Body], bills: list[Usage], shape: Shape, tokenizer: Tokenizer) -> float:
    """Return the milliseconds that the last of ``bodies`` takes, which breaks the prefix."""
    meter, dialect = Meter(observers=[Ledger(clock=time.time)], tokenizer=tokenizer, diagnose=True), shape.dialect
    for body, usage in zip(bodies, bills, strict=True):
        request = meter.reader.read(dialects.by_name(dialect), body)
        started = time.thread_time()
        call = meter.begin(request.model, shape.provider, labels=LABELS)
        call.sent(request)
        recorded = call.answered(usage)
        taken = time.thread_time() - started
    if recorded is None or recorded.broken is None or recorded.broken.reason == "dropped_by_provider":
        raise AssertionError(recorded)
    return taken * 1e3


def main() -> None:
    """Print milliseconds per break."""
    tokenizer = tokens.load()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; least and median in ms")
    print(f"{'conversation':14}{'shape':20}{'messages':>9}" + "".join(f"{name:>18}" for name in BREAKS))
    for kind in WORDS:
        for shape in SHAPES:
            turns = shape.bodies(script(kind))[: TURNS + 1]
            cells = ""
            for breaks in BREAKS.values():
                bodies = [*turns[:-1], breaks(copy.deepcopy(turns[-1]))]
                bills = list(billed(bodies, shape, tokenizer))
                taken = [measure(bodies, bills, shape, tokenizer) for _ in range(ROUNDS)]
                cells += f"{min(taken):>11.1f} {median(taken):>6.1f}"
            print(f"{kind:14}{shape.name:20}{len(turns[-1]['messages']):>9}{cells}")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
