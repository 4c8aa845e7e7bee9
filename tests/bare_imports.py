"""Run by an interpreter that has the package and nothing but its one dependency.

Every module of floors 0 to 6 must import there without loading anything foreign, and whatever needs an extra
must name it. Exits non-zero on the first failure.
"""

import importlib
import sys
from pathlib import Path

import prefixcache_integrations
from prefixcache_integrations.errors import ConfigurationError

ROOT = Path(prefixcache_integrations.__file__).parent
TOP_FLOORS = {"cli", "langchain", "llama_index", "otel", "server", "testing"}
NEED_AN_EXTRA = {
    "prefixcache_integrations.langchain": ("langchain", "ResponseCache"),
    "prefixcache_integrations.llama_index": ("llama-index", "enable"),
    "prefixcache_integrations.otel": ("otel", "OpenTelemetryObserver"),
    "prefixcache_integrations.server": ("server", "Simulator"),
}
FOREIGN = {
    "anthropic", "cryptography", "genai_prices", "httpx", "httpx2", "langchain", "langchain_core", "llama_index", "openai",
    "opentelemetry", "pydantic", "redis", "rich", "starlette", "tiktoken", "typer", "uvicorn", "zstandard",
}  # fmt: skip


def modules() -> list[str]:
    paths = (path.relative_to(ROOT.parent).with_suffix("") for path in sorted(ROOT.rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def missing_extra(module: str, attribute: str) -> str:
    try:
        getattr(importlib.import_module(module), attribute)
    except ConfigurationError as error:
        return str(error)
    return "nothing"


def imports_or_names_its_extra(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ConfigurationError as error:
        if "prefixcache-integrations[" not in str(error):
            raise
        return False
    return True


def main() -> None:
    lower = [name for name in modules() if not TOP_FLOORS & set(name.split(".")[1:2])]
    if len(lower) < 20:
        sys.exit(f"only {len(lower)} modules were found: {lower}")
    drivers = [name for name in lower if not imports_or_names_its_extra(name)]
    if unexpected := [name for name in drivers if not name.startswith("prefixcache_integrations.stores.")]:
        sys.exit(f"these need an extra, and should not: {unexpected}")
    if loaded := FOREIGN & {name.partition(".")[0] for name in sys.modules}:
        sys.exit(f"importing floors 0 to 6 loaded {sorted(loaded)}")
    for module, (extra, attribute) in NEED_AN_EXTRA.items():
        if f"prefixcache-integrations[{extra}]" not in (said := missing_extra(module, attribute)):
            sys.exit(f"{module} should name the extra {extra}; it said {said}")
    sys.stdout.write(
        f"{len(lower) - len(drivers)} modules import with no extra installed, {len(drivers)} name theirs\n"
    )


if __name__ == "__main__":
    main()
