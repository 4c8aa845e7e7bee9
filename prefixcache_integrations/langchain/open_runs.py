"""Runs under way, known by ids that nobody holds here: LangChain tells nobody of a cancelled ``ainvoke``.

It lets go of the run's id, and that is how it is known that the run cannot be told to end any longer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from uuid import UUID
from weakref import ref

T = TypeVar("T")

# Runs whose end nobody tells may be held for good, by a tracer for instance.
_MOST_OPEN_RUNS = 10_000


class OpenRuns(Generic[T]):
    """What is known of each run; ``abandon`` is given that of every one that nobody will tell to end. Thread-safe."""

    def __init__(self, abandon: Callable[[T], object]) -> None:
        self._abandon = abandon
        self._lock = threading.Lock()
        self._runs: OrderedDict[int, tuple[T, ref[UUID]]] = OrderedDict()
        self._left: deque[int] = deque()

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    def open(self, run_id: UUID, run: T) -> None:
        """Begin a run; beyond ten thousand the oldest is abandoned."""
        dropped, number = None, run_id.int
        self.catch_up()
        with self._lock:
            self._runs[number] = run, ref(run_id, lambda _: self._leave(number))
            if len(self._runs) > _MOST_OPEN_RUNS:
                _, dropped = self._runs.popitem(last=False)
        if dropped is not None:
            self._abandon(dropped[0])

    def get(self, run_id: UUID) -> T | None:
        """Return what is known of a run under way."""
        with self._lock:
            found = self._runs.get(run_id.int)
        return None if found is None else found[0]

    def end(self, run_id: UUID) -> T | None:
        """Return what is known of a run that has ended, ``None`` where nobody had begun it."""
        with self._lock:
            found = self._runs.pop(run_id.int, None)
        return None if found is None else found[0]

    def end_abandoned(self, run_id: UUID) -> None:
        """End a run that was cancelled: whoever chose its id begins another."""
        run = self.end(run_id)
        if run is not None:
            self._abandon(run)

    def catch_up(self) -> None:
        """Abandon those that nobody holds any longer."""
        while self._left:
            with self._lock:
                found = self._runs.pop(self._left.popleft(), None) if self._left else None
            if found is not None:
                self._abandon(found[0])

    def _leave(self, number: int) -> None:
        """Note a run that nobody holds: in the middle of anything, so that no lock can be taken, and nobody be told."""
        self._left.append(number)
        with suppress(RuntimeError):  # no loop runs here: it is abandoned when something else is told, or asked for
            asyncio.get_running_loop().call_soon(self.catch_up)
