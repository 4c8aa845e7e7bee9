"""How large what a planner remembers is."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping


def state_bytes(value: object) -> int:
    """Return the bytes of ``value`` and of all it holds, each object once."""
    seen, waiting, total = set[int](), [value], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        waiting.extend(_held(each))
    return total


def _held(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from value
    yield from getattr(value, "__dict__", {}).values()
    for name in (*getattr(value, "__slots__", ()), *getattr(value, "__struct_fields__", ())):
        if hasattr(value, name):
            yield getattr(value, name)
