"""A hit, and an update, in every cache: asked directly, and by ``model.invoke``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from benchmarks.response_cache.caches import Places, opened
from benchmarks.response_cache.figures import Figure
from benchmarks.response_cache.workload import SIZES, TOOLS, answers, conversation, measure, model
from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.langchain.asked import Asked
from prefixcache_integrations.stores import MemoryStore

ROUNDS = {"1k": 1.0, "20k": 0.4, "100k": 0.2}
BASIS = "InMemoryCache"
PEER = "community SQLiteCache"
VIEW = "with_response_cache, memory"

Works: TypeAlias = dict[str, Callable[[], object]]
Times: TypeAlias = dict[str, float]


def compare(folder: Path, redis_url: str, rounds: int) -> list[Figure]:
    """Print what a hit costs in each cache, and its ratio to core's `InMemoryCache`."""
    warnings.simplefilter("ignore")  # the peers warn on every hit
    figures: list[Figure] = []
    for size in SIZES:
        for kind, answer in answers().items():
            places = Places(folder / f"{size}-{kind}", redis_url)
            figures += _compare(size, kind, answer, places, int(rounds * ROUNDS[size]))
    return figures


def _compare(size: str, kind: str, answer: AIMessage, places: Places, rounds: int) -> list[Figure]:
    caches, missing = opened(places)
    messages = conversation(size)
    invokes: Works = {}
    lookups: Works = {}
    updates: Works = {}
    prompt = dumps([message.model_copy(update={"id": None}) for message in messages])
    asked = model(answer).bind_tools(TOOLS)
    llm_string = asked.bound._get_llm_string(**asked.kwargs)  # noqa: SLF001 - what LangChain asks with
    generations = [ChatGeneration(message=answer)]
    for name, cache in caches.items():
        bound = model(answer, cache).bind_tools(TOOLS)
        try:
            bound.invoke(messages)
            cache.update(prompt, llm_string, generations)
            found = cache.lookup(prompt, llm_string)
        except Exception as error:  # noqa: BLE001 - another's cache may fail in any way
            missing[name] = f"{type(error).__name__}: {str(error)[:60]}"
            continue
        if not found:
            missing[name] = "does not find what it was given"
            continue
        invokes[name] = lambda bound=bound: bound.invoke(messages)
        # A new string each time: LangChain makes one for every call, and a string keeps its hash.
        lookups[name] = lambda cache=cache: cache.lookup(prompt[:-1] + "]", llm_string)
        updates[name] = lambda cache=cache: cache.update(prompt[:-1] + "]", llm_string, generations)
    view = with_response_cache(model(answer), ResponseCache(MemoryStore())).bind_tools(TOOLS)
    view.invoke(messages)
    invokes[VIEW] = lambda: view.invoke(messages)
    taken = measure(invokes, rounds), measure(lookups, rounds), measure(updates, max(rounds // 4, 5))
    _print(size, kind, *taken)
    figures = _figures(f"{size} {kind}", *taken)
    for name, why in missing.items():
        print(f"  {name:28} {why}")
    if kind == "small":
        settings = ResponseCache(MemoryStore()).front.settings
        first = measure({"first": lambda: Asked(settings).terms(prompt, llm_string)}, 30)
        print(f"  first sight (parse and key) {first['first']:8.1f} us for {len(prompt)} characters")
        if size == "100k":
            figures.append(Figure("first sight of a 100k-token prompt", first["first"] / 1000, 2, "ms"))
    return figures


def _figures(what: str, invokes: Times, lookups: Times, updates: Times) -> list[Figure]:
    figures = [Figure(f"invoke hit, {what}: memory / InMemoryCache", invokes["ours, memory"] / invokes[BASIS], 1.15)]
    if not what.startswith("1k"):
        faster = invokes[BASIS] / invokes[VIEW]
        figures.append(Figure(f"invoke hit, {what}: InMemoryCache / with_response_cache", faster, 2, at_least=True))
    if what != "1k small":
        return figures
    for name, reach in (("SQLite", 1.35), ("Redis", 1.7)):
        ratio = invokes[f"ours, {name}"] / invokes[BASIS]
        figures.append(Figure(f"invoke hit, {what}: {name} / InMemoryCache", ratio, reach))
    for called, times, reach in (("lookup hit", lookups, 10), ("update", updates, 30)):
        if PEER in times:
            ratio = times[PEER] / times["ours, SQLite"]
            figures.append(Figure(f"{called}, {what}: {PEER} / SQLite", ratio, reach, at_least=True))
    return figures


def _print(size: str, kind: str, invokes: Times, lookups: Times, updates: Times) -> None:
    print(f"\nprompt {size}, answer {kind}: median us (ratio to {BASIS})")
    print(f"  {'':28} {'invoke':>16} {'lookup':>18} {'update':>18}")
    for name, taken in invokes.items():
        others = [times for times in (lookups, updates) if name in times]
        cells = [f"{times[name]:8.1f} ({times[name] / times[BASIS]:6.1f})" for times in others]
        print(f"  {name:28} {taken:8.0f} ({taken / invokes[BASIS]:5.2f}) {''.join(f'{cell:>19}' for cell in cells)}")
