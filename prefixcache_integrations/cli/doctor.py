"""``prefixcache doctor``: whether this environment can do what the package promises."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Literal

import typer
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from prefixcache_integrations import tokens
from prefixcache_integrations.cli.output import AsJson, Exit, address, answer_json, console, explained, plain
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import open_store
from prefixcache_integrations.stores.survey import sqlite_path

DISTRIBUTION = "prefixcache-integrations"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(?P<bounds>[^;]*)")
_BOUND = re.compile(r"(>=|<=|<|>|==|!=)\s*([0-9][0-9.]*)")

Level = Literal["ok", "note", "problem"]
_STYLES: dict[Level, str] = {"ok": "green", "note": "yellow", "problem": "red"}


class Check(Struct, frozen=True, kw_only=True):
    """One thing looked at, and what to do about it."""

    name: str
    level: Level
    detail: str


class _Clash(Struct, frozen=True):
    """Two distributions that do not work together: ``other`` from version ``since`` on beside ``name``."""

    name: str
    other: str
    since: str
    effect: str


_CLASHES = (
    _Clash(
        "llama-index-llms-anthropic",
        "anthropic",
        "1",
        "every chat raises TypeError from anthropic 2 on, and 1.x is untested: install 'anthropic>=0.120,<1', "
        "in an environment of its own",
    ),
)


def doctor(
    store: Annotated[list[str] | None, typer.Option(metavar="URL", help="A store to reach; may be repeated.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Look at versions, known-bad combinations, token counting, prices, and whether stores can be reached.

    Exit codes: 0 nothing is wrong, 3 something is; notes are not wrong.
    """
    with explained():
        checks = [*_environment(), *_versions(), *_clashes(), *_counting(), *map(_reach, store or ())]
    sick = any(check.level == "problem" for check in checks)
    if as_json:
        answer_json({"ok": not sick, "checks": checks})
    else:
        table = Table(box=None, show_header=False)
        for check in checks:
            table.add_row(Text(check.level, _STYLES[check.level]), plain(check.name), plain(check.detail))
        console.print(table)
    if sick:
        raise typer.Exit(Exit.FOUND)


def _environment() -> Iterator[Check]:
    detail = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check(name="Python", level="ok" if sys.version_info >= (3, 11) else "problem", detail=detail)
    yield Check(name=DISTRIBUTION, level="ok", detail=installed(DISTRIBUTION) or "not installed: run from its sources")


def _versions() -> Iterator[Check]:
    """Yield what is installed of the distributions that the extras name, and whether it is inside their bounds."""
    seen: dict[str, str] = {}
    for line in _requirements():
        found = _REQUIREMENT.match(line)
        if found and found["name"] != DISTRIBUTION:
            seen.setdefault(found["name"], found["bounds"].strip())
    for name, bounds in sorted(seen.items()):
        number = installed(name)
        if number is not None:
            fits = _fits(number, bounds)
            detail = number if fits else f"{number} is outside {bounds}, with which this package is tested"
            yield Check(name=name, level="ok" if fits else "problem", detail=detail)


def _requirements() -> list[str]:
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def _clashes() -> Iterator[Check]:
    for clash in _CLASHES:
        one, other = installed(clash.name), installed(clash.other)
        if one is not None and other is not None and _fits(other, f">={clash.since}"):
            name = f"{clash.name} with {clash.other}"
            yield Check(name=name, level="problem", detail=f"{one} beside {other}: {clash.effect}")


def _counting() -> Iterator[Check]:
    tokenizer = tokens.load()
    if tokenizer.exact:
        yield Check(name="token counts", level="ok", detail=f"{tokenizer.name}, found on this machine")
    else:
        yield Check(name="token counts", level="note", detail=f"estimates; {tokens.remedy()}")
    if installed("genai-prices") is None:
        detail = "the package's own rows only: install the extra 'prices' for models that they leave out"
        yield Check(name="prices", level="note", detail=detail)


def _reach(url: str) -> Check:
    """Ask a store for a key that nobody has."""
    name = f"store {address(url)}"
    started = time.perf_counter()
    try:
        if url.startswith("sqlite:") and not sqlite_path(url).exists():
            return _not_made(name, sqlite_path(url))  # opening a store would make the file
        store = open_store(url)
        try:
            store.get(EntryKey("", "doctor"))
        finally:
            store.close()
    except PrefixCacheError as error:
        return Check(name=name, level="problem", detail=str(error))
    return Check(name=name, level="ok", detail=f"answers in {(time.perf_counter() - started) * 1000:.1f} ms")


def _not_made(name: str, path: Path) -> Check:
    folder = next(each for each in path.parents if each.exists())
    if folder.is_dir() and os.access(folder, os.W_OK):
        return Check(name=name, level="note", detail="there is no file yet: the first answer makes it")
    return Check(name=name, level="problem", detail=f"there is no file, and none can be made in {folder}")


def installed(distribution: str) -> str | None:
    """Return the version of a distribution, ``None`` where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _fits(number: str, bounds: str) -> bool:
    found = _numbers(number)
    tests = {
        ">=": lambda bound: found >= bound,
        ">": lambda bound: found > bound,
        "<=": lambda bound: found <= bound,
        "<": lambda bound: found < bound,
        "==": lambda bound: found == bound,
        "!=": lambda bound: found != bound,
    }
    return all(tests[sign](_numbers(number)) for sign, number in _BOUND.findall(bounds))


def _numbers(text: str) -> tuple[int, ...]:
    """Return a version's numbers, zeros at the end left out: 1.0 is 1."""
    released = re.split(r"[^0-9.]", text, maxsplit=1)[0]
    numbers = [int(part) for part in released.split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
