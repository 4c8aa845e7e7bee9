"""Hits of many tasks at once, in every cache that can be awaited: those without an awaiting face of their own too."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
import warnings
from collections.abc import Awaitable, Callable

from langchain_core.caches import BaseCache
from langchain_core.load import dumps

from benchmarks.response_cache.caches import AWAITED, CACHES, Places, opened
from benchmarks.response_cache.figures import Figure
from benchmarks.response_cache.floors import ANSWER, LLM
from benchmarks.response_cache.workload import conversation

TASKS, TURNS, ROUNDS = 32, 60, 7
BURST = 400
FIGURES = (("ours, Redis", "community AsyncRedisCache", 4), ("ours, SQLite", "community SQLiteCache", 15))


async def compare(places: Places) -> list[Figure]:
    """Print hits per second of `TASKS` tasks at once, and how many of `BURST` at once are hits."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # AsyncRedisCache writes a line for every task that it turns away
    caches, missing = opened(places, CACHES | AWAITED)
    question = dumps(conversation("1k"))
    rates: dict[str, list[float]] = {}
    served: dict[str, int] = {}
    for name, cache in [*caches.items()]:
        try:
            await cache.aupdate(question, LLM, ANSWER)
            served[name] = await _served(cache, question)
        except Exception as error:  # noqa: BLE001 - another's cache may fail in any way
            missing[name] = f"{type(error).__name__}: {str(error)[:60]}"
            del caches[name]
    for _ in range(ROUNDS):
        for name, cache in caches.items():
            rates.setdefault(name, []).append(await _rate(lambda cache=cache: cache.alookup(question, LLM)))
    taken = {name: statistics.median(each) for name, each in rates.items()}
    print(f"\n{TASKS} tasks, hits per second, prompt of 1k tokens; hits of {BURST} at once")
    for name, rate in taken.items():
        print(f"  {name:28} {rate:10.0f} {served[name]:8}")
    for name, why in missing.items():
        print(f"  {name:28} {why}")
    for cache in caches.values():
        if hasattr(cache, "aclose"):
            await cache.aclose()
    return [
        Figure(
            f"alookup, {TASKS} tasks, hits per second: {name} / {peer}", taken[name] / taken[peer], reach, at_least=True
        )
        for name, peer, reach in FIGURES
        if peer in taken
    ]


async def _served(cache: BaseCache, question: str) -> int:
    found = await asyncio.gather(*(cache.alookup(question, LLM) for _ in range(BURST)))
    return sum(answer is not None for answer in found)


async def _rate(ask: Callable[[], Awaitable[object]]) -> float:
    async def work() -> None:
        for _ in range(TURNS):
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    return TASKS * TURNS / (time.perf_counter() - started)
