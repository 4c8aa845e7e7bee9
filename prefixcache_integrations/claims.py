"""Who tells an observer of a call that several follow: the first of them, so that a ledger books it once."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Literal, TypeAlias
from weakref import WeakValueDictionary

from prefixcache_integrations.events import Observer

Matter: TypeAlias = Literal["bill", "break"]

_lock = threading.Lock()


class Claims:
    """Who is told what of one call. Held by those who follow it: nothing of it outlives them. Thread-safe."""

    def __init__(self) -> None:
        self._told: dict[Matter, list[Observer]] = {}

    def claim(self, matter: Matter, observers: Sequence[Observer]) -> Sequence[Observer]:
        """Return those of ``observers`` whom nobody else will tell of this matter."""
        with _lock:
            told = self._told.setdefault(matter, [])
            free = [each for each in observers if each not in told]
            told.extend(free)
        return free


_shared: WeakValueDictionary[Hashable, Claims] = WeakValueDictionary()


def claims_of(call: Hashable) -> Claims:
    """Return the claims of all who follow what they know as ``call``; ``None``: nobody else does."""
    if call is None:
        return Claims()
    with _lock:
        found = _shared.get(call)
        if found is None:
            found = _shared[call] = Claims()
    return found


def release(call: Hashable, claims: Claims) -> None:
    """Let ``call`` name another from now on: it has ended for one of those who hold ``claims``, and begun for all."""
    with _lock:
        if _shared.get(call) is claims:
            del _shared[call]
