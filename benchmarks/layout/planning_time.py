"""``python -m benchmarks.layout.planning_time``: how long planning takes, by what is remembered and how much is said.

A conversation with tools, about 100,000 tokens at 200 messages, grows turn by turn: each sends all of it once more,
with an answer and what follows that, whose tokens are counted already. Bodies are made anew for each turn, of strings
that are the application's own, as SDKs and frameworks hand them over. ``plan`` is `decide` for a request that a
`BodyReader` has read, as all adapters do; in the row that says so, it is decoded without one. ``prepare`` is all that
happens to a body: reading, planning, remembering, writing. ``cold`` is the first sight of a prompt, token counting
apart. ``documents`` are those of one question each, asked for the first time, in the order that is expected to pay
(level ``arrange``). Times are of this thread's processor, so that what else runs on the machine counts less. The last
row is what a full garbage collection has to do for what is remembered.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple, TypeAlias

from benchmarks.layout.searches import Searches
from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import BodyFormat, Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.flows.prepare import prepare
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.classes import Likeness
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting
from prefixcache_integrations.prompt.steps import Step

Body: TypeAlias = dict[str, object]

CLAUDE, CHAT = AnthropicMessages(), OpenAIChat()
TOKENIZER = tokens.load()

LIVE = (1_000, 10_000, 50_000, 100_000)
LENGTHS = (25, 50, 100, 200, 400)
LOOKED_UP = (10, 20)
SAMPLES = 300
COLD_SAMPLES = 30

TURNS = 10
"""How many turns of a conversation are timed, behind as many that are not: of every other one its planning alone."""

_RULES = "You look every order up before you say anything about it, and you are kind to customers. " * 60
_ABOUT = "Looks an order up and tells where it is. " * 5
_FACT = "Order {number} of shelf {other} left the warehouse in the evening, in van {number}, for street {other}. "


def main() -> None:
    """Print all times, in microseconds."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--samples", type=int, default=SAMPLES)
    samples = options.parse_args().samples
    print(f"{'':52}{'min':>8}{'p50':>8}{'p99':>8}{'max':>8}   µs of processor time")
    for live in LIVE:
        _report(f"plan, warm, 200 messages, {live:,} live", _App(live).turns(_claude, 200, samples).plan)
    for length in LENGTHS:
        _report_both(f"warm, {length} messages, 50,000 live", _App(50_000).turns(_claude, length, samples))
    _report_both("warm, 200 messages, Chat Completions", _App(50_000).turns(_chat, 200, samples))
    _report_both("warm, 200 messages, no reader", _App(50_000, reads=False).turns(_claude, 200, samples))
    _report("plan, cold, 200 messages", _cold(COLD_SAMPLES))
    for looked_up in LOOKED_UP:
        searches, memory = Searches(looked_up), PromptMemory(limit=10_000_000, horizon=inf)
        for live in LIVE:
            _report(f"plan, {looked_up} documents, {live:,} live", _searched(searches, memory, live, samples))
    _report("a full garbage collection, 50,000 live", _collections(50_000))


class _Times(NamedTuple):
    plan: list[float]
    prepare: list[float]


def _report_both(name: str, times: _Times) -> None:
    _report(f"plan, {name}", times.plan)
    _report(f"prepare, {name}", times.prepare)


def _report(name: str, seconds: Sequence[float]) -> None:
    times = sorted(each * 1e6 for each in seconds)
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    print(f"{name:52}{times[0]:8,.0f}{p50:8,.0f}{p99:8,.0f}{times[-1]:8,.0f}", flush=True)


class _App:
    """An application that has sent so many requests, and the time that its turns take: of planning, and of all."""

    def __init__(self, live: int, *, reads: bool = True) -> None:
        self._memory = _with_live(live)
        gc.collect()
        gc.freeze()
        self._reader = BodyReader() if reads else None
        self._now = 2.0
        self._talks = 0

    def turns(self, body: Callable[[Sequence[str]], Body], length: int, samples: int) -> _Times:
        """Return how long turns took, of conversations that are about so many messages long by then."""
        times = _Times([], [])
        lengths = range(max(length - 3 * TURNS, 1) | 1, length + TURNS, 2)
        while len(times.prepare) < samples:
            self._talks += 1
            said = [_text(self._talks, number) for number in range(lengths[-1])]
            for place, end in enumerate(lengths):
                act, into = (self._plan, times.plan) if place % 2 else (self._prepare, times.prepare)
                took = act(body(said[:end]))
                into += [took] if place >= len(lengths) - TURNS else []
                self._now += 2.0
        return times

    def _form(self, body: Body) -> BodyFormat:
        _counted(body)
        return _dialect(body) if self._reader is None else self._reader.reading(_dialect(body))

    def _plan(self, body: Body) -> float:
        request = self._form(body).decode_request(body)
        profile, snapshot = resolve(request.model), self._memory.snapshot(self._now)
        started = time.thread_time()
        made = decide(request, profile, TOKENIZER, snapshot=snapshot)
        took = time.thread_time() - started
        if made.sighting is not None:
            self._memory.observe(made.sighting, self._now)
        return took

    def _prepare(self, body: Body) -> float:
        form = self._form(body)
        started = time.thread_time()
        prepare(body, form, resolve, TOKENIZER, memory=self._memory, now=self._now)
        return time.thread_time() - started


def _cold(samples: int) -> list[float]:
    times = list[float]()
    for talk in range(samples):
        request = _counted(_claude([_text(talk, number) for number in range(201)]))
        profile, snapshot = resolve(request.model), PromptMemory().snapshot(0.0)
        started = time.thread_time()
        decide(request, profile, TOKENIZER, snapshot=snapshot)
        times.append(time.thread_time() - started)
    return times


def _searched(searches: Searches, memory: PromptMemory, live: int, samples: int) -> list[float]:
    profile = resolve("claude-sonnet-4-5")
    searches.grow(memory, live, profile, TOKENIZER)
    times, now = list[float](), 2.0 * live
    for _ in range(samples):
        request = searches.ask()
        decide(request, profile, TOKENIZER)  # counts its tokens
        snapshot = memory.snapshot(now)
        started = time.thread_time()
        made = decide(request, profile, TOKENIZER, level="arrange", snapshot=snapshot)
        times.append(time.thread_time() - started)
        if made.sighting is not None:
            memory.observe(made.sighting, now)
        now += 2.0
    return times


def _collections(live: int) -> list[float]:
    gc.collect()
    gc.freeze()
    memory, times = _with_live(live), list[float]()
    for _ in range(COLD_SAMPLES):
        started = time.thread_time()
        gc.collect()
        times.append(time.thread_time() - started)
    return times if len(memory) else []


def _with_live(requests: int) -> PromptMemory:
    """Return a memory of so many requests, four blocks of their own each behind ten that all share."""
    memory = PromptMemory(limit=10_000_000)
    shared = [Step(number.to_bytes(16, "big"), Likeness("static")) for number in range(10)]
    for number in range(requests):
        own = [Step((4 * number + place + 1_000).to_bytes(16, "big"), Likeness("turn")) for place in range(4)]
        memory.observe(Sighting((*shared, *own)), 0.0)
    return memory


def _dialect(body: Body) -> Dialect:
    return CHAT if str(body["model"]).startswith("gpt") else CLAUDE


def _counted(body: Body) -> Request:
    """Return the request of ``body``, all tokens of which are counted."""
    request = _dialect(body).decode_request(body)
    decide(request, resolve(request.model), TOKENIZER)
    return request


def _text(conversation: int, number: int, length: int = 1_900) -> str:
    fact = _FACT.format(number=number + 1, other=conversation + 1)
    return (fact * (length // len(fact) + 1))[:length]


def _turns(said: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield every message of an agent's conversation: its role, its text, and the call that it makes or answers."""
    for number, text in enumerate(said):
        role = ("user", "assistant", "tool", "assistant")[number % 4]
        yield role, text, f"call_{number // 4}" if number % 4 in {1, 2} else ""


def _claude(said: Sequence[str]) -> Body:
    messages = list[Body]()
    for role, text, call in _turns(said):
        if role == "tool":
            result = {"type": "tool_result", "tool_use_id": call, "content": text}
            messages.append({"role": "user", "content": [result]})
        elif call:
            use = {"type": "tool_use", "id": call, "name": "tool_1", "input": {"order": len(messages)}}
            messages.append({"role": role, "content": [{"type": "text", "text": text}, use]})
        else:
            messages.append({"role": role, "content": text})
    tools = [{"name": name, "description": about, "input_schema": schema} for name, about, schema in _tools()]
    system = [{"type": "text", "text": _RULES}]
    return {"model": "claude-opus-4-8", "max_tokens": 1_000, "system": system, "tools": tools, "messages": messages}


def _chat(said: Sequence[str]) -> Body:
    messages: list[Body] = [{"role": "system", "content": _RULES}]
    for role, text, call in _turns(said):
        if role == "tool":
            messages.append({"role": role, "tool_call_id": call, "content": text})
        elif call:
            function = {"name": "tool_1", "arguments": '{"order": 1}'}
            use = {"type": "function", "id": call, "function": function}
            messages.append({"role": role, "content": text, "tool_calls": [use]})
        else:
            messages.append({"role": role, "content": text})
    functions = [{"name": name, "description": about, "parameters": schema} for name, about, schema in _tools()]
    return {
        "model": "gpt-5.6-sol",
        "messages": messages,
        "tools": [{"type": "function", "function": function} for function in functions],
    }


def _tools() -> Iterator[tuple[str, str, Body]]:
    for number in range(20):
        schema: Body = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
        yield f"tool_{number}", _ABOUT, schema


if __name__ == "__main__":
    main()
