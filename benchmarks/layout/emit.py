"""What was decided for each request, as JSON lines, for whoever prices it again with code of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.layout.ours import Sent
from benchmarks.layout.workload import BlockId


def decisions(sent: Iterable[Sent], path: Path) -> None:
    """Write a line for each request: its ``rid``, its ``parts`` in the order sent, and its ``markers``."""
    write(((row.call.rid, row.parts, row.markers) for row in sent), path)


def write(rows: Iterable[tuple[object, Sequence[BlockId], Iterable[tuple[int, str]]]], path: Path) -> None:
    """Write a line for each request; a marker is an index into the parts, and how long its entry lives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for rid, parts, markers in rows:
            places = [{"at": place, "ttl": ttl} for place, ttl in markers]
            file.write(json.dumps({"rid": rid, "parts": list(parts), "markers": places}) + "\n")
