"""What is asked and answered: conversations of three lengths, a short and a long answer, a model that calls nobody."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

WORDS = "the customer asked about an order that was returned or never sent at all to her"
SIZES: Mapping[str, tuple[int, int]] = {"1k": (1_000, 1), "20k": (20_000, 10), "100k": (100_000, 30)}
"""Tokens, and pairs of question and answer before the last question."""

USAGE = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200, "input_token_details": {"cache_read": 0}}
METADATA = {
    "token_usage": {"completion_tokens": 200, "prompt_tokens": 1000, "total_tokens": 1200},
    "model_provider": "openai",
    "model_name": "gpt-4o-mini",
    "system_fingerprint": "fp_1",
    "id": "chatcmpl-1",
    "finish_reason": "stop",
    "logprobs": None,
}


def text(tokens: int, rng: random.Random) -> str:
    """Return English of about as many tokens."""
    words = WORDS.split()
    return " ".join(rng.choice(words) for _ in range(tokens))


def conversation(size: str, seed: int = 1) -> list[BaseMessage]:
    """Return a conversation of one of `SIZES`."""
    rng = random.Random(seed)
    tokens, pairs = SIZES[size]
    each = tokens // (2 * pairs + 1)
    messages: list[BaseMessage] = [SystemMessage(text(each, rng))]
    for number in range(pairs):
        answer = AIMessage(text(each, rng), id=f"run-{number}", usage_metadata=USAGE, response_metadata=METADATA)
        messages += [HumanMessage(text(each, rng)), answer]
    return [*messages, HumanMessage("What now?")]


def answers() -> dict[str, AIMessage]:
    """Return a short answer of 200 tokens, and a long one of 4k with tool calls."""
    rng = random.Random(2)
    calls = [
        {"name": "search_0", "args": {"query": text(60, rng), "rows": number}, "id": f"call_{number}"}
        for number in range(8)
    ]
    small = AIMessage(text(200, rng), usage_metadata=USAGE, response_metadata=METADATA)
    large = AIMessage(text(2500, rng), usage_metadata=USAGE, response_metadata=METADATA, tool_calls=calls)
    return {"small": small, "large": large}


def search(query: str, rows: int = 1) -> str:
    """Search the orders of the shop."""
    return f"{query}: {rows}"


TOOLS = [StructuredTool.from_function(search, name=f"search_{number}") for number in range(5)]


class Model(ChatOpenAI):
    """ChatOpenAI whose provider is not asked: it has one answer."""

    _answer: AIMessage = PrivateAttr()

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}  # the answer is no setting

    def _generate(self, *_: object, **__: object) -> ChatResult:
        message = self._answer.model_copy(deep=True)
        return ChatResult(generations=[ChatGeneration(message=message, generation_info={"finish_reason": "stop"})])


def model(answer: AIMessage, cache: BaseCache | None = None) -> Model:
    """Return a model that answers ``answer``."""
    made = Model(model="gpt-4o-mini", api_key="none", cache=cache)
    made._answer = answer  # noqa: SLF001 - no setting: those are part of the key
    return made


def measure(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median microseconds of each, taken in turns, so that a slow moment of the machine meets all."""
    times: dict[str, list[int]] = {name: [] for name in works}
    order = list(works)
    rng = random.Random(3)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            rng.shuffle(order)
            for name in order:
                started = time.perf_counter_ns()
                works[name]()
                times[name].append(time.perf_counter_ns() - started)
    finally:
        gc.enable()
    return {name: statistics.median(taken) / 1000 for name, taken in times.items()}
