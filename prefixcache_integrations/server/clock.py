"""The simulator's time: it moves when told, so that an hour's lifetime is tested in a millisecond."""

from __future__ import annotations

import threading
import time


class SimulatorClock:
    """Seconds since the simulator started. With ``real_time`` it also runs by itself. Thread-safe."""

    def __init__(self, *, real_time: bool = False) -> None:
        self._advanced = 0.0
        self._started = time.monotonic()
        self._real_time = real_time
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the seconds since the start, those advanced included."""
        running = time.monotonic() - self._started if self._real_time else 0.0
        return self._advanced + running

    def advance(self, seconds: float) -> float:
        """Move on by ``seconds`` and return the new time; raises `ValueError` for a step back."""
        if not seconds >= 0:
            raise ValueError("the clock only moves forward")
        with self._lock:
            self._advanced += seconds
        return self.now()
