"""Connections to a SQLite file: one per thread and process, with the write-ahead log on."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import TypeAlias

from prefixcache_integrations.stores import sqlite_layout as layout

BUSY_TIMEOUT = 5.0
"""Seconds a writer waits for another to finish; writes take tens of microseconds each."""

_inherited: list[sqlite3.Connection] = []
# A connection carried over a fork may be neither used nor closed in the child: it is kept from the collector.


FileId: TypeAlias = tuple[int, int] | None


class Connection:
    """One thread's connection in one process; closed when the thread is gone. ``file`` tells the file it has open."""

    def __init__(self, raw: sqlite3.Connection, file: FileId) -> None:
        self.raw = raw
        self.file = file
        self.process = os.getpid()

    def close(self) -> None:
        """Close it in the process that opened it."""
        if self.process == os.getpid():
            self.raw.close()
        else:
            _inherited.append(self.raw)

    __del__ = close


def file_id(path: Path | str) -> FileId:
    """Return what tells the file at ``path`` from one that took its place, ``None`` where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - `Path.stat` takes twice as long
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path) -> Connection:
    """Open the file at ``path``, made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads keep to their own connection; only `close` reaches across, when they are done.
    raw = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection = Connection(raw, file_id(path))
    _switch_to_wal(connection.raw)
    connection.raw.execute("PRAGMA synchronous = NORMAL")
    connection.raw.executescript(layout.SCHEMA)
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, once per file: SQLite refuses, and does not wait, while others do the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
