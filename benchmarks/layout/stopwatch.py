"""Processor time of this thread: what else runs on the machine does not count, and the collector is told apart."""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import NamedTuple, Self


class Spent(NamedTuple):
    """Seconds of processor time, and how many of them Python's garbage collector took."""

    seconds: float
    collecting: float


class Stopwatch:
    """Measures what happens in a ``with`` block in ``spent``; one at a time."""

    def __init__(self) -> None:
        self.spent = Spent(0.0, 0.0)
        self._begun = self._collection = self._collecting = 0.0

    def __enter__(self) -> Self:
        self._collecting = 0.0
        gc.callbacks.append(self._collected)
        self._begun = time.thread_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.spent = Spent(time.thread_time() - self._begun, self._collecting)
        gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collection = time.thread_time()
        else:
            self._collecting += time.thread_time() - self._collection
