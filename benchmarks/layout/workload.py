"""Workloads: blocks, and requests that are lists of them; read from a folder, or generated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of prompt: a tool, the system text, a document, a message of the history, or the question."""

    id: int
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
    parts: tuple[int, ...]
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """A named run of requests over shared blocks."""

    name: str
    blocks: dict[int, Block]
    calls: tuple[Call, ...]

    @property
    def tokens(self) -> int:
        """The input tokens of all requests as the application sends them."""
        return sum(self.blocks[part].tokens for call in self.calls for part in call.parts)

    def kinds(self, call: Call) -> list[str]:
        """Return the kind of every part of ``call``."""
        return [self.blocks[part].kind for part in call.parts]


def read(folder: Path) -> Iterator[Workload]:
    """Yield every workload under ``folder``: each folder that holds ``blocks.jsonl`` and ``requests.jsonl``."""
    for blocks in sorted(folder.rglob("blocks.jsonl")):
        if (blocks.parent / "requests.jsonl").exists():
            yield _workload(blocks.parent)


def _workload(folder: Path) -> Workload:
    rows = map(json.loads, (folder / "blocks.jsonl").read_text().splitlines())
    blocks = {row["id"]: _block(row) for row in rows}
    calls = map(json.loads, (folder / "requests.jsonl").read_text().splitlines())
    return Workload(folder.name, blocks, tuple(map(_call, calls)))


def _block(row: dict[str, Any]) -> Block:
    return Block(row["id"], row["kind"], row.get("role") or "", row["text"], row["ntok"], row.get("name") or "")


def _call(row: dict[str, Any]) -> Call:
    at, conversation = row.get("ts"), str(row.get("conv", row["rid"]))
    when = None if at is None else float(at)
    return Call(row["rid"], conversation, when, tuple(row["parts"]), str(row.get("tenant") or ""))


def generated(seed: int = 7) -> tuple[Workload, ...]:
    """Return workloads of three kinds, made from ``seed``: an agent, multi-turn retrieval and single questions."""
    return _agent(Random(seed)), _retrieval(Random(seed), turns=5), _retrieval(Random(seed), turns=1)


class _Blocks:
    """Blocks as they are made; texts are numbered words, so that no two are alike."""

    def __init__(self) -> None:
        self.all: dict[int, Block] = {}

    def add(self, kind: str, role: str, tokens: int, name: str = "") -> int:
        number = len(self.all)
        self.all[number] = Block(number, kind, role, f"{kind} {number} " + "word " * tokens, tokens, name)
        return number


def _agent(chance: Random, conversations: int = 40) -> Workload:
    blocks, calls = _Blocks(), list[Call]()
    head = [blocks.add("tool", "", chance.randrange(60, 300), f"tool_{number}") for number in range(10)]
    head.append(blocks.add("system", "system", 1200))
    for conversation in range(conversations):
        history = [blocks.add("history", "user", chance.randrange(10, 60))]
        for _ in range(chance.randrange(3, 15)):
            calls.append(Call(len(calls), str(conversation), None, (*head, *history)))
            role = chance.choice(("tool", "tool", "user"))
            history.append(blocks.add("history", "assistant", chance.randrange(20, 120)))
            history.append(blocks.add("history", role, chance.randrange(15, 400)))
    return Workload("generated-agent", blocks.all, tuple(calls))


def _retrieval(chance: Random, *, turns: int, topics: int = 30, conversations: int = 120) -> Workload:
    """Return questions about topics: each draws documents of its topic, the first ones most, and a few of all."""
    blocks, calls = _Blocks(), list[Call]()
    system = blocks.add("system", "system", 60)
    corpus = [[blocks.add("doc", "", chance.randrange(80, 320)) for _ in range(12)] for _ in range(topics)]
    for conversation in range(conversations):
        topic, history = corpus[int(chance.betavariate(1, 2) * topics)], list[int]()
        for _ in range(turns):
            docs = [doc for rank, doc in enumerate(topic) if chance.random() < 1 / (1 + rank / 5)]
            docs += [chance.choice(chance.choice(corpus)) for _ in range(2)]
            docs = list(dict.fromkeys(docs))
            chance.shuffle(docs)
            question = blocks.add("history" if turns > 1 else "question", "user", chance.randrange(8, 30))
            calls.append(Call(len(calls), str(conversation), None, (system, *docs, *history, question)))
            history += [question, blocks.add("history", "assistant", chance.randrange(20, 120))]
    return Workload(f"generated-retrieval-{turns}-turns", blocks.all, tuple(calls))
