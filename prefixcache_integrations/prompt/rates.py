"""How often prefixes come back: learned for those that are alike, from when each was sent again."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import expm1, log1p
from typing import NamedTuple

from msgspec import Struct

from prefixcache_integrations.prompt.classes import Class, Likeness
from prefixcache_integrations.prompt.priors import PRIORS, Kind, Pace, group
from prefixcache_integrations.prompt.returns import AGES, Returns

SURE = 1.0
"""How many returns that were expected and did not come it takes until half as many are expected."""

LATEST = 64
"""How many of a class are kept in mind that may have returned elsewhere."""

AT_A_TIME = 512
"""How many prompts' prefixes at most are counted past an age when one is sent: some more than one adds in all."""

FRESH = 512.0
"""From how many sightings on older ones count half: what an application does changes."""


CERTAIN = 1 - 1e-9
"""The most likely that anything ever is."""

MOST = -log1p(-CERTAIN)
"""The rate at which it is that likely."""

APART = 8.0
"""How many sightings it takes until prompts that begin alike say as much of their like as all prompts together."""


class Wait(Struct, eq=False, gc=False):
    """Prefixes of one prompt that were sent and have not come again: of which class, since when, and how many are left.

    Each counts so much of a sighting as is its ``share``.
    """

    kind: Class
    share: float
    since: float
    left: int


class _Estimate(NamedTuple):
    """How likely prefixes return within each number of `AGES`, and the rates at each age that say so, if any do."""

    chances: Sequence[float]
    rates: Sequence[float] = ()


class Rates:
    """How often prefixes that are alike come back before an entry ends.

    Estimated as survival is (Kaplan and Meier): per stretch of age, how many came back in it, of those of which that
    is known. So a prefix sent a moment ago, or that is on its way back in the request being planned, is not taken for
    one that never returned. After documents it is, in doubt: most of these never do. Where fewer come back than were
    expected, fewer are expected at ages too that none has reached (survival analysis calls it frailty): prompts that
    nobody goes on with are known for what they are before the first of them is minutes old.

    A prompt that goes on with a conversation returns otherwise than one that begins anew, or that asks again about what
    was asked about before. So each such sort is also counted apart, and held to be like all others until it is known.
    So are prefixes at which markers stand where documents could be in any order: of all orders theirs promised most,
    and what promised most keeps less of it than all do (the winner's curse).
    """

    def __init__(self) -> None:
        self._sent: dict[Class, float] = {}
        self._returned: dict[Class, list[float]] = {}
        self._passed: dict[Class, list[float]] = {}
        self._aging: tuple[deque[Wait], ...] = tuple(deque() for _ in AGES)
        self._latest: dict[Class, deque[Wait]] = {}
        self._paces: dict[str, Pace] = {}
        # What was worked out, until something is counted that it depends on: by `Class.alike` which that is.
        self._known: dict[Class, _Estimate] = {}
        self._counted: dict[Class, list[Class]] = {}
        self._expected: dict[Kind, Sequence[float]] = {}

    def sent(self, kind: Class, count: int, now: float) -> Wait:
        """Begin to wait for so many prefixes of a prompt that was just sent; together they count as one sighting."""
        wait = Wait(kind, 1 / count, now, count)
        together = kind.together
        if kind.likeness.after_documents:
            self._changed(kind)
        for sort in (together, kind) if kind.marked else (together,):
            self._sent[sort] = self._sent.get(sort, 0.0) + 1
        self._aging[0].append(wait)
        self._latest.setdefault(together, deque(maxlen=LATEST)).append(wait)
        return wait

    def returned(self, wait: Wait, count: int, now: float, *, pause: float | None = None) -> None:
        """Note that so many of those that were waited for were sent again; no more than are left to wait for count.

        With ``pause`` they come after so many seconds, however long they were waited for.
        """
        count = min(count, wait.left)
        age = max(bisect_right(AGES, now - wait.since if pause is None else pause) - 1, 0)
        for passed in range(0 if pause is None else age):
            self._count(self._passed, wait, count, passed)
        self._count(self._returned, wait, count, age)
        wait.left -= count
        kind = wait.kind.likeness.kind
        pace = None if kind == "tools" else self._pace(kind)  # lists of tools begin alike by chance
        if pace is not None and pace.returned(age, wait.share * count):
            self._known.clear()
            self._counted.clear()
            self._expected.clear()

    def returned_elsewhere(self, likeness: Likeness, now: float) -> None:
        """Note that a prefix came again that another process sent first.

        As often, by symmetry, one comes to another process that this one sent first: so the latest such is taken for
        returned.
        """
        waiting = self._latest.get(Class(likeness, 1))
        while waiting:
            wait = waiting.pop()
            if wait.left:
                self.returned(wait, 1, now)
                return

    def grow_older(self, now: float) -> None:
        """Count those that did not come back at an age, once they are past it; each is looked at once per age.

        At most so many are counted at a time, after a pause too: the others are when the next prompt is sent.
        """
        looks = AT_A_TIME
        for age, waiting in enumerate(self._aging[:-1]):
            while looks and waiting and now - waiting[0].since >= AGES[age + 1]:
                looks -= 1
                wait = waiting.popleft()
                if wait.left:
                    self._count(self._passed, wait, wait.left, age)
                    self._aging[age + 1].append(wait)
        if self._aging[-1]:
            self._aging[-1].clear()

    def _pace(self, kind: Kind) -> Pace | None:
        """Return the pace at which what is of this kind comes again, ``None`` for what has none of its own."""
        of = group(kind)
        if of is not None and of not in self._paces:
            self._paces[of] = Pace()
        return None if of is None else self._paces[of]

    def _rates(self, kind: Kind) -> Sequence[float]:
        """Return the rates at which what is of this kind is expected to come again, at the first ages."""
        rates = self._expected.get(kind)
        if rates is None:
            prior, pace = PRIORS[kind], self._pace(kind)
            rates = self._expected[kind] = prior.rates if pace is None else pace.rates(prior)
        return rates

    def _count(self, rows: dict[Class, list[float]], wait: Wait, count: int, age: int) -> None:
        self._changed(wait.kind)
        for kind in wait.kind.sorts:
            row = rows.setdefault(kind, [0.0] * len(AGES))
            row[age] += wait.share * count
            if row[age] > FRESH:
                self._sent[kind] = self._sent.get(kind, 0.0) / 2
                for each in (self._returned, self._passed):
                    each[kind] = [halved / 2 for halved in each.get(kind, _NONE)]

    def returns(self, kind: Class) -> Returns:
        """Return how likely a prefix comes again."""
        rows = [(self._known.get(each) or self._estimate(each)).chances for each in (kind, *kind.later)]
        return Returns(rows, not kind.likeness.after_documents)

    def _estimate(self, kind: Class) -> _Estimate:
        """Return how likely prefixes return that were sent so often."""
        found = _Estimate(self._doubtful(kind)) if kind.likeness.after_documents else self._survived(kind)
        self._known[kind] = found
        self._counted.setdefault(kind.alike, []).append(kind)
        return found

    def _changed(self, kind: Class) -> None:
        """Forget what was known of how likely prefixes return that are like those of ``kind``."""
        for alike in (kind.alike, *(kind.alike.later if kind.visits == 1 else ())):
            for each in self._counted.pop(alike, ()):
                del self._known[each]

    def _doubtful(self, kind: Class) -> list[float]:
        prior, weight, *_ = PRIORS["document"]
        together = kind.together
        sent = self._sent.get(together, 0.0) + weight
        returned = accumulate(self._returned.get(together, _NONE), initial=0.0)
        chances = [(count + prior * weight) / sent for count in returned]
        if not kind.marked:
            return chances
        sent = self._sent.get(kind, 0.0) + APART
        returned = accumulate(self._returned.get(kind, _NONE), initial=0.0)
        return [(count + chance * APART) / sent for count, chance in zip(returned, chances, strict=True)]

    def _prior_rates(self, kind: Class) -> Sequence[float]:
        """Return the rates at which prefixes of a class are expected to come again, before any of it was seen.

        What was sent again is expected back when what was sent once is, and the likelier the oftener it came: each time
        says as much as one more sighting.
        """
        if kind.visits == 1:
            return self._rates(kind.likeness.kind)
        once = self._known.get(kind.once) or self._estimate(kind.once)
        weight, again = PRIORS[kind.likeness.kind].weight, kind.visits - 1
        chance = (weight * once.chances[-1] + again) / (weight + again)
        factor = -log1p(-min(chance, CERTAIN)) / sum(once.rates)
        return [factor * rate for rate in once.rates]

    def _survived(self, kind: Class) -> _Estimate:
        prior = PRIORS[kind.likeness.kind]
        weight, sure, rates = prior.weight, SURE, self._prior_rates(kind)
        for sort in kind.sorts:
            returned, passed = self._returned.get(sort, _NONE), self._passed.get(sort, _NONE)
            if returned is not passed:  # some were counted
                if any(returned[len(rates) :]):  # at ages at which none was expected
                    rates = [*rates, *_NONE[len(rates) :]]
                rates = _learned([*zip(rates, returned, passed, strict=False)], weight, sure, prior.told)
            weight, sure = APART, APART
        chances = [-expm1(-total) for total in accumulate(rates, initial=0.0)]
        return _Estimate(chances + chances[-1:] * (len(AGES) + 1 - len(chances)), rates)


def _learned(seen: Sequence[tuple[float, float, float]], weight: float, sure: float, told: float) -> list[float]:
    """Return what becomes of the rates that were expected at each age, by how many came back in it and how many not.

    What was expected counts as so many sightings as its ``weight``; ``sure`` is how many that were expected and did not
    come it takes until half as many are expected at all ages. ``told`` as in `Prior`.
    """
    came, expected = sure, sure
    for rate, back, gone in seen:
        if rate:
            came += back
            expected += rate * (back + gone / (1 + gone / told))
    often = came / expected
    learned: list[float] = []
    for rate, back, gone in seen:
        if back or gone:
            chance = (back - expm1(-rate * often) * weight) / (back + gone + weight)
            learned.append(-log1p(-chance) if chance < CERTAIN else MOST)
        else:
            learned.append(rate * often)
    return learned


_NONE = (0.0,) * len(AGES)
