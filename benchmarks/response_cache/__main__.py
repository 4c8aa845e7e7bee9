"""``python -m benchmarks.response_cache``: our hits beside those of other caches and beside the least they could cost.

All figures of a table are taken in turns in one run: their ratios compare from machine to machine, they themselves do
not. Caches that are not installed or do not open here are named with the reason; ``make bench`` installs them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.response_cache import floors, hits, sizes
from tests.redis_server import RedisServer, provide_server

PARTS = ("hits", "floors", "tasks", "sizes")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="What a hit costs, beside other caches and beside its floor.")
    parser.add_argument("--rounds", type=int, default=300, help="hits per figure at the shortest prompt")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it; may be given again")
    options = parser.parse_args()
    parts = options.only or PARTS
    server = RedisServer(provide_server())
    try:
        with tempfile.TemporaryDirectory() as name:
            folder, url = Path(name), server.url()
            if "hits" in parts:
                hits.compare(folder / "hits", url, options.rounds)
            if "floors" in parts:
                for size, tokens in floors.PROMPT_TOKENS.items():
                    floors.compare(size, floors.prompt(tokens), url, folder / size, options.rounds)
            if "tasks" in parts:
                asyncio.run(floors.compare_tasks(url, folder / "tasks"))
            if "sizes" in parts:
                sizes.compare(folder / "sizes", url)
    finally:
        server.close()


if __name__ == "__main__":
    main()
