"""``python -m benchmarks.response_cache``: our hits beside those of other caches and beside the least they could cost.

All figures of a table are taken in turns in one run: their ratios compare from machine to machine, they themselves do
not. Those that count come last, each beside what it has to reach. Caches that are not installed or do not open here
are named with the reason; ``make bench`` installs them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.response_cache import figures, floors, hits, outage, sizes, tasks
from benchmarks.response_cache.caches import Places
from tests.redis_server import RedisServer, provide_server

PARTS = ("hits", "floors", "tasks", "sizes", "outage")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="What a hit costs, beside other caches and beside its floor.")
    parser.add_argument("--rounds", type=int, default=300, help="hits per figure at the shortest prompt")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it; may be given again")
    parser.add_argument("--outage", type=float, default=30, metavar="SECONDS", help="how long the server is away")
    options = parser.parse_args()
    parts = options.only or PARTS
    found: list[figures.Figure] = []
    server = RedisServer(provide_server())
    try:
        with tempfile.TemporaryDirectory() as name:
            folder, url = Path(name), server.url()
            if "hits" in parts:
                found += hits.compare(folder / "hits", url, options.rounds)
            if "floors" in parts:
                for size, length in floors.PROMPT_TOKENS.items():
                    found += floors.compare(size, floors.prompt(length), url, folder / size, options.rounds)
            if "tasks" in parts:
                found += asyncio.run(tasks.compare(Places(folder / "tasks", url)))
            if "sizes" in parts:
                found += sizes.compare(folder / "sizes", url)
            if "outage" in parts:
                found += outage.compare(options.outage)
            figures.show(found)
    finally:
        server.close()


if __name__ == "__main__":
    main()
