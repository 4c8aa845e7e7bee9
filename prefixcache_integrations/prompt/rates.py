"""How often prefixes come back: learned for those that are alike, from when each was sent again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["static", "turn", "document", "framing"]
"""What a step of a prompt is: tools and instructions, the conversation, a document that was looked up for it, or
what a provider puts around messages, which is the same in most."""

MANY = 4
"""From how many sightings on a prefix counts as one that is seen all the time."""

FOREVER = 30.0
"""The most reads that are ever expected of one write."""

PRIORS: Mapping[Kind, tuple[float, float]] = {
    "static": (0.85, 3.0),
    "turn": (0.6, 2.0),
    "document": (0.2, 2.0),
    "framing": (0.85, 3.0),
}
"""How likely a prefix that ends so is sent again, before anything was seen, and how many sightings that is worth.

Instructions are an application's own, and conversations mostly go on. What was looked up for one question is not
looked up for the next one: in doubt it is not written.
"""


class Likeness(NamedTuple):
    """What prefixes have in common that are sent again equally often.

    ``after_documents``: there is a document somewhere in the prefix. ``surprise``: how unlikely its documents come
    together again, in steps of halving. ``support``: how many similar requests had them all. ``last``: it is the whole
    prompt.
    """

    kind: Kind
    after_documents: bool = False
    surprise: int = 0
    support: int = 0
    last: bool = False


class Prefix(Struct):
    """What is known of one prefix. ``alive_until``: when its entry at the provider ends, 0 where none was written."""

    parent: int
    key: bytes
    visits: int = 0
    seen_at: float = 0.0
    lifetime: float = 0.0
    alive_until: float = 0.0
    likeness: Likeness | None = None
    children: dict[bytes, int] | None = None


class Rates:
    """How often prefixes that are alike come back before an entry ends, of those that had the time to.

    Estimated as survival is (Kaplan and Meier): per stretch of age, how many were still waited for when it began, and
    how many came back in it. So a prefix sent a moment ago is not yet taken for one that never returned.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[Likeness, int], list[float]] = {}
        self._returned: dict[tuple[Likeness, int], list[float]] = {}
        self._aging: tuple[deque[_Wait], ...] = tuple(deque() for _ in AGES)

    def sent(self, prefix: Prefix, likeness: Likeness, now: float) -> None:
        """Begin to wait for ``prefix``, which was just sent."""
        kind = (likeness, min(prefix.visits, MANY))
        waiting = self._waiting.setdefault(kind, [0.0] * len(AGES))
        waiting[0] += 1
        if waiting[0] > FRESH:
            self._halve(kind)
        self._aging[1].append(_Wait(prefix, prefix.visits, kind, now))

    def _halve(self, kind: tuple[Likeness, int]) -> None:
        for rows in (self._waiting, self._returned):
            rows[kind] = [count / 2 for count in rows.get(kind, _NEVER)]

    def returned(self, prefix: Prefix, likeness: Likeness, now: float) -> None:
        """Note that ``prefix`` was sent again; ``likeness`` is that of the last time."""
        kind = (likeness, min(prefix.visits, MANY))
        age = bisect_right(AGES, now - prefix.seen_at) - 1
        self._returned.setdefault(kind, [0.0] * len(AGES))[max(age, 0)] += 1

    def grow_older(self, now: float) -> None:
        """Count those that are still waited for at the next age; each is looked at once per age."""
        for age in range(1, len(AGES)):
            waiting = self._aging[age]
            while waiting and now - waiting[0].since >= AGES[age]:
                wait = waiting.popleft()
                if wait.prefix.visits == wait.visits:
                    self._waiting[wait.kind][age] += 1
                    if age + 1 < len(AGES):
                        self._aging[age + 1].append(wait)

    def chance(self, likeness: Likeness, visits: int, lifetime: float) -> float:
        """Return how likely a prefix returns within ``lifetime`` seconds of its ``visits``-th time."""
        prior, weight = PRIORS["document" if likeness.after_documents else likeness.kind]
        kind = (likeness, visits)
        waiting, returned = self._waiting.get(kind), self._returned.get(kind, _NEVER)
        if waiting is None:
            return prior
        gone = 1 - (returned[0] + prior * weight) / (waiting[0] + weight)
        for age in range(1, bisect_left(AGES, lifetime)):
            if waiting[age]:
                gone *= 1 - min(returned[age] / waiting[age], 1.0)
        return 1 - gone


AGES = (0.0, 30.0, 300.0, 1800.0, 3600.0, 43_200.0)
"""Where the stretches of age begin, in seconds: the lifetimes that providers offer, and the pauses within them."""

FRESH = 512.0
"""From how many sightings on older ones count half: what an application does changes."""

_NEVER = (0.0,) * len(AGES)


class _Wait(NamedTuple):
    prefix: Prefix
    visits: int
    kind: tuple[Likeness, int]
    since: float
