"""``python -m benchmarks.accounting``: what metering adds to a call of about 100,000 tokens in a growing conversation.

Each turn is decoded anew, as from the wire; its new words have been counted before, as a planner does. The share of
the diagnosis alone is in ``benchmarks.diagnosis``.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median

from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Tokenizer, Usage
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.metering import Meter

WORDS = ("alpha", "beta", "gamma", "delta", "order", "flight", "city", "the", "of", "and")
MESSAGES = 219
TURNS = 40
ROUNDS = 5
"""Of which the least is told: whatever else the machine does only adds."""
MARK = {"cache_control": {"type": "ephemeral"}}


def _message(rng: random.Random, number: int) -> dict[str, object]:
    text = " ".join(rng.choice(WORDS) for _ in range(450))
    return {"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": text}]}


def _body(messages: list[dict[str, object]]) -> dict[str, object]:
    *before, last = messages
    [block] = last["content"]
    marked = {**last, "content": [{**block, **MARK}]}
    return {"model": "claude-sonnet-4-6", "max_tokens": 1, "messages": [*before, marked]}


def measure(meter: Meter, tokenizer: Tokenizer) -> float:
    """Return the median seconds that a call spends in the meter, the first two left out."""
    rng, read, taken = random.Random(1), 0, []
    messages = [_message(rng, number) for number in range(MESSAGES)]
    for turn in range(TURNS):
        request = ANTHROPIC_MESSAGES.decode_request(_body(messages))
        size = sum(tokenizer.count(part.text) for message in request.messages for part in message.parts)
        usage = Usage(input_tokens=size, cache_read_tokens=read, cache_write_tokens=size - read, output_tokens=3)
        started = time.perf_counter()
        call = meter.begin(request.model, "anthropic", labels=Labels(app="shop", session="s", tags=("bench",)))
        if meter.reads_requests:
            call.sent(request)
        call.answered(usage)
        taken.append(time.perf_counter() - started)
        read = size
        messages += [_message(rng, MESSAGES + 2 * turn), _message(rng, MESSAGES + 2 * turn + 1)]
    return median(taken[2:])


def main() -> None:
    """Print microseconds per call: the median of a round, interleaved."""
    tokenizer = tokens.load()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "ledger": {},
            "ledger and diagnosis": {"diagnose": True},
            "ledger, diagnosis and recording": {"record": Path(folder) / "run.jsonl"},
        }
        taken: dict[str, list[float]] = {name: [] for name in settings}
        for _ in range(ROUNDS):
            for name, given in settings.items():
                taken[name].append(
                    measure(Meter(observers=[Ledger(clock=time.time)], tokenizer=tokenizer, **given), tokenizer)
                )
        for name, medians in taken.items():
            print(f"{name:34}{min(medians) * 1e6:>8.0f} us")


if __name__ == "__main__":
    main()
