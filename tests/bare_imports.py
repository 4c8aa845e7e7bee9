"""Run by an interpreter that has the package and nothing but its one dependency.

Every module of floors 0 to 6 must import there, and each adapter must say which extra it needs.
Exits non-zero on the first failure.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import prefixcache_integrations

ADAPTERS = {"langchain": "langchain", "server": "server", "cli": "cli"}
TOP_FLOORS = {*ADAPTERS, "testing"}
FOREIGN = {
    "anthropic", "genai_prices", "httpx", "httpx2", "langchain", "langchain_core", "llama_index", "openai", "pydantic", "redis",
    "rich", "starlette", "tiktoken", "typer", "uvicorn",
}  # fmt: skip


def floor_of(module: str) -> str:
    return module.split(".")[1]


def main() -> None:
    root = Path(prefixcache_integrations.__file__).parent
    names = [info.name for info in pkgutil.walk_packages([str(root)], prefix="prefixcache_integrations.")]
    lower = [name for name in names if floor_of(name) not in TOP_FLOORS]
    assert len(lower) > 20, names
    for name in lower:
        importlib.import_module(name)
    loaded = FOREIGN & {name.partition(".")[0] for name in sys.modules}
    assert not loaded, f"importing floors 0 to 6 loaded {sorted(loaded)}"
    print(f"{len(lower)} modules import with no extra installed")


if __name__ == "__main__":
    main()
