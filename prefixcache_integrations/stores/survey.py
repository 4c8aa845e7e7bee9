"""What is in a store, counted from outside: nothing is written, and no answer is read."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.stores import postgres_layout
from prefixcache_integrations.stores.urls import read, scheme, server_url

_PREFIX = "pfx:"
_ENTRY_COLONS = 2
_BATCH = 1000
_TIMEOUT = 5


class NamespaceSurvey(Struct, frozen=True, kw_only=True):
    """One namespace. ``size`` in bytes as stored, without keys; ``tags`` counts entries by tag where it can be read."""

    name: str
    entries: int
    size: int
    tags: Mapping[str, int] | None = None


class Survey(Struct, frozen=True, kw_only=True):
    """A whole store. ``expired`` entries are still there and never served; ``None`` where that cannot be told.

    Redis keeps only hashes of names: its namespaces go by these, and dead entries, which nothing reads, count too.
    """

    kind: str
    namespaces: tuple[NamespaceSurvey, ...]
    expired: int | None = None

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(row.entries for row in self.namespaces)

    @property
    def size(self) -> int:
        """How many bytes they hold."""
        return sum(row.size for row in self.namespaces)


def survey(url: str, *, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Count what is in the store at ``url``; ``progress`` is told how many entries have been counted so far.

    Raises `StoreUnavailable` where it cannot be read, `ConfigurationError` for a URL that names no store outside this
    process.
    """
    count = _SURVEYS.get(scheme(url))
    if count is None:
        raise ConfigurationError("no store outside this process: memory:// is gone with the process that has it")
    return count(url, progress)


def sqlite_path(url: str) -> Path:
    """Return where the file is, or would be made, that a ``sqlite://`` URL names."""
    return Path(unquote(read(url).parts.path.removeprefix("/"))).expanduser().absolute()


def sqlite_file(url: str) -> Path:
    """Return the file that a ``sqlite://`` URL names. Raises `StoreUnavailable` if there is none."""
    path = sqlite_path(url)
    if not path.is_file():
        raise StoreUnavailable(f"there is no file {path}")
    return path


def _sqlite(url: str, progress: Callable[[int], None]) -> Survey:
    path = sqlite_file(url)
    entries, sizes, expired = Counter[str](), Counter[str](), 0
    tags: dict[str, Counter[str]] = {}
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT)) as connection:
            rows = connection.execute("SELECT namespace, length(value), tags, expires_at FROM entries_v2")
            for number, (name, size, words, expires) in enumerate(rows, start=1):
                entries[name] += 1
                sizes[name] += size
                tags.setdefault(name, Counter()).update(json.loads(words))
                expired += expires is not None and expires <= time.time()
                if number % _BATCH == 0:
                    progress(number)
    except (sqlite3.Error, ValueError) as error:
        raise StoreUnavailable(f"SQLite file {path.name}: {error}") from error
    return Survey(
        kind="sqlite",
        namespaces=tuple(
            NamespaceSurvey(name=name, entries=entries[name], size=sizes[name], tags=dict(sorted(tags[name].items())))
            for name in sorted(entries)
        ),
        expired=expired,
    )


def _redis(url: str, progress: Callable[[int], None]) -> Survey:
    from prefixcache_integrations.stores.redis_places import FAILURES, place

    entries, sizes = Counter[str](), Counter[str]()
    try:
        clients = place(server_url(url)).blocking(_TIMEOUT)
        with ExitStack() as closing_all:
            for client in clients:
                closing_all.callback(client.close)
            for name, size in _sizes(clients[0], progress):
                entries[name] += 1
                sizes[name] += size
    except FAILURES as error:
        raise StoreUnavailable(f"Redis: {type(error).__name__}") from error
    namespaces = (NamespaceSurvey(name=name, entries=entries[name], size=sizes[name]) for name in sorted(entries))
    return Survey(kind="redis", namespaces=tuple(namespaces))


def _sizes(client: Any, progress: Callable[[int], None]) -> Iterator[tuple[str, int]]:  # noqa: ANN401 - of any topology
    """Yield the hash of the namespace and the size of every entry; a log has one colon, an entry two, a lease more."""
    counted = 0
    names = (bytes(name) for name in client.scan_iter(f"{_PREFIX}*", count=_BATCH))
    while batch := list(islice(names, _BATCH)):
        entries = [name for name in batch if name.count(b":") == _ENTRY_COLONS]
        with client.pipeline(transaction=False) as pipe:  # a cluster's knows which server has which
            for name in entries:
                pipe.strlen(name)
            lengths = pipe.execute()
        for name, size in zip(entries, lengths, strict=True):
            yield name.split(b":")[1].strip(b"{}").decode(), int(size)
        counted += len(entries)
        progress(counted)


def _postgres(url: str, progress: Callable[[int], None]) -> Survey:
    from prefixcache_integrations.stores.postgres_wire import conninfo

    server = conninfo(server_url(url))  # says what is missing where psycopg is
    import psycopg

    rows: list[tuple[str, int, int, int]] = []
    tags: dict[str, dict[str, int]] = {}
    try:
        with psycopg.connect(server, connect_timeout=_TIMEOUT) as connection:
            connection.read_only = True
            with suppress(psycopg.errors.UndefinedTable):  # nothing was ever kept there
                rows = connection.execute(postgres_layout.COUNT).fetchall()
                for name, tag, count in connection.execute(postgres_layout.COUNT_TAGS):
                    tags.setdefault(name, {})[tag] = count
    except psycopg.Error as error:
        raise StoreUnavailable(f"PostgreSQL: {type(error).__name__}") from error
    progress(sum(row[1] for row in rows))
    return Survey(
        kind="postgres",
        namespaces=tuple(
            NamespaceSurvey(name=name, entries=entries, size=size, tags=tags.get(name, {}))
            for name, entries, size, _ in rows
        ),
        expired=sum(row[3] for row in rows),
    )


_SURVEYS: Mapping[str, Callable[[str, Callable[[int], None]], Survey]] = {
    "sqlite": _sqlite,
    **dict.fromkeys(("redis", "redis+sentinel", "redis+cluster"), _redis),
    **dict.fromkeys(("rediss", "rediss+sentinel", "rediss+cluster", "unix"), _redis),
    **dict.fromkeys(("postgresql", "postgres"), _postgres),
}
