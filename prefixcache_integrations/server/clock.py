"""The simulator's time: it moves when told, so that an hour's lifetime is tested in a millisecond."""

from __future__ import annotations

import threading
import time

MAX_ADVANCE = 10 * 365 * 86_400
"""The longest step, ten years: beyond any lifetime, and within what a date can hold."""


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
        """Move on by ``seconds``, at most `MAX_ADVANCE`, and return the new time; else raises `ValueError`."""
        if not 0 <= seconds <= MAX_ADVANCE:
            raise ValueError(f"the clock moves forward, by {MAX_ADVANCE} seconds at most")
        with self._lock:
            self._advanced += seconds
        return self.now()
