"""Conversations: made up from a seed, or read from a workload in the block format."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.diagnosis.shapes import Script

_TEXT = (
    "harbour ferry ticket cabin berth tide pilot crane cargo depot invoice parcel customs permit quay lighthouse "
    "timetable refund deposit voucher luggage crew captain engine anchor buoy signal weather northern southern early "
    "late open closed confirm cancel change request number passenger vehicle bicycle pet lounge deck window aisle "
    "the a of to for with from until between after before on at is was will can must may not only also Größe naïve 港 "
)
_WORDS = _TEXT.split()

_ENDS = ("",) * 14 + (",", ",", ".", ".", ".\n\n")
_VERBS = ("find", "book", "cancel", "change", "list", "price", "hold", "release")
_CALLING = 3
"""In so many of five turns the agent calls tools."""
_THINGS = ("ferry", "cabin", "cargo", "voucher", "vehicle", "permit")


def prose(rng: random.Random, words: int) -> str:
    """Return sentences and paragraphs of ``words`` words."""
    return " ".join(rng.choice(_WORDS) + rng.choice(_ENDS) for _ in range(words))


def _tool(rng: random.Random, name: str) -> tuple[str, str, dict]:
    fields = rng.sample(("harbour", "date", "passengers", "reference", "deck", "currency"), rng.randint(2, 4))
    properties = {field: {"type": "string", "description": f"The {field}: {prose(rng, 8)}"} for field in fields}
    return (
        name,
        f"{name.replace('_', ' ').capitalize()}. {prose(rng, 12)}",
        {
            "type": "object",
            "properties": properties,
            "required": fields[:1],
        },
    )


def agent(seed: int, turns: int = 6, *, system_words: int = 900) -> Script:
    """Return an agent with tools that asks, calls one to three tools at once, and answers."""
    rng = random.Random(seed)
    names = rng.sample([f"{verb}_{thing}" for verb in _VERBS for thing in _THINGS], rng.randint(4, 8))
    tools = tuple(_tool(rng, name) for name in names)
    rows, calls = [[("user", [prose(rng, 30)])]], 0
    while len(rows) < turns:
        if rng.randrange(5) < _CALLING:
            asked = []
            for _ in range(rng.randint(1, 3)):
                calls += 1
                asked.append((f"call_{calls}", rng.choice(names), {"harbour": prose(rng, 3), "date": prose(rng, 2)}))
            rows.append([("calls", asked), ("results", [(i, prose(rng, rng.randint(40, 160))) for i, _, _ in asked])])
        else:
            rows.append([("assistant", prose(rng, 60)), ("user", [prose(rng, rng.randint(5, 40))])])
    return Script(system=prose(rng, system_words), tools=tools, turns=tuple(map(tuple, rows)))


def library(seed: int, turns: int = 5) -> Script:
    """Return a chat over documents that come with each question and stay in the history."""
    rng = random.Random(seed)
    rows = []
    for number in range(turns):
        documents = [f"[{number}.{index}] {prose(rng, rng.randint(50, 150))}" for index in range(rng.randint(3, 5))]
        asked = ("user", [*documents, prose(rng, 15)])
        rows.append([asked] if not rows else [("assistant", prose(rng, 50)), asked])
    return Script(system=prose(rng, 900), tools=(), turns=tuple(map(tuple, rows)))


def gallery(seed: int, turns: int = 5) -> Script:
    """Return a chat that begins with two images."""
    rng = random.Random(seed)
    images = ["".join(rng.choices("ABCDEFGHabcdefgh0123456789+/", k=400)) for _ in range(2)]
    rows = [[("image", images[0])], [("assistant", prose(rng, 20)), ("image", images[1])]]
    while len(rows) < turns:
        rows.append([("assistant", prose(rng, 50)), ("user", [prose(rng, 20)])])
    return Script(system=prose(rng, 900), tools=(), turns=tuple(map(tuple, rows)))


def short(seed: int, turns: int = 2) -> Script:
    """Return a chat that is too short for any cache."""
    rng = random.Random(seed)
    rows = [[("user", [prose(rng, 20)])]]
    while len(rows) < turns:
        rows.append([("assistant", prose(rng, 20)), ("user", [prose(rng, 10)])])
    return Script(system=prose(rng, rng.randint(20, 200)), tools=(), turns=tuple(map(tuple, rows)))


# Workloads: blocks.jsonl {id, kind, role?, name?, text} and requests.jsonl {conv, turn, parts: [block ids]}.


def read_workload(folder: Path) -> Iterator[Script]:
    """Yield the conversations of a workload, each request with what it adds to the one before.

    Documents come with the question they were retrieved for, ahead of it, and stay in the history.
    """
    blocks = {row["id"]: row for row in _rows(folder / "blocks.jsonl")}
    conversations = defaultdict(list)
    for row in _rows(folder / "requests.jsonl"):
        conversations[row["conv"]].append([blocks[number] for number in row["parts"]])
    for requests in conversations.values():
        yield _script(requests)


def _rows(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _script(requests: list[list[dict]]) -> Script:
    system = "\n\n".join(block["text"] for block in requests[0] if block["kind"] == "system")
    tools = tuple(_read_tool(block) for block in requests[0] if block["kind"] == "tool")
    turns, told, seen = [], 0, set()
    for request in requests:
        history = [block for block in request if block["kind"] == "history"]
        documents = [block["text"] for block in request if block["kind"] == "doc" and block["id"] not in seen]
        seen |= {block["id"] for block in request if block["kind"] == "doc"}
        turns.append(tuple(_events(history[told:], documents)))
        told = len(history)
    return Script(system=system, tools=tools, turns=tuple(turns))


def _read_tool(block: dict) -> tuple[str, str, dict]:
    function = json.loads(block["text"])["function"]
    return function["name"], function["description"], function["parameters"]


def _events(history: list[dict], documents: list[str]) -> Iterator[tuple[str, object]]:
    for number, block in enumerate(history):
        value = _object(block["text"])
        if block["role"] == "tool":
            yield "results", [(value["tool_call_id"], value["content"])]
        elif value.get("tool_calls"):
            calls = [(call["id"], call["function"]) for call in value["tool_calls"]]
            yield "calls", [(i, call["name"], json.loads(call["arguments"])) for i, call in calls]
        elif block["role"] == "assistant":
            yield "assistant", value.get("content") or block["text"]
        else:
            texts = documents if number == len(history) - 1 else []
            yield "user", [*texts, value.get("content") or block["text"]]


def _object(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
