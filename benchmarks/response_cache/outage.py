"""What requests notice of a Redis server that refuses, or accepts and never answers, for a while under load.

Half of the requests come from threads, half from tasks of one event loop, each half with a cache of its own. Every
other question is new, so that answers are paid for and have to be kept; the others are asked for the second time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.response_cache.figures import Figure
from prefixcache_integrations.events import CacheHit, Event, StoreDegraded
from prefixcache_integrations.langchain import ResponseCache
from tests.redis_server import RedisServer, provide_server

RATE = 50
"""Requests per second."""
CALL_SECONDS = 0.05
BEFORE, AFTER = 2.0, 4.0
"""Seconds of load around the outage."""
REPEATED = 21
"""After so many requests every question is asked again: an odd number, as only the even ones are new."""
TIMED_OUT = 0.04
"""Seconds that only a request loses which has waited for the server itself."""

KINDS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "refuses": (RedisServer.kill, RedisServer.start),
    "never answers": (RedisServer.pause, RedisServer.resume),
}


class Paid(BaseChatModel):
    """A model that takes its time, and answers every question with itself."""

    @property
    def _llm_type(self) -> str:
        return "paid"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "paid"}

    def _generate(self, messages: list[BaseMessage], *_: object, **__: object) -> ChatResult:
        time.sleep(CALL_SECONDS)
        return _answer(messages)

    async def _agenerate(self, messages: list[BaseMessage], *_: object, **__: object) -> ChatResult:
        await asyncio.sleep(CALL_SECONDS)
        return _answer(messages)


def _answer(messages: list[BaseMessage]) -> ChatResult:
    message = AIMessage(str(messages[-1].content), response_metadata={"finish_reason": "stop"})
    return ChatResult(generations=[ChatGeneration(message=message)])


class Log:
    """What happened, each with its moment."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        self.requests: list[tuple[float, float, bool]] = []

    def observe(self, event: Event) -> None:
        """Take an event down."""
        self.events.append((time.monotonic(), event))

    def record(self, begun: float, question: str, answer: object) -> None:
        """Take a request down: when it began, how long it took, whether its answer is its own."""
        self.requests.append((begun, time.monotonic() - begun, answer == question))


def compare(seconds: float) -> list[Figure]:
    """Print what came of every request while the server was away for so many ``seconds``."""
    figures: list[Figure] = []
    print(f"\na server that is away for {seconds:g} s under {RATE} requests per second")
    for kind, (leave, come_back) in KINDS.items():
        server = RedisServer(provide_server())
        try:
            figures += _figures(kind, *_outage(server, leave, come_back, seconds))
        finally:
            server.close()
    return figures


def _outage(
    server: RedisServer, leave: Callable[[RedisServer], None], come_back: Callable[[RedisServer], None], seconds: float
) -> tuple[Log, float, float]:
    """Return what happened, and when the server left and came back."""
    log, moments = Log(), list[float]()
    end = time.monotonic() + BEFORE + seconds + AFTER
    halves = [threading.Thread(target=half, args=(server.url(), log, end)) for half in (_threads, _tasks)]
    for half in halves:
        half.start()
    for act, pause in ((leave, BEFORE), (come_back, seconds)):
        time.sleep(pause)
        act(server)
        moments.append(time.monotonic())
    for half in halves:
        half.join()
    return log, moments[0], moments[1]


def _question(number: int, half: str) -> str:
    return f"{half} {number - REPEATED * (number % 2)}"


def _threads(url: str, log: Log, end: float) -> None:
    cache = ResponseCache.from_url(url, observers=[log.observe])
    model = Paid(cache=cache)

    def ask(question: str) -> None:
        begun = time.monotonic()
        try:
            answer: object = model.invoke(question).content
        except Exception as error:  # noqa: BLE001 - which counts as failed
            answer = error
        log.record(begun, question, answer)

    with ThreadPoolExecutor(RATE) as pool:
        for number in range(10**9):
            if time.monotonic() > end:
                break
            pool.submit(ask, _question(number, "threads"))
            time.sleep(2 / RATE)
    cache.close()


def _tasks(url: str, log: Log, end: float) -> None:
    async def ask(model: Paid, question: str) -> None:
        begun = time.monotonic()
        try:
            answer: object = (await model.ainvoke(question)).content
        except Exception as error:  # noqa: BLE001 - which counts as failed
            answer = error
        log.record(begun, question, answer)

    async def work() -> None:
        cache = ResponseCache.from_url(url, observers=[log.observe])
        model, number = Paid(cache=cache), 0
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < end:
                tasks.create_task(ask(model, _question(number, "tasks")))
                number += 1
                await asyncio.sleep(2 / RATE)
        await cache.aclose()

    asyncio.run(work())


def _figures(kind: str, log: Log, left: float, back: float) -> list[Figure]:
    during = [(begun, taken - CALL_SECONDS) for begun, taken, _ in log.requests if left <= begun < back]
    failed = sum(not right for _, _, right in log.requests)
    # What the breaker refuses has no cause; what asked the server has the driver's error for one.
    asked = [at for at, event in log.events if isinstance(event, StoreDegraded) and "(" in event.error]
    probes = [at for at in asked if left + 1 <= at < back]
    hits = [at for at, event in log.events if isinstance(event, CacheHit) and at >= back]
    lost = sorted(max(more, 0.0) for _, more in during)
    print(
        f"  {kind:14} {len(log.requests)} requests, {failed} failed; while it was away {len(during)}: lost"
        f" {1e3 * lost[len(lost) // 2]:.0f} ms at the median, {1e3 * lost[-1]:.0f} ms at most,"
        f" {sum(more >= TIMED_OUT for more in lost)} more than {1e3 * TIMED_OUT:.0f} ms;"
        f" asked {len(asked) - len(probes)} times in the first second, {len(probes)} times after"
    )
    return [
        Figure(f"Redis {kind}: failed requests", failed, 0, ""),
        Figure(f"Redis {kind}: probes per second and cache", len(probes) / 2 / max(back - left - 1, 1e-9), 1, ""),
        Figure(f"Redis {kind}: a hit again after", min(hits, default=float("inf")) - back, 2, "s"),
    ]
