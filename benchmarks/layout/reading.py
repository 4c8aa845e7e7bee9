"""Workloads from files: blocks with the requests over them, and traces of block hashes.

What a file holds is told by the fields of its first line, not by its name: ``id`` and ``kind`` for blocks, ``rid`` and
``parts`` for requests, ``timestamp`` and ``hash_ids`` for traces. Blocks and requests belong together where they lie
in one folder, by what their names begin with where there are several.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.layout.traces import HASHED, Asked, Trace
from benchmarks.layout.workload import Block, Call, Workload

Row = dict[str, Any]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "blocks": ("id", "kind", "text", "ntok"),
    "requests": ("rid", "parts"),
    "trace": ("timestamp", "input_length", "hash_ids"),
}
"""What each line of a file has at least."""

TOLD_BY = {"blocks": ("id", "kind"), "requests": ("rid", "parts"), "trace": ("timestamp", "hash_ids")}


class Unreadable(Exception):
    """A file or folder that holds no workload; the message says where and why."""


class Found(NamedTuple):
    """All that was read, and a line for each file that was left out."""

    workloads: tuple[Workload, ...]
    traces: tuple[Trace, ...]
    left_out: tuple[str, ...]


def read(path: Path) -> Found:
    """Return every workload and trace under ``path``, a folder or one file of it; raises `Unreadable`."""
    if not path.exists():
        raise Unreadable(f"{path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    files = sorted(each for each in folder.rglob("*") if each.is_file()) if path.is_dir() else [path]
    kinds = {file: kind for file in files if (kind := _kind(file)) is not None}
    left_out = [f"{file.relative_to(folder)}: no blocks, requests or trace" for file in files if file not in kinds]
    left_out = [line for line in left_out if "README" not in line]
    if path.is_file() and kinds.get(path) in {"blocks", "requests"}:
        kinds |= {file: kind for file in folder.iterdir() if (kind := _kind(file)) in {"blocks", "requests"}}
    pairs = list(_pairs(kinds, path if path.is_file() else None))
    paired = {file for pair in pairs for file in pair}
    left_out += [
        f"{file.relative_to(folder)}: {kind} without {'requests' if kind == 'blocks' else 'blocks'} beside them"
        for file, kind in kinds.items()
        if kind != "trace" and file not in paired and path.is_dir()
    ]
    workloads = tuple(_workload(*pair) for pair in pairs)
    traces = tuple(_trace(file) for file, kind in kinds.items() if kind == "trace")
    if not workloads and not traces:
        raise Unreadable("\n".join([f"{path}: no workload in it", *left_out]))
    return Found(workloads, traces, tuple(left_out))


def _kind(path: Path) -> str | None:
    """Return what the file holds, by its first line."""
    if path.suffix not in {".jsonl", ".json", ".ndjson"} or not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return None
    return next((kind for kind, names in TOLD_BY.items() if isinstance(row, dict) and row.keys() >= {*names}), None)


def _pairs(kinds: Mapping[Path, str], asked: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield blocks with the requests over them: those in their folder whose name begins most alike."""
    for requests in [file for file, kind in kinds.items() if kind == "requests"]:
        beside = [file for file, kind in kinds.items() if kind == "blocks" and file.parent == requests.parent]
        best = max(beside, key=lambda file: _alike(file.name, requests.name), default=None)
        if best is not None and asked in {None, requests, best}:
            yield best, requests


def _alike(one: str, other: str) -> int:
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))


def _workload(blocks_in: Path, requests_in: Path) -> Workload:
    blocks = {block.id: block for block in map(_block, _rows(blocks_in, FIELDS["blocks"]))}
    calls = tuple(_call(row, number) for number, row in enumerate(_rows(requests_in, FIELDS["requests"])))
    for call in calls:
        missing = [part for part in call.parts if part not in blocks]
        if missing:
            raise Unreadable(f"{requests_in}: request {call.rid!r} has block {missing[0]!r}, which {blocks_in} has not")
    return Workload(_name(requests_in, "requests"), blocks, tuple(call for call in calls if call.parts))


def _block(row: Row) -> Block:
    return Block(row["id"], row["kind"], row.get("role") or "", row["text"], int(row["ntok"]), row.get("name") or "")


def _call(row: Row, number: int) -> Call:
    at, conversation = row.get("ts"), row.get("conv")
    return Call(
        row["rid"],
        f"request {number}" if conversation is None else str(conversation),
        None if at is None else float(at),
        tuple(row["parts"]),
        str(row.get("tenant") or ""),
    )


def _trace(path: Path) -> Trace:
    asked = [_asked(row, number) for number, row in enumerate(_rows(path, FIELDS["trace"]))]
    return Trace(_name(path, "trace"), tuple(sorted((row for row in asked if row.blocks), key=lambda row: row.at)))


def _asked(row: Row, number: int) -> Asked:
    hashes = row["hash_ids"]
    rest = max(int(row["input_length"]) - HASHED * (len(hashes) - 1), 1)
    counts = [HASHED] * (len(hashes) - 1) + [rest]
    rid = next((row[name] for name in ("rid", "request_id", "id") if name in row), number)
    return Asked(rid, float(row["timestamp"]) / 1000, tuple(zip(hashes, counts, strict=True)) if hashes else ())


def _name(path: Path, usual: str) -> str:
    return path.parent.name or path.stem if path.stem == usual else path.stem


def _rows(path: Path, fields: Iterable[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise Unreadable(f"{path}, line {number}: no JSON ({error})") from None
            missing = [name for name in fields if not isinstance(row, dict) or row.get(name) is None]
            if missing:
                raise Unreadable(f"{path}, line {number}: no {' and no '.join(missing)}")
            yield row
