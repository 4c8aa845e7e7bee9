"""Agents with the usual faults: what each costs as it is, and repaired, beside the same agents without it.

The name of the user or the time, to the second, at the head of the system text; tools in another order in every
request. Nothing is configured but the level. Two rules: Claude's, where writes cost 1.25, and that of OpenAI's models
up to GPT-5.5, where every prefix is stored and writes are free.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from msgspec.structs import replace

from benchmarks.layout.ours import Replayer, claude, intervals
from benchmarks.layout.policies import AT_MARKERS, Piece
from benchmarks.layout.regimes import FOREVER
from benchmarks.layout.rules import Intervals, Markers
from benchmarks.layout.workload import Call, Workload
from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Part, Request, Tokenizer, Tool
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory

Fault = Callable[[Request, Call, Random], Request]

_FIRST = ("Alice", "Bob", "Mia", "Yusuf", "Chiara", "Noah", "Ivan", "Aarav", "Emma", "Lucas", "Sofia", "Omar")
_LAST = ("Smith", "Kovacs", "Rossi", "Li", "Johansson", "Silva", "Garcia", "Khan", "Davis", "Wilson", "Brown", "Moore")
_START = datetime(2026, 1, 5, 8, 17, 23, tzinfo=UTC)


def _clean(request: Request, call: Call, chance: Random) -> Request:
    del call, chance
    return request


def _user_name(request: Request, call: Call, chance: Random) -> Request:
    del chance
    own = Random(call.conversation)
    return _with_head(request, f"The user's name is {own.choice(_FIRST)} {own.choice(_LAST)}.\n")


def _timestamp(request: Request, call: Call, chance: Random) -> Request:
    del chance
    now = _START + timedelta(seconds=17 * int(str(call.rid)))
    return _with_head(request, f"Current time: {now:%Y-%m-%d %H:%M:%S}\n")


def _shuffled(request: Request, call: Call, chance: Random) -> Request:
    del call
    tools = list(request.tools)
    chance.shuffle(tools)
    return replace(request, tools=tuple(tools))


def _with_head(request: Request, head: str) -> Request:
    first, *others = request.system
    text = head + first.text
    return replace(request, system=(replace(first, text=text, raw={**first.raw, "text": text}), *others))


FAULTS: dict[str, Fault] = {
    "clean": _clean,
    "user name at the head": _user_name,
    "time at the head": _timestamp,
    "tools shuffled": _shuffled,
}


@dataclass(slots=True)
class _Counts:
    """The workload's own counts; what a fault or its repair brings in is counted, each text once."""

    known: dict[str, int]
    tokenizer: Tokenizer = field(default_factory=tokens.load)
    name: str = "workload"
    exact: bool = True

    def count(self, text: str) -> int:
        """Return the tokens of ``text``."""
        if text not in self.known:
            self.known[text] = self.tokenizer.count(text)
        return self.known[text]

    def encode(self, text: str) -> Sequence[int]:
        """Return as many numbers as the text has tokens."""
        return range(self.count(text))


def report(workload: Workload) -> None:
    """Print what each fault costs an agent's workload; nothing for a workload without tools."""
    kinds = {block.kind for block in workload.blocks.values()}
    if not {"tool", "system"} <= kinds:
        return
    print("\n  faults, cost in tokens beside that of the clean run laid out; as is: system+last, or sent as given")
    clean: dict[str, float] = {}
    for name, fault in FAULTS.items():
        paid, free = (_costs(workload, fault, paid=rule) for rule in (True, False))
        clean = clean or {"paid": paid[1], "free": free[1]}
        figures = [f"{each / clean[rule]:.3f}" for rule, pair in (("paid", paid), ("free", free)) for each in pair]
        print("    {:22} writes 1.25: as is {}   ours {}   free: as is {}   ours {}".format(name, *figures))


def _costs(workload: Workload, fault: Fault, *, paid: bool) -> tuple[float, float]:
    """Return the cost as it is, and laid out."""
    replayer, memory, chance = Replayer(workload), PromptMemory(horizon=FOREVER), Random(7)
    counts = _Counts(replayer.counts.known)
    profile = claude() if paid else intervals()
    as_is, laid_out = (Markers() if paid else Intervals() for _ in range(2))
    given, ours = 0.0, 0.0
    for number, call in enumerate(workload.calls):
        request = fault(replayer.request(call), dataclasses.replace(call, rid=number), chance)
        rows = [*_rows(request)]
        marks = AT_MARKERS["system+last"]([Piece(row.kind, "") for row in rows]).markers
        given += as_is.bill(*_billed(rows, counts), marks).cost
        made = decide(request, profile, counts, level="arrange", snapshot=memory.snapshot(0.0))
        if made.sighting is not None:
            memory.observe(made.sighting, 0.0)
        rows = [*_rows(made.request)]
        ours += laid_out.bill(*_billed(rows, counts), [at for at, row in enumerate(rows) if row.marked]).cost
    return given, ours


@dataclass(frozen=True, slots=True)
class _Row:
    kind: str
    text: str
    marked: bool


def _rows(request: Request) -> Iterator[_Row]:
    yield from (_Row("tool", _text(tool), tool.marker is not None) for tool in request.tools)
    yield from (_Row("system", part.text, part.marker is not None) for part in request.system)
    for message in request.messages:
        yield from (_Row(message.role, _text(part), part.marker is not None) for part in message.parts)


def _text(block: Tool | Part) -> str:
    if isinstance(block, Part) and block.kind != "document":
        return block.text
    return json.dumps(block.raw, ensure_ascii=False, separators=(",", ":"))


def _billed(rows: Sequence[_Row], counts: _Counts) -> tuple[list[str], list[int]]:
    return [row.kind + row.text for row in rows], [counts.count(row.text) for row in rows]
