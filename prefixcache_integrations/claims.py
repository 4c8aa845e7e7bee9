"""Who tells an observer of a call that several follow: the first of them, so that a ledger books it once."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Literal, TypeAlias

from prefixcache_integrations.events import Observer

Matter: TypeAlias = Literal["bill", "break"]

_lock = threading.Lock()
_claimed: dict[Hashable, dict[Matter, list[Observer]]] = {}


def claim(call: Hashable, matter: Matter, observers: Sequence[Observer]) -> Sequence[Observer]:
    """Return those of ``observers`` whom nobody else will tell of this matter.

    ``call`` is what all who follow the call know it by; ``None``: nobody else does.
    """
    if call is None:
        return observers
    with _lock:
        told = _claimed.setdefault(call, {}).setdefault(matter, [])
        free = [each for each in observers if each not in told]
        told.extend(free)
    return free


def release(call: Hashable) -> None:
    """Forget who tells whom: the call has ended for one of them, and all have begun to follow it before."""
    with _lock:
        _claimed.pop(call, None)
