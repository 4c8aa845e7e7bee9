"""The lists of tools that were sent: so that a set of tools goes out in the order that shares most with one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import takewhile

from msgspec import Struct

LISTS = 256
"""How many lists are remembered, at most."""


@lru_cache(maxsize=LISTS)
def tool_digests(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return what is remembered of tools with these ``names``."""
    return tuple(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() for name in names)


class ToolLists:
    """What was sent, one order for each set of tools; the least recent goes first. Nothing but digests is kept."""

    def __init__(self) -> None:
        self._lists: OrderedDict[frozenset[bytes], _Sent] = OrderedDict()
        self._orders: dict[tuple[str, ...], list[str]] = {}

    def observe(self, digests: Sequence[bytes], agent: bytes) -> None:
        """Remember that ``agent`` has been sent the tools of these `tool_digests`, in this order."""
        if not digests:
            return
        key, sent = frozenset(digests), _Sent(tuple(dict.fromkeys(digests)), agent)
        if key not in self._lists or self._lists[key].digests != sent.digests:
            self._orders.clear()
        self._lists[key] = sent
        self._lists.move_to_end(key)
        if len(self._lists) > LISTS:
            self._lists.popitem(last=False)

    def order(self, names: Collection[str], agent: bytes) -> list[str]:
        """Return ``names``, each once: as they were sent, else behind as much as possible of a list that was.

        Of lists that have as much in front it is one of the same ``agent``, then the most recent. New names come last,
        sorted.
        """
        given = tuple(names)
        if given in self._orders:
            return self._orders[given]
        by_digest = dict(zip(tool_digests(given), given, strict=True))
        wanted = frozenset(by_digest)
        known = self._lists.get(wanted)
        if known is not None:
            if len(self._orders) >= LISTS:
                self._orders.clear()
            self._orders[given] = [by_digest[digest] for digest in known.digests]
            return self._orders[given]
        longest = self._longest(wanted, agent)
        new = sorted(by_digest[digest] for digest in wanted.difference(longest))
        return [*(by_digest[digest] for digest in longest if digest in wanted), *new]

    def _longest(self, wanted: frozenset[bytes], agent: bytes) -> tuple[bytes, ...]:
        best: tuple[bytes, ...] = ()
        most = (0, False)
        for sent in reversed(self._lists.values()):
            kept = sum(1 for _ in takewhile(wanted.__contains__, sent.digests))
            if (kept, sent.agent == agent) > most:
                best, most = sent.digests, (kept, sent.agent == agent)
        return best


class _Sent(Struct, frozen=True, gc=False):
    digests: tuple[bytes, ...]
    agent: bytes
