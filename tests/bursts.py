"""A model that lets none of a burst's answers begin before all of its requests are there."""

from __future__ import annotations

import threading

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.server import Reply, Simulator

RULES = "Answer from the handbook, and say which page. " * 250
"""Instructions that are long enough to be cached."""


class Gate:
    """Holds up the answers to questions that begin with ``burst`` until so many have arrived; one with ``fail`` fails."""

    def __init__(self) -> None:
        self._barrier: threading.Barrier | None = None

    def expect(self, count: int) -> None:
        """Say how many come at once."""
        self._barrier = threading.Barrier(count, timeout=30)

    def __call__(self, request: Request) -> Reply:
        said = request.messages[-1].parts[-1].text
        if said.startswith("burst") and self._barrier is not None:
            self._barrier.wait()
        if said.startswith("fail"):
            raise RuntimeError("refused")
        return Reply(text="fine " * 20)


def written(simulator: Simulator) -> list[bool]:
    """Return of each call so far whether it wrote to the cache, in the order of arrival."""
    return [bool(call.usage is not None and call.usage.cache_write_tokens) for call in simulator.calls]


def read(simulator: Simulator) -> list[bool]:
    """Return of each call so far whether it read from the cache, in the order of arrival."""
    return [bool(call.usage is not None and call.usage.cache_read_tokens) for call in simulator.calls]
