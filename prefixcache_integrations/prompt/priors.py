"""What is expected of prefixes before their like was seen: how often they come again, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log1p
from typing import Literal, NamedTuple, TypeAlias

from prefixcache_integrations.prompt.returns import AGES

Kind: TypeAlias = Literal["tools", "static", "opening", "turn", "document", "filled", "framing"]
"""What a step of a prompt is: a tool, what else is an application's own (instructions, the text of its templates), what
a user says before there is an answer, the conversation from then on or with an agent, a document that was looked up for
it, what a call filled in to a template, or what a provider puts around messages, which is the same in most."""

OWN: frozenset[Kind] = frozenset({"tools", "static"})
"""What is an application's own."""

SAID: frozenset[Kind] = frozenset({"opening", "turn"})
"""What is said in a conversation."""


class Prior(NamedTuple):
    """What is expected before anything was seen: how likely prefixes come again soon, worth so many sightings.

    ``ages`` is how much of that falls to each of the `SOON` first `AGES`. Of
    those that are past an age at most ``told`` say that fewer return at the others too.
    """

    chance: float
    weight: float
    ages: tuple[float, ...] = (0.02, 0.1, 0.2, 0.33, 0.35)
    told: float = 6.0

    @property
    def rates(self) -> Sequence[float]:
        """The rates at which prefixes return at the first ages (the hazard, in terms of survival)."""
        return [-log1p(-self.chance) * share for share in self.ages]


_OWN = Prior(0.85, 3.0, (0.05, 0.2, 0.25, 0.25, 0.25), inf)

PRIORS: Mapping[Kind, Prior] = {
    "tools": _OWN,
    "static": _OWN,
    "opening": Prior(0.4, 2.0),
    "turn": Prior(0.75, 2.0),
    "document": Prior(0.2, 2.0),
    "filled": Prior(0.2, 2.0),
    "framing": _OWN,
}
"""What is expected of a prefix by what it ends with.

Instructions are an application's own, and come with its next requests. Conversations mostly go on once there is an
answer or with an agent, whether others do is as good as open; and people take their time, so that many of whom none is
back after some seconds say little. What was looked up for one question is not looked up for the next one, and what one
call fills in to a template without a place for a conversation, the next one fills in otherwise: in doubt these are not
written.
"""

Group: TypeAlias = Literal["own", "said"]


def group(kind: Kind) -> Group | None:
    """Return with what a kind shares its pace, ``None`` for what comes again by chance.

    What is an application's own comes with any of its requests, what is said with the next turn.
    """
    return "own" if kind in OWN else "said" if kind in SAID else None


SOON = 5
"""How many of the first `AGES` make up the shortest lifetime of an entry."""

LATELY = 64.0
"""How many returns make up a pace, at most: beyond that older ones count half."""

NEWS = 1 / 8
"""By how much the returns that make up a pace have to grow until others are expected for it."""


class Pace:
    """When prefixes come again that do: how many did so soon, and at each later one of `AGES`, whatever they are.

    An application's users and tools take their time, which is learned from the first conversation for those that
    follow: so what was not seen itself is expected when others came. What is expected beforehand counts as so many
    returns as a `Prior` has weight; it says how soon is soon, within the shortest lifetime of an entry.
    """

    def __init__(self) -> None:
        self._returned = [0.0] * len(AGES)
        self._known: tuple[float, ...] = ()
        self._total = 0.0

    def returned(self, age: int, share: float) -> bool:
        """Count so much of a return at an age, and tell whether that changes what is expected."""
        self._returned[age] += share
        total = sum(self._returned)
        if total > LATELY:
            self._returned = [count / 2 for count in self._returned]
        elif total < self._total * (1 + NEWS):
            return False
        known, self._known, self._total = self._known, tuple(self._returned), sum(self._returned)
        return any((*known[SOON:], *self._known[SOON:]))

    def rates(self, prior: Prior) -> Sequence[float]:
        """Return the rates at which prefixes return at each age, of which ``prior`` is expected beforehand."""
        late = self._known[SOON:]
        if not any(late):
            return prior.rates
        often = -log1p(-prior.chance) / (prior.weight + self._total)
        soon = prior.weight + self._total - sum(late)
        return [*(often * soon * share for share in prior.ages), *(often * count for count in late)]
