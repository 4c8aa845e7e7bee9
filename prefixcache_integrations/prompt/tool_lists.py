"""The lists of tools that were sent: so that a set of tools goes out in the order that shares most with one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import takewhile

from msgspec import Struct

LISTS = 256
"""How many lists are remembered, at most."""


class ToolLists:
    """What was sent, one order for each set of names; the least recent goes first. Nothing but names is kept."""

    def __init__(self) -> None:
        self._lists: OrderedDict[frozenset[str], _Sent] = OrderedDict()

    def observe(self, names: Sequence[str], agent: bytes) -> None:
        """Remember that ``agent`` has been sent tools called ``names``, in this order."""
        if not names:
            return
        self._lists[frozenset(names)] = _Sent(tuple(dict.fromkeys(names)), agent)
        self._lists.move_to_end(frozenset(names))
        if len(self._lists) > LISTS:
            self._lists.popitem(last=False)

    def order(self, names: Collection[str], agent: bytes) -> list[str]:
        """Return ``names``, each once: as they were sent, else behind as much as possible of a list that was.

        Of lists that have as much in front it is one of the same ``agent``, then the most recent. New names come last,
        sorted.
        """
        wanted = frozenset(names)
        known = self._lists.get(wanted)
        if known is not None:
            return list(known.names)
        longest = self._longest(wanted, agent)
        return [*(name for name in longest if name in wanted), *sorted(wanted.difference(longest))]

    def _longest(self, wanted: frozenset[str], agent: bytes) -> tuple[str, ...]:
        best: tuple[str, ...] = ()
        most = (0, False)
        for sent in reversed(self._lists.values()):
            kept = sum(1 for _ in takewhile(wanted.__contains__, sent.names))
            if (kept, sent.agent == agent) > most:
                best, most = sent.names, (kept, sent.agent == agent)
        return best


class _Sent(Struct, frozen=True):
    names: tuple[str, ...]
    agent: bytes
