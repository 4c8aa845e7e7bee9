"""A hit in each store beside the least it could cost, interleaved in one run.

The floors are a dict, a SELECT by primary key with sqlite3, and a GET with redis-py, each of the bytes that the store
beside it keeps. Figures are medians; ratios of figures taken in one run compare from machine to machine.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import redis
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

from benchmarks.response_cache.figures import Figure
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.langchain.generations import read, write
from prefixcache_integrations.prompt.keys import raw_key
from prefixcache_integrations.stores import MemoryStore, open_store
from prefixcache_integrations.stores.envelope import pack

LLM = '{"model": "gpt-4o-mini", "temperature": 0.0, "tools": []}'
WORDS = [
    "the",
    "customer",
    "asked",
    "about",
    "an",
    "order",
    "that",
    "was",
    "returned",
    "or",
    "never",
    "sent",
    "at",
    "all",
]
PROMPT_TOKENS = {"1k": 1_000, "20k": 20_000, "100k": 100_000}


def text(tokens: int) -> str:
    """Return English of about as many tokens."""
    return " ".join(WORDS[(number * 7 + number // 5) % len(WORDS)] for number in range(tokens))


def prompt(tokens: int) -> str:
    """Return a prompt as LangChain hands it to a cache."""
    return dumps([SystemMessage(text(tokens)), HumanMessage("What now?")])


ANSWER = [ChatGeneration(message=AIMessage(text(200), response_metadata={"finish_reason": "stop"}))]


def compare(size: str, question: str, url: str, path: Path, rounds: int) -> list[Figure]:
    """Print what a lookup costs in each store, over its floor alone and over floor, key and decoding together."""
    stores = {
        "memory": MemoryStore(),
        "SQLite": open_store(f"sqlite:///{path}"),
        "Redis": open_store(f"{url}?timeout=1"),
        "Redis behind memory": open_store(f"{url}?timeout=1&memory_ttl=600"),
    }
    caches = {name: ResponseCache(store) for name, store in stores.items()}
    for cache in caches.values():
        cache.update(question, LLM, ANSWER)
    entry = write(ANSWER) or Entry(codec="", body=b"")
    kept = pack(EntryKey("", "v1.sha256." + "0" * 64), entry)
    works: dict[str, Callable[[], object]] = floors(kept, url, path)
    works |= {name: (lambda cache=cache: cache.lookup(question, LLM)) for name, cache in caches.items()}
    works["key"] = lambda: raw_key(question, LLM)
    works["decoding"] = lambda: read(entry, key="key", new_id=lambda: "id")
    times = measure(works, rounds)
    print(f"\nprompt of {size} tokens; key {times['key']:.1f} us, decoding {times['decoding']:.1f} us")
    for name, floor in (("memory", "dict"), ("SQLite", "SELECT"), ("Redis", "GET"), ("Redis behind memory", "GET")):
        least = times[floor] + times["key"] + times["decoding"]
        print(
            f"  {name:20} {times[name]:8.1f} us = {times[name] / times[floor]:6.2f} x {floor} ({times[floor]:.1f} us)"
            f" = {times[name] / least:5.2f} x ({floor} + key + decoding)"
        )
    for store in stores.values():
        store.close()
    if size != "1k":
        return []
    least = times["GET"] + times["key"] + times["decoding"]
    return [
        Figure("lookup hit, 1k: Redis / (GET + key + decoding)", times["Redis"] / least, 1.25),
        Figure("lookup hit, 1k: Redis behind memory / GET", times["Redis behind memory"] / times["GET"], 0.4),
    ]


def floors(kept: bytes, url: str, path: Path) -> dict[str, Callable[[], object]]:
    """Return reads of ``kept`` with nothing around them."""
    table = {"key": kept}
    file = sqlite3.connect(f"{path}.floor")
    file.execute("CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB)")
    file.execute("INSERT INTO kept VALUES ('key', ?)", (kept,))
    file.commit()
    client = redis.Redis.from_url(url)
    client.set("floor", kept)
    return {
        "dict": lambda: table["key"],
        "SELECT": lambda: file.execute("SELECT value FROM kept WHERE name = ?", ("key",)).fetchone(),
        "GET": lambda: client.get("floor"),
    }


def measure(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median microseconds of each, taken in turns so that a slow moment of the machine meets all."""
    times: dict[str, list[int]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter_ns()
            work()
            times[name].append(time.perf_counter_ns() - started)
    return {name: statistics.median(taken) / 1000 for name, taken in times.items()}
