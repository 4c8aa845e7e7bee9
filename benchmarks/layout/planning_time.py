"""``python -m benchmarks.layout.planning_time``: how long planning takes, by what is remembered and how much is said.

A conversation with tools, about 100,000 tokens at its longest, is asked once more: all of it was sent before but the
last turn (an answer and what follows it), whose tokens are counted already. Requests are decoded anew each time, from
bodies whose strings are the application's own, as SDKs and frameworks hand them over. ``plan`` is `decide` for a
decoded request; ``prepare`` is all that happens to a body: decoding, planning, remembering, encoding. ``cold`` is the
first sight of a prompt, token counting apart. ``documents`` are those of one question each, asked for the first time,
in the order that is expected to pay (level ``arrange``). Times are of this thread's processor, so that what else runs
on the machine counts less.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import TypeAlias

from msgspec.structs import replace

from benchmarks.layout.searches import Searches
from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.flows.prepare import prepare
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.prefixes import Step
from prefixcache_integrations.prompt.rates import Likeness
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting

Body: TypeAlias = dict[str, object]

CLAUDE, CHAT = AnthropicMessages(), OpenAIChat()
TOKENIZER = tokens.load()

LIVE = (1_000, 10_000, 50_000, 100_000)
LENGTHS = (50, 100, 200)
LOOKED_UP = (10, 20)
SAMPLES = 300
COLD_SAMPLES = 30

_RULE = "You look every order up before you say anything about it, and you are kind to customers. "
_FACT = "Order {number} of shelf {other} left the warehouse in the evening, in van {number}, for street {other}. "


def main() -> None:
    """Print all times, in microseconds."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--samples", type=int, default=SAMPLES)
    samples = options.parse_args().samples
    print(f"{'':44}{'min':>8}{'p50':>8}{'p99':>8}{'max':>8}   µs of processor time")
    for live in LIVE:
        _report(f"plan, warm, 200 messages, {live:,} live", _warm(_claude, 200, live, samples))
    for length in LENGTHS:
        _report(f"plan, warm, {length} messages, 50,000 live", _warm(_claude, length, 50_000, samples))
    _report("plan, warm, 200 messages, Chat Completions", _warm(_chat, 200, 50_000, samples))
    _report("plan, cold, 200 messages", _cold(COLD_SAMPLES))
    _report("prepare, warm, 200 messages", _prepared(samples))
    for looked_up in LOOKED_UP:
        searches, memory = Searches(looked_up), PromptMemory(limit=10_000_000, horizon=inf)
        for live in LIVE:
            name = f"plan, {looked_up} documents, {live:,} live"
            _report(name, _searched(searches, memory, live, samples))


def _report(name: str, seconds: Sequence[float]) -> None:
    times = sorted(each * 1e6 for each in seconds)
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    print(f"{name:44}{times[0]:8,.0f}{p50:8,.0f}{p99:8,.0f}{times[-1]:8,.0f}", flush=True)


def _warm(body: Callable[[int, int, int], Body], length: int, live: int, samples: int) -> list[float]:
    memory, now = _with_live(live), 2.0
    _remember(memory, body(0, length, 0))
    times = list[float]()
    for sample in range(-3, samples):
        request = _decoded(body(0, length, sample))
        profile = resolve(request.model)
        snapshot = memory.snapshot(now)
        started = time.thread_time()
        made = decide(request, profile, TOKENIZER, snapshot=snapshot)
        times.append(time.thread_time() - started)
        if made.sighting is not None:
            memory.observe(made.sighting, now)
        now += 2.0
    return times[3:]


def _cold(samples: int) -> list[float]:
    times = list[float]()
    for sample in range(samples):
        memory = PromptMemory()
        request = _decoded(_claude(sample + 1, 200, 0))
        profile = resolve(request.model)
        decide(request, profile, TOKENIZER)  # counts its tokens
        snapshot = memory.snapshot(0.0)
        started = time.thread_time()
        decide(request, profile, TOKENIZER, snapshot=snapshot)
        times.append(time.thread_time() - started)
    return times


def _prepared(samples: int) -> list[float]:
    memory, form = _with_live(50_000), BodyReader().reading(CLAUDE)
    _remember(memory, _claude(0, 200, 0))
    times = list[float]()
    for sample in range(-3, samples):
        body = _claude(0, 200, sample)
        _decoded(body)
        started = time.thread_time()
        prepare(body, form, resolve, TOKENIZER, memory=memory, now=sample * 2.0 + 10)
        times.append(time.thread_time() - started)
    return times[3:]


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


def _with_live(requests: int) -> PromptMemory:
    """Return a memory of so many requests, four blocks of their own each behind ten that all share."""
    memory = PromptMemory(limit=10_000_000)
    shared = [Step(number.to_bytes(16, "big"), Likeness("static")) for number in range(10)]
    for number in range(requests):
        own = [Step((4 * number + place + 1_000).to_bytes(16, "big"), Likeness("turn")) for place in range(4)]
        memory.observe(Sighting((*shared, *own)), 0.0)
    gc.collect()
    gc.freeze()
    return memory


def _remember(memory: PromptMemory, body: Body) -> None:
    """Send the request before ``body``, which had neither its latest answer nor what follows that."""
    request = _decoded(body)
    request = replace(request, messages=request.messages[:-2])
    made = decide(request, resolve(request.model), TOKENIZER, snapshot=memory.snapshot(1.0))
    if made.sighting is not None:
        memory.observe(made.sighting, 1.0)


def _decoded(body: Body) -> Request:
    dialect = CHAT if str(body["model"]).startswith("gpt") else CLAUDE
    request = dialect.decode_request(body)
    decide(request, resolve(request.model), TOKENIZER)  # counts its tokens
    return dialect.decode_request(body)


def _text(conversation: int, number: int, length: int = 1_900) -> str:
    fact = _FACT.format(number=number + 1, other=conversation + 1)
    return (fact * (length // len(fact) + 1))[:length]


def _turns(conversation: int, length: int, last: int) -> Iterator[tuple[str, str, str]]:
    """Yield every message: its role, its text and its call; the one at the end is another for each ``last``."""
    for number in range(length - 1):
        role = ("user", "assistant", "tool", "assistant")[number % 4]
        yield role, _said(conversation, number), f"call_{number - number % 4}"
    yield "user", f"And number {last}? " + _text(conversation, length), ""


_KNOWN: dict[tuple[int, int], str] = {}


def _said(conversation: int, number: int) -> str:
    return _KNOWN.setdefault((conversation, number), _text(conversation, number))


def _claude(conversation: int, length: int, last: int) -> Body:
    messages = list[Body]()
    for role, text, call in _turns(conversation, length, last):
        if role == "tool":
            result = {"type": "tool_result", "tool_use_id": call, "content": text}
            messages.append({"role": "user", "content": [result]})
        elif role == "assistant" and call == f"call_{len(messages) - 1}":
            use = {"type": "tool_use", "id": call, "name": "tool_1", "input": {"order": len(messages)}}
            messages.append({"role": role, "content": [{"type": "text", "text": text}, use]})
        else:
            messages.append({"role": role, "content": text})
    tools = [{"name": name, "description": about, "input_schema": schema} for name, about, schema in _tools()]
    system = [{"type": "text", "text": _RULE * 60}]
    return {"model": "claude-opus-4-8", "max_tokens": 1_000, "system": system, "tools": tools, "messages": messages}


def _chat(conversation: int, length: int, last: int) -> Body:
    messages: list[Body] = [{"role": "system", "content": _RULE * 60}]
    for role, text, call in _turns(conversation, length, last):
        if role == "tool":
            messages.append({"role": role, "tool_call_id": call, "content": text})
        elif role == "assistant" and call == f"call_{len(messages) - 2}":
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
    schema: Body = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
    for number in range(20):
        yield f"tool_{number}", "Looks an order up and tells where it is. " * 5, schema


if __name__ == "__main__":
    main()
