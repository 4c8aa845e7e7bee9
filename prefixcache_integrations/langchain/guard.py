"""Lands the flights of calls that failed: LangChain asks a cache, and never tells it that no answer will come.

Of a call that was asked for blocking, `on_llm_error` tells, also on an interrupt; the handler below hears of every
model's. A chat model that is awaited asks from a task of its own: when that ends, also cancelled, the call is over.
A completion that is awaited asks from its caller's task, which may end late: there both are used.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary, ref

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook
from typing_extensions import override

from prefixcache_integrations.flows.flights import Flight, led_here, moment
from prefixcache_integrations.store_io import in_loop

_MOST_OPEN_RUNS = 1024


class _Asked(NamedTuple):
    """What LangChain asked: which cache, with which two strings; and whether `on_llm_error` tells of a failure."""

    question: tuple[int, str, str]
    told_by_error: bool


_watched: WeakKeyDictionary[Flight, _Asked] = WeakKeyDictionary()


def watch(flight: Flight, cache: object, prompt: str, llm_string: str, *, awaited: bool) -> None:
    """Land ``flight`` when the call fails that LangChain makes after this; ``awaited`` if a task asks ``cache``.

    To be called in the context that leads the flight.
    """
    task = asyncio.current_task() if awaited else None
    if task is not None:
        flight_of_task = ref(flight)
        task.add_done_callback(lambda ended: _land(flight_of_task(), cancelled=ended.cancelled()))
    by_a_chat_model = prompt.startswith('[{"')  # a dump of messages
    _watched[flight] = _Asked((id(cache), prompt, llm_string), task is None or not by_a_chat_model)


def flight_of(cache: object, prompt: str, llm_string: str) -> Flight | None:
    """Return the flight that is led here since LangChain asked ``cache`` this, ``None`` if there is none."""
    asked = ((flight, _watched.get(flight)) for flight in led_here())
    return next(
        (flight for flight, known in asked if known and known.question == (id(cache), prompt, llm_string)), None
    )


_MOST_ASKED = 1024
"""Of so many calls it is known here when they began: a completion may be of many prompts."""

_begun: ContextVar[tuple[tuple[int, int], ...]] = ContextVar("prefixcache_calls_begun", default=())


def note(cache: object, prompt: str, llm_string: str, began: int) -> None:
    """Remember here that LangChain, which asked ``cache`` this, makes its call from the moment ``began`` on."""
    question = hash((id(cache), prompt, llm_string))  # not the texts: a context may live long
    _begun.set((*_begun.get()[1 - _MOST_ASKED :], (question, began)))


def began(cache: object, prompt: str, llm_string: str) -> int | None:
    """Return, once, since when the call is made here that asked ``cache`` this, ``None`` if nobody noted it."""
    question, begun = hash((id(cache), prompt, llm_string)), _begun.get()
    at = next((at for at in reversed(range(len(begun))) if begun[at][0] == question), None)
    if at is None:
        return None
    _begun.set((*begun[:at], *begun[at + 1 :]))
    return begun[at][1]


def _land(flight: Flight | None, *, cancelled: bool) -> None:
    """End what has not landed yet: cancelled, another may lead; failed, it may fail for all, and nobody waits again."""
    if flight is not None:
        flight.land("released" if cancelled else "declined")


def _watched_here() -> list[Flight]:
    led = led_here()
    if not led:
        return led
    asked = ((flight, _watched.get(flight)) for flight in led)
    return [flight for flight, known in asked if known and known.told_by_error]


class _Guard(BaseCallbackHandler):
    """Hears of every model call of the process, and only of what matters: it is asked first what to ignore.

    Its methods never run inline: one inline handler keeps the others from hearing of awaited completions.
    """

    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: OrderedDict[UUID, int] = OrderedDict()

    @property
    @override
    def ignore_llm(self) -> bool:
        """Whether nothing is led here that could fail; so no token of a stream is told on another thread."""
        return not _watched_here()

    @property
    @override
    def ignore_chat_model(self) -> bool:
        """Whether the beginning of a run says nothing: all that is led here later is its own, or its task tells."""
        return not _watched_here() or in_loop()

    @override
    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Remember when a run began: what was led before is not its own but that of a model around it."""
        with self._lock:
            self._begun[run_id] = moment()
            if len(self._begun) > _MOST_OPEN_RUNS:
                self._begun.popitem(last=False)

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Land what was led for the run; of one whose beginning is not known, all that is led here."""
        with self._lock:
            begun = self._begun.pop(run_id, 0)
        for flight in _watched_here():
            if flight.number > begun:
                _land(flight, cancelled=not isinstance(error, Exception))


# Hooks cannot be taken back: there is one for the process, whatever number of caches.
_hook: ContextVar[_Guard | None] = ContextVar("prefixcache_guard", default=_Guard())  # noqa: B039 - one for all contexts
register_configure_hook(_hook, inheritable=False)
