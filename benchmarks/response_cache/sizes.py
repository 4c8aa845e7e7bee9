"""What an entry takes: in memory (what Python allocates for it), in a SQLite file, in Redis."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from pathlib import Path

import redis
from langchain_core.load import dumps
from langchain_core.outputs import ChatGeneration

from benchmarks.response_cache.caches import CACHES, Places
from benchmarks.response_cache.figures import Figure
from benchmarks.response_cache.workload import answers, conversation, model
from prefixcache_integrations.langchain import ResponseCache

ENTRIES = 10_000
NAMES = (
    "InMemoryCache",
    "ours, memory",
    "ours, SQLite",
    "community SQLiteCache",
    "ours, Redis",
    "community RedisCache",
)


REACHES = (
    ("memory per small entry, 10k of them (10k of 2 kB are 20 MB)", ("1k", "ours, memory"), 2.0),
    ("SQLite file per small entry", ("1k", "ours, SQLite"), 1.2),
    ("SQLite file per large entry, 100k-token prompt", ("100k", "ours, SQLite"), 8.5),
    ("Redis memory per small entry, 10k of them", ("1k", "ours, Redis"), 1.0),
)


def compare(folder: Path, redis_url: str) -> list[Figure]:
    """Print the bytes per entry of each kind of cache."""
    warnings.simplefilter("ignore")
    tracemalloc.start()
    llm_string = model(answers()["small"])._get_llm_string()  # noqa: SLF001 - what LangChain asks with
    print(f"\nbytes per entry, {ENTRIES} entries of 1k tokens, {ENTRIES // 100} of 100k")
    found: dict[tuple[str, str], float] = {}
    for size, kind, count in (("1k", "small", ENTRIES), ("100k", "large", ENTRIES // 100)):
        prompt, answer = dumps(conversation(size)), answers()[kind]
        for name in NAMES:
            places = Places(folder / f"{size}-{name}", redis_url)
            client = redis.Redis.from_url(redis_url)
            client.flushall()
            before = _taken(name, places, client)
            try:
                cache = CACHES[name](places)
            except ImportError as error:
                print(f"  {size} {kind:6} {name:24} {error}")
                continue
            for number in range(count):
                # As a provider's answers come: each an object of its own, with a text of its own.
                message = answer.model_copy(deep=True, update={"content": f"{number} {answer.content}"})
                cache.update(f"{prompt[:-1]}, {number}]", llm_string, [ChatGeneration(message=message)])
            if isinstance(cache, ResponseCache) and "memory" not in name:
                cache.close()  # SQLite puts its log into the file
            taken = _taken(name, places, client) - before
            print(f"  {size} {kind:6} {name:24} {taken / count:10.0f}")
            found[size, name] = taken / count
            del cache
    tracemalloc.stop()
    return [Figure(what, found[at] / 1000, reach, "kB") for what, at, reach in REACHES]


def _taken(name: str, places: Places, client: redis.Redis) -> int:
    if "Redis" in name:
        return int(client.info("memory")["used_memory"])
    if "SQLite" in name:
        return sum(file.stat().st_size for file in places.folder.iterdir())
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
