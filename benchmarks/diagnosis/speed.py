"""What the diagnosis adds to a call, for a prompt that only grows: turns known as objects, and decoded anew."""

from __future__ import annotations

import random
import time
from itertools import pairwise, product
from statistics import median

from msgspec.structs import replace

from benchmarks.diagnosis.scripts import prose
from benchmarks.diagnosis.shapes import SHAPES, Body, Script, Shape
from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import Tokenizer
from prefixcache_integrations.insight.diagnosis import Explainer
from prefixcache_integrations.insight.simulator import PromptCache

TOKENS = 100_000
TURNS = 40


def long_bodies(shape: Shape, tokenizer: Tokenizer, words: int) -> list[Body]:
    """Return the bodies of a conversation that begins with some 100,000 tokens and goes on for some turns.

    ``words`` is the length of an answer in it.
    """
    rng = random.Random(5)
    events, tokens = [("user", [prose(rng, 20)])], 0
    while tokens < TOKENS:
        text = prose(rng, words)
        tokens += tokenizer.count(text)
        events += [("assistant", text), ("user", [prose(rng, 20)])]
    later = [[("assistant", prose(rng, 80)), ("user", [f"{number}: {prose(rng, 30)}"])] for number in range(TURNS)]
    turns = [events, *later]
    return shape.bodies(Script(system=prose(rng, 500), tools=(), turns=tuple(map(tuple, turns))))


def measure(tokenizer: Tokenizer) -> None:
    """Print microseconds per call, and the ratio to what reading the whole prompt costs."""
    print(f"{'shape':22}{'messages':>9}{'same objects':>15}{'decoded anew':>15}{'in full':>12}{'ratio':>8}")
    for shape, words in product(SHAPES, (300, 1500)):
        bodies = long_bodies(shape, tokenizer, words)
        decode = dialects.by_name(shape.dialect).decode_request
        anew = [decode(body) for body in bodies]
        shared = _shared(anew)
        quick, decoded, full = (
            _times(rows, shape, tokenizer, known=known)
            for rows, known in ((shared, True), (anew, True), (anew[:4], False))
        )
        print(
            f"{shape.name:22}{len(anew[-1].messages):>9}{quick:>12.0f} us{decoded:>12.0f} us{full:>9.0f} us"
            f"{full / decoded:>7.0f}x"
        )


def _shared(requests: list) -> list:
    """Return the requests with the messages they have in common as the same objects, markers apart."""
    kept: list = []
    found = []
    for request in requests:
        messages = [old if old == new else new for old, new in zip(kept, request.messages, strict=False)]
        kept = [*messages, *request.messages[len(messages) :]]
        found.append(replace(request, messages=tuple(kept)))
    return found


def _times(requests: list, shape: Shape, tokenizer: Tokenizer, *, known: bool) -> float:
    profile = profiles.resolve(shape.model, shape.provider)
    explainer, cache, taken = Explainer(tokenizer), PromptCache(tokenizer), []
    for previous, current in pairwise(requests):
        for message in current.messages[-2:]:
            for part in message.parts:
                tokenizer.count(part.text)  # the planner has counted it already
        usage = cache.begin(current, profile, scope="", now=0).usage if not known else None
        explainer = explainer if known else Explainer(tokenizer)
        start = time.perf_counter()
        said = explainer.explain(previous, current, profile=profile, elapsed=1.0, usage=usage, earlier=())
        taken.append(time.perf_counter() - start)
        if said.broken and known:
            raise AssertionError(said.render())
    return median(taken[1:]) * 1e6
