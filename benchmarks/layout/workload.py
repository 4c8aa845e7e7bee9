"""Workloads: blocks, and requests that are lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeAlias

BlockId: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of prompt: a tool, the system text, a document, a message of the history, or the question."""

    id: BlockId
    kind: str
    role: str
    text: str
    tokens: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its blocks in the order the application sends them, and when, in seconds, where that is known."""

    rid: object
    conversation: str
    at: float | None
    parts: tuple[BlockId, ...]
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """A named run of requests over shared blocks."""

    name: str
    blocks: dict[BlockId, Block]
    calls: tuple[Call, ...]

    @property
    def tokens(self) -> int:
        """The input tokens of all requests as the application sends them."""
        return sum(self.blocks[part].tokens for call in self.calls for part in call.parts)

    def kinds(self, call: Call) -> list[str]:
        """Return the kind of every part of ``call``."""
        return [self.blocks[part].kind for part in call.parts]

    def tokens_of(self, parts: Sequence[BlockId]) -> list[int]:
        """Return the tokens of every part."""
        return [self.blocks[part].tokens for part in parts]

    def by_time(self) -> Workload | None:
        """Return the same requests in the order of their times; ``None`` where not all have one."""
        if any(call.at is None for call in self.calls):
            return None
        return replace(self, calls=tuple(sorted(self.calls, key=attrgetter("at"))))
