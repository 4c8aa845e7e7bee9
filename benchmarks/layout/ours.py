"""The planner of this package over a workload: each block as a block of a Claude request, in the workload's counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from benchmarks.layout.regimes import CLAUDE, FOREVER, UP_TO_GPT_5_5, Regime, lasting
from benchmarks.layout.stopwatch import Spent, Stopwatch
from benchmarks.layout.workload import Block, BlockId, Call, Workload
from prefixcache_integrations.canonical import Message, Part, Request, Tool
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.profiles import CacheProfile
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.segments import segments
from prefixcache_integrations.prompt.stability import PromptMemory


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it was laid out: its blocks in order, which are marked and for how long, and what that took."""

    call: Call
    parts: tuple[BlockId, ...]
    markers: tuple[tuple[int, str], ...]
    implicit: bool
    spent: Spent

    @property
    def marked(self) -> list[int]:
        """The indices of the marked blocks."""
        return [place for place, _ in self.markers]


@dataclass(slots=True)
class Counts:
    """A tokeniser that knows the counts of the workload's blocks."""

    known: dict[str, int] = field(default_factory=dict)
    name: str = "workload"
    exact: bool = True

    def count(self, text: str) -> int:
        """Return the workload's count for one of its blocks."""
        return self.known[text]

    def encode(self, text: str) -> Sequence[int]:
        """Return as many numbers as the text has tokens."""
        return range(self.known[text])


def claude() -> CacheProfile:
    """Return the row of the rule that the costs are stated for; entries never end."""
    return lasting(CLAUDE.profile, FOREVER)


def intervals() -> CacheProfile:
    """Return the row of caches that store every prefix by themselves; entries never end."""
    return lasting(UP_TO_GPT_5_5.profile, FOREVER)


_ALL = DocumentRules(drop_copies=False)
"""The bounds are those of layouts that send all there is."""


class Replayer:
    """Turns the blocks of a workload into requests, and laid out requests back into blocks."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.counts = Counts()
        self.memory = PromptMemory(horizon=FOREVER)
        self._tools: dict[BlockId, Tool] = {}
        self._parts: dict[BlockId, Part] = {}
        self._ids: dict[int, BlockId] = {}
        for block in workload.blocks.values():
            self._prepare(block)

    def replay(self, regime: Regime, *, lifetime: float | None = None) -> Iterator[Sent]:
        """Yield every request as it is laid out, in order; each is planned before the next one is looked at.

        With ``lifetime``, that of an entry, by the workload's clock, else with entries that never end and one request
        a second. `memory` is then what was learned.
        """
        profile = lasting(regime.profile, lifetime or FOREVER)
        self.memory, stopwatch = PromptMemory(horizon=FOREVER), Stopwatch()
        for number, call in enumerate(self._workload.calls):
            now = float(number) if lifetime is None else call.at or 0.0
            request = self.request(call, everything_markable=regime.everything_markable)
            with stopwatch:
                snapshot = self.memory.snapshot(now)
                made = decide(request, profile, self.counts, level="arrange", snapshot=snapshot, documents=_ALL)
            if made.sighting is not None:
                self.memory.observe(made.sighting, now)
            yield self._sent(call, made.request, stopwatch.spent)

    def request(self, call: Call, *, everything_markable: bool = True) -> Request:
        """Return the request of ``call``: documents lead the message of the user that they stand before.

        ``everything_markable``: tools and the model's messages too.
        """
        tools, system, messages, waiting = list[Tool](), list[Part](), list[Message](), list[Part]()
        for number in call.parts:
            block = self._workload.blocks[number]
            if block.kind == "tool":
                tools.append(replace(self._tools[number], markable=everything_markable))
            elif block.kind == "system":
                system.append(self._parts[number])
            elif block.kind == "doc":
                waiting.append(self._parts[number])
            elif block.role == "assistant":
                part = replace(self._parts[number], markable=everything_markable)
                messages.append(Message(role="assistant", parts=(part,)))
            else:
                messages.append(Message(role="user", parts=(*waiting, self._parts[number])))
                waiting = []
        if waiting:
            messages.append(Message(role="user", parts=tuple(waiting)))
        return Request(
            dialect="anthropic_messages",
            model="claude-sonnet-4-5",
            tools=tuple(tools),
            system=tuple(system),
            messages=tuple(messages),
        )

    def _prepare(self, block: Block) -> None:
        if block.kind == "tool":
            tool = Tool(name=block.name, raw={"description": block.text, "name": block.name}, markable=True)
            self._tools[block.id] = tool
            self._ids[id(tool.raw)] = block.id
            [segment] = segments(Request(dialect="anthropic_messages", model="", tools=(tool,)))
            self.counts.known[segment.text] = block.tokens
            return
        self._parts[block.id] = part = _part(block)
        self._ids[id(part.raw)] = block.id
        self.counts.known[block.text] = block.tokens

    def _sent(self, call: Call, request: Request, spent: Spent) -> Sent:
        rows = [*request.tools, *request.system, *(part for message in request.messages for part in message.parts)]
        markers = ((place, row.marker.ttl or "5m") for place, row in enumerate(rows) if row.marker is not None)
        explicit = as_object(request.options.get("prompt_cache_options")) or {}
        parts = tuple(self._ids[id(row.raw)] for row in rows)
        return Sent(call, parts, tuple(markers), explicit.get("mode") != "explicit", spent)


def _part(block: Block) -> Part:
    if block.kind == "doc":
        source = {"type": "text", "media_type": "text/plain", "data": block.text}
        return Part(kind="document", raw={"type": "document", "source": source}, markable=True)
    if block.role == "tool":
        raw = {"type": "tool_result", "tool_use_id": f"call_{block.id}", "content": block.text}
        return Part(kind="tool_result", raw=raw, text=block.text, call_id=f"call_{block.id}", markable=True)
    return Part(kind="text", raw={"type": "text", "text": block.text}, text=block.text, markable=True)


def kendall_tau(before: Sequence[BlockId], after: Sequence[BlockId]) -> float:
    """Return how alike two orders of the same blocks are: 1 the same, -1 turned round."""
    places: Mapping[BlockId, int] = {block: place for place, block in enumerate(after)}
    row = [places[block] for block in before]
    pairs = [(one, other) for index, one in enumerate(row) for other in row[index + 1 :]]
    return 1.0 if not pairs else 1 - 2 * sum(one > other for one, other in pairs) / len(pairs)
