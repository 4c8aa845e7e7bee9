"""Workloads made up from a seed, for where there are none."""

from __future__ import annotations

from itertools import count
from random import Random

from benchmarks.layout.traces import HASHED, Asked, Trace
from benchmarks.layout.workload import Block, BlockId, Call, Workload

SEED = 7


def generated(seed: int = SEED) -> tuple[Workload, ...]:
    """Return four workloads, made from ``seed``: an agent, retrieval in talks of two kinds and for single questions."""
    retrieval = (_retrieval(Random(seed), turns=turns) for turns in (5, 1))
    return _agent(Random(seed)), *retrieval, _talks(Random(seed))


def generated_trace(seed: int = SEED, documents: int = 600, seconds: float = 3600.0) -> Trace:
    """Return questions about long documents: most are asked about once, the others for a while."""
    chance, asked, fresh = Random(seed), list[Asked](), count()
    for _ in range(documents):
        blocks = [next(fresh) for _ in range(chance.randrange(4, 60))]
        at, questions = chance.random() * seconds, chance.choice((1, 1, 1, 4, 8))
        for _ in range(questions):
            tail = [next(fresh) for _ in range(chance.randrange(1, 3))]
            asked.append(Asked(0, at, tuple((block, HASHED) for block in [*blocks, *tail])))
            at += chance.expovariate(1 / 150)
    asked.sort(key=lambda row: row.at)
    return Trace("generated-trace", tuple(row._replace(rid=number) for number, row in enumerate(asked)))


def generated_chats(seed: int = SEED, conversations: int = 900, seconds: float = 3600.0) -> Trace:
    """Return chats that begin with anything from a line to a long text; most of them end with the first answer."""
    chance, asked, fresh = Random(seed), list[Asked](), count()
    for _ in range(conversations):
        blocks = [next(fresh) for _ in range(min(60, 1 + int(chance.lognormvariate(1.8, 1.2))))]
        at, pace = chance.random() * seconds, chance.lognormvariate(4.5, 0.7)
        goes_on = 0.15
        asked.append(Asked(0, at, tuple((block, HASHED) for block in blocks)))
        while chance.random() < goes_on:
            goes_on, at = 0.8, at + pace * chance.lognormvariate(0, 0.7)
            blocks = [*blocks, *(next(fresh) for _ in range(1 + int(chance.lognormvariate(0.2, 0.9))))]
            asked.append(Asked(0, at, tuple((block, HASHED) for block in blocks)))
    asked.sort(key=lambda row: row.at)
    return Trace("generated-chats", tuple(row._replace(rid=number) for number, row in enumerate(asked)))


class _Blocks:
    """Blocks as they are made; texts are numbered words, so that no two are alike."""

    def __init__(self) -> None:
        self.all: dict[BlockId, Block] = {}

    def add(self, kind: str, role: str, tokens: int, name: str = "") -> BlockId:
        number = len(self.all)
        self.all[number] = Block(number, kind, role, f"{kind} {number} " + "word " * tokens, tokens, name)
        return number


def _agent(chance: Random, conversations: int = 40) -> Workload:
    blocks, calls = _Blocks(), list[Call]()
    head = [blocks.add("tool", "", chance.randrange(60, 300), f"tool_{number}") for number in range(10)]
    head.append(blocks.add("system", "system", 1200))
    for conversation in range(conversations):
        history = [blocks.add("history", "user", chance.randrange(10, 60))]
        at = conversation * 40.0
        for _ in range(chance.randrange(3, 15)):
            calls.append(Call(len(calls), str(conversation), at, (*head, *history)))
            at += chance.expovariate(1 / 30)
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
        topic, history = corpus[int(chance.betavariate(1, 2) * topics)], list[BlockId]()
        at = conversation * 60.0
        for _ in range(turns):
            docs = [doc for rank, doc in enumerate(topic) if chance.random() < 1 / (1 + rank / 5)]
            docs += [chance.choice(chance.choice(corpus)) for _ in range(2)]
            docs = list(dict.fromkeys(docs))
            chance.shuffle(docs)
            question = blocks.add("history" if turns > 1 else "question", "user", chance.randrange(8, 30))
            calls.append(Call(len(calls), str(conversation), at, (system, *docs, *history, question)))
            at += chance.expovariate(1 / 90)
            history += [question, blocks.add("history", "assistant", chance.randrange(20, 120))]
    return Workload(f"generated-retrieval-{turns}-turns", blocks.all, tuple(calls))


def _talks(chance: Random, *, found: int = 10, topics: int = 40, conversations: int = 90) -> Workload:
    """Return talks in which each question comes with what is ``found`` for it alone, of a topic that it drifts from.

    Little of it is found again, and nothing of it stays in the history.
    """
    blocks, calls = _Blocks(), list[Call]()
    system = blocks.add("system", "system", 60)
    corpus = [blocks.add("doc", "", chance.randrange(120, 360)) for _ in range(topics * 15)]
    for conversation in range(conversations):
        topic, history = chance.randrange(len(corpus)), list[BlockId]()
        at = chance.random() * 7200
        for _ in range(chance.randrange(5, 10)):
            near = dict.fromkeys(int(chance.gauss(topic, found)) % len(corpus) for _ in range(4 * found))
            docs = [corpus[number] for number in list(near)[:found]]
            question = blocks.add("history", "user", chance.randrange(8, 30))
            calls.append(Call(len(calls), str(conversation), at, (system, *history, *docs, question)))
            history += [question, blocks.add("history", "assistant", chance.randrange(40, 200))]
            at += chance.expovariate(1 / 120)
            topic += int(chance.gauss(0, 2 * found))
    return Workload("generated-talks", blocks.all, tuple(calls))
