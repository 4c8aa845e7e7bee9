"""The planner of this package over a workload: each block as a block of a Claude request, in the workload's counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from benchmarks.layout.workload import Block, Call, Workload
from prefixcache_integrations import profiles
from prefixcache_integrations.canonical import Level, Message, Part, Request, Role, Tool
from prefixcache_integrations.profiles import CacheProfile
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.segments import segments
from prefixcache_integrations.prompt.stability import PromptMemory

FOREVER = 10**9
"""For how many seconds entries stay where they never end."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it was laid out: its blocks in order, which are marked and for how long, and what that took."""

    call: Call
    parts: tuple[int, ...]
    markers: tuple[tuple[int, str], ...]
    seconds: float


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


def claude(minimum: int = 1024) -> CacheProfile:
    """Return the rule the costs are stated for: four breakpoints, writes 1.25, reads 0.1; counts are exact here."""
    row = profiles.resolve("claude-sonnet-4-5")
    return _endless(replace(row, minimum_tokens=minimum, tokenizer_uncertainty=0.0))


def intervals(minimum: int = 1024, increment: int = 128) -> CacheProfile:
    """Return the rule of caches that store every prefix by themselves."""
    row = profiles.resolve("gpt-4o")
    return _endless(replace(row, minimum_tokens=minimum, increment=increment, tokenizer_uncertainty=0.0))


def _endless(profile: CacheProfile) -> CacheProfile:
    return lasting(profile, FOREVER)


def lasting(profile: CacheProfile, seconds: float) -> CacheProfile:
    """Return ``profile`` with its default lifetime alone, and that so long."""
    return replace(profile, lifetimes=tuple(replace(row, seconds=int(seconds)) for row in profile.lifetimes[:1]))


class Replayer:
    """Turns the blocks of a workload into requests, and laid out requests back into blocks."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.counts = Counts()
        self._tools: dict[int, Tool] = {}
        self._parts: dict[int, Part] = {}
        self._ids: dict[int, int] = {}
        for block in workload.blocks.values():
            self._prepare(block)

    def replay(self, profile: CacheProfile, *, level: Level = "arrange", timed: bool = False) -> Iterator[Sent]:
        """Yield every request as it is laid out, in order; ``timed``: by the workload's clock, else one a second."""
        memory = PromptMemory(horizon=FOREVER)
        for number, call in enumerate(self._workload.calls):
            now = (call.at or 0.0) if timed else float(number)
            request = self.request(call)
            begun = time.perf_counter()
            made = decide(request, profile, self.counts, level=level, snapshot=memory.snapshot(now))
            seconds = time.perf_counter() - begun
            if made.sighting is not None:
                memory.observe(made.sighting, now)
            yield self._sent(call, made.request, seconds)

    def request(self, call: Call) -> Request:
        """Return the request of ``call``: documents lead the first message of the user."""
        tools, system, messages, waiting = list[Tool](), list[Part](), list[Message](), list[Part]()
        for number in call.parts:
            block = self._workload.blocks[number]
            if block.kind == "tool":
                tools.append(self._tools[number])
            elif block.kind == "system":
                system.append(self._parts[number])
            elif block.kind == "doc":
                waiting.append(self._parts[number])
            else:
                role: Role = "assistant" if block.role == "assistant" else "user"
                leading = waiting if role == "user" else []
                messages.append(Message(role=role, parts=(*leading, self._parts[number])))
                waiting = [] if role == "user" else waiting
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

    def _sent(self, call: Call, request: Request, seconds: float) -> Sent:
        rows = [*request.tools, *request.system, *(part for message in request.messages for part in message.parts)]
        markers = ((place, row.marker.ttl or "5m") for place, row in enumerate(rows) if row.marker is not None)
        return Sent(call, tuple(self._ids[id(row.raw)] for row in rows), tuple(markers), seconds)


def _part(block: Block) -> Part:
    if block.kind == "doc":
        source = {"type": "text", "media_type": "text/plain", "data": block.text}
        return Part(kind="document", raw={"type": "document", "source": source}, markable=True)
    if block.role == "tool":
        raw = {"type": "tool_result", "tool_use_id": f"call_{block.id}", "content": block.text}
        return Part(kind="tool_result", raw=raw, text=block.text, call_id=f"call_{block.id}", markable=True)
    return Part(kind="text", raw={"type": "text", "text": block.text}, text=block.text, markable=True)


def kendall_tau(before: Sequence[int], after: Sequence[int]) -> float:
    """Return how alike two orders of the same blocks are: 1 the same, -1 turned round."""
    places: Mapping[int, int] = {block: place for place, block in enumerate(after)}
    row = [places[block] for block in before]
    pairs = [(one, other) for index, one in enumerate(row) for other in row[index + 1 :]]
    return 1.0 if not pairs else 1 - 2 * sum(one > other for one, other in pairs) / len(pairs)
