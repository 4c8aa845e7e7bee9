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


@lru_cache(maxsize=4096)
def tool_digest(name: str) -> bytes:
    """Return what is remembered of a tool called ``name``."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ToolLists:
    """What was sent, one order for each set of tools; the least recent goes first. Nothing but digests is kept."""

    def __init__(self) -> None:
        self._lists: OrderedDict[frozenset[bytes], _Sent] = OrderedDict()

    def observe(self, digests: Sequence[bytes], agent: bytes) -> None:
        """Remember that ``agent`` has been sent the tools of these `tool_digest`s, in this order."""
        if not digests:
            return
        self._lists[frozenset(digests)] = _Sent(tuple(dict.fromkeys(digests)), agent)
        self._lists.move_to_end(frozenset(digests))
        if len(self._lists) > LISTS:
            self._lists.popitem(last=False)

    def order(self, names: Collection[str], agent: bytes) -> list[str]:
        """Return ``names``, each once: as they were sent, else behind as much as possible of a list that was.

        Of lists that have as much in front it is one of the same ``agent``, then the most recent. New names come last,
        sorted.
        """
        by_digest = {tool_digest(name): name for name in names}
        wanted = frozenset(by_digest)
        known = self._lists.get(wanted)
        if known is not None:
            return [by_digest[digest] for digest in known.digests]
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


class _Sent(Struct, frozen=True):
    digests: tuple[bytes, ...]
    agent: bytes
