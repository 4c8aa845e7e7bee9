"""What a marker is worth: the reads it will save, against what its write costs more."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from prefixcache_integrations.profiles.profile import CacheProfile, Lifetime
from prefixcache_integrations.prompt.classes import ANY, MANY, Class, Likeness
from prefixcache_integrations.prompt.lookups import Bill
from prefixcache_integrations.prompt.stability import Snapshot
from prefixcache_integrations.prompt.steps import Step, in_many_orders

DEFAULT_READ = 0.1
"""What a cached token costs where a profile has no price: the usual tenth."""

CONSIDERED = 12
"""How many places from each end of what is new are looked at: a longer turn is not marked more finely."""


class First(NamedTuple):
    """The first of a prompt's prefixes that are alike and were sent equally often, by the place of its last step."""

    place: int
    likeness: Likeness
    visits: int
    depth: int = 0


class Ahead(Struct, frozen=True):
    """What is known of the prefixes of one order of a prompt.

    Per step the tokens up to and with it, and whether a marker may stand there. ``firsts`` are the first prefixes of
    each sort, in order: as often as those a prefix is expected again, and no more often. ``own`` are the steps that are
    an application's own and can be marked. ``read`` is the step that ends the longest living entry, -1 without one.
    ``begun`` is how the prompt begins, as `Prefixes.begun` counts it, and ``settled`` how many steps of it a
    conversation was sent with that it goes on with. ``written`` is the step up to which another request is writing just
    now, -1 without one. ``with_documents``: there are some, wherever.
    """

    steps: tuple[Step, ...]
    ends: tuple[int, ...]
    markable: tuple[bool, ...]
    firsts: tuple[First, ...]
    own: Sequence[int]
    read: int = -1
    begun: int = 0
    settled: int = 0
    written: int = -1
    with_documents: bool = False

    def sent(self, first: First, *, marked: bool) -> Class:
        """Return as what ``first`` will count once the prompt is sent."""
        likeness, visits = first.likeness, min(first.visits + 1, MANY)
        return Class(likeness, visits, ANY if likeness.after_documents else self.begun, first.depth, marked=marked)

    @property
    def found(self) -> int:
        """The tokens of the longest living entry."""
        return self.ends[self.read] if self.read >= 0 else 0

    @property
    def head(self) -> int:
        """The tokens up to the end of what is an application's own, before there is a document."""
        places = (place for place in reversed(self.own) if not self.steps[place].likeness.after_documents)
        end = next(places, -1)
        return self.ends[end] if end >= 0 else 0

    @property
    def given(self) -> int:
        """The tokens that need no writing: they are read, or written by another."""
        return max(self.found, self.ends[self.written] if self.written >= 0 else 0)


class Choice(NamedTuple):
    """Which steps to mark, with which lifetime, and what all of it is worth, in uncached input tokens."""

    worth: float = 0.0
    marks: tuple[int, ...] = ()
    ttl: str | None = None


def read_saving(profile: CacheProfile) -> float:
    """Return which share of an uncached token's price a cached one saves."""
    price = profile.prices[-1].read_multiplier if profile.prices else None
    return 1 - (DEFAULT_READ if price is None else float(price))


def lost_read(profile: CacheProfile) -> float:
    """Return what a token costs more that is sent, and where that is paid for written, instead of read."""
    lifetime = profile.lifetime(None)
    extra = float(lifetime.write_multiplier) - 1 if lifetime and profile.regime == "breakpoints" else 0.0
    return extra + read_saving(profile)


class Prices:
    """What it is worth at one time that prefixes come again, which is the same for all those of a `Class`."""

    def __init__(self, profile: CacheProfile, snapshot: Snapshot) -> None:
        self.profile = profile
        self.saving = read_saving(profile)
        self.allowance = snapshot.allowance
        self._returns = snapshot.returns
        self._extras = [(each.seconds, float(each.write_multiplier) - 1) for each in profile.lifetimes]
        self._gains: dict[Class, Sequence[float]] = {}

    def reads(self, kind: Class, seconds: float) -> float:
        """Return how often a prefix will be read before its entry ends, after so many seconds, if it is written now."""
        return self._returns(kind).expected_reads(seconds)

    def gains(self, kind: Class) -> Sequence[float]:
        """Return what a token of a prefix is worth if it is written now, for each lifetime of the model."""
        known = self._gains.get(kind)
        if known is None:
            worth, saving = self._returns(kind).worth_writing, self.saving
            known = self._gains[kind] = [worth(seconds, saving, extra) for seconds, extra in self._extras]
        return known


def best_marks(ahead: Ahead, prices: Prices, enough: int, *, anchor: int = -1) -> Choice:
    """Return the markers that pay best, and their worth with what the living entry saves at once.

    Each lifetime of the model is tried; in doubt the cheaper one is taken. An entry that will be read is marked
    again, which costs nothing and keeps it in reach; so is the end of the instructions in front of it, for the
    conversations that share no more. Where nothing pays, no marker is wanted. What is written on the
    chance that documents come together again, and what else comes with documents, stays within `Snapshot.allowance`:
    whatever comes, little is lost against no marker at all. ``anchor`` is a step that another
    process may have written; a marker is left over for it. What a request on its way writes is not worth writing, and
    written once more on the way to what comes after it.
    """
    profile, allowed = prices.profile, prices.allowance
    now, since = ahead.found * prices.saving, max(ahead.found, ahead.head)
    again = _kept_alive(ahead, enough)
    found = again if anchor <= ahead.read else _beside(anchor, again, profile)
    places, budget = _places(ahead, enough), profile.max_breakpoints - len(found) - (anchor > ahead.read)
    sure = sum(not ahead.steps[place].likeness.after_documents for place in places)
    best = Choice(now, again, None)
    for lifetime, gains in zip(profile.lifetimes, _gains(ahead, places, prices), strict=False):
        worth, marks = _best_chain(ahead, places, gains, budget)
        if marks and sure < len(places) and _extra(ahead, marks[-1], lifetime, ahead.found) > allowed.documents:
            worth, marks = _best_chain(ahead, places[:sure], gains[:sure], budget)
        if marks and ahead.with_documents and _extra(ahead, marks[-1], lifetime, since) > allowed.beyond:
            own = sum(ahead.ends[place] <= since for place in places)
            worth, marks = _best_chain(ahead, places[:own], gains[:own], budget)
        worth -= (ahead.given - ahead.found) * (float(lifetime.write_multiplier) - 1)
        if now + worth > best.worth:
            ttl = None if lifetime is profile.lifetimes[0] else lifetime.name
            best = Choice(now + worth, (*found, *marks), ttl)
    spare = profile.max_breakpoints - len(best.marks) - (anchor > ahead.read)
    return best._replace(marks=_with_fork(ahead, best.marks, enough)) if spare > 0 else best


def _with_fork(ahead: Ahead, marks: tuple[int, ...], enough: int) -> tuple[int, ...]:
    """Add to ``marks`` where this prompt parts from all that were sent, if the last of them writes that anyway.

    There it costs nothing, and the next prompt that parts there too reads it.
    """
    sent = next((first.place for first in ahead.firsts if not first.visits), len(ahead.ends))
    places = range(min(sent, *marks[-1:]), ahead.read, -1) if marks else ()
    fork = next((place - 1 for place in places if ahead.markable[place - 1]), -1)
    if fork <= ahead.read or fork in marks or ahead.ends[fork] < enough:
        return marks
    return tuple(sorted((*marks, fork)))


def _kept_alive(ahead: Ahead, enough: int) -> tuple[int, ...]:
    cached = range(bisect_left(ahead.ends, enough), ahead.read + 1)
    last = next((place for place in reversed(cached) if ahead.markable[place]), -1)
    own = ahead.own[: bisect_right(ahead.own, ahead.read)]
    return tuple(sorted({place for place in (*own[-1:], last) if place in cached}))


def _beside(anchor: int, again: tuple[int, ...], profile: CacheProfile) -> tuple[int, ...]:
    """Return which of the entries to mark beside the ``anchor`` after them: two markers are left for what is new.

    It finds the longest of them by itself where that is within reach.
    """
    within = again[-1:] and anchor - again[-1] < (profile.lookback or 0)
    return again[:-1][-1:] if within else again[-1:]


def expected_bill(ahead: Ahead, choice: Choice, profile: CacheProfile) -> Bill:
    """Return what a prompt should save at once against no cache; below zero where it risks more than it reads.

    What is written is at risk where documents are new in it, and where it comes after what is the application's own. A
    marker below the minimum, set in case our count is off, is not billed.
    """
    lifetime, last = profile.lifetime(choice.ttl), choice.marks[-1] if choice.marks else -1
    tokens, saving = ahead.ends[-1] if ahead.ends else 0, read_saving(profile)
    saved, beyond = ahead.found * saving, max(0, ahead.found - ahead.head) * saving
    if lifetime and last >= 0 and ahead.ends[last] >= profile.minimum_tokens:
        beyond -= _extra(ahead, last, lifetime, max(ahead.found, ahead.head))
        saved -= _extra(ahead, last, lifetime, ahead.found) if ahead.steps[last].likeness.after_documents else 0.0
    return Bill(tokens, saved, beyond)


def _extra(ahead: Ahead, last: int, lifetime: Lifetime, since: int) -> float:
    """Return what it costs, beyond the tokens themselves, to write up to ``last`` what comes after ``since`` tokens."""
    return max(0, ahead.ends[last] - since) * (float(lifetime.write_multiplier) - 1)


def worth_unmarked(ahead: Ahead, prices: Prices) -> float:
    """Return what a prompt is worth where every prefix is stored by itself: what it reads now and what it leaves."""
    profile = prices.profile
    lifetime = profile.lifetimes[0].seconds if profile.lifetimes else 300.0
    now = ahead.found
    later, reads, before = 0.0, inf, 0
    following = [first.place for first in ahead.firsts[1:]]
    for first, place in zip(ahead.firsts, (*following, len(ahead.ends)), strict=True):
        reads = min(reads, prices.reads(ahead.sent(first, marked=False), lifetime))
        end = ahead.ends[place - 1]
        if end >= profile.minimum_tokens:
            later += (end - before) * reads
            before = end
    return prices.saving * (now + later)


def _places(ahead: Ahead, enough: int) -> list[int]:
    """Return the steps after the living entry where a marker could stand, at most so many from either end."""
    found = [
        index
        for index in range(max(ahead.read, ahead.written) + 1, len(ahead.ends))
        if ahead.markable[index] and ahead.ends[index] >= enough
    ]
    return found if len(found) <= 2 * CONSIDERED else [*found[:CONSIDERED], *found[-CONSIDERED:]]


def _gains(ahead: Ahead, places: Sequence[int], prices: Prices) -> Iterator[Sequence[float]]:
    """Return what each token before a place is worth if it is written there, per lifetime of the model.

    It is never more than at the places before: where it is worth nothing it is worth as little behind that.
    """
    rows = list[Sequence[float]]()
    gains, left = [inf] * len(prices.profile.lifetimes), deque(ahead.firsts)
    marked = in_many_orders(ahead.steps)
    for place in places:
        while left and left[0].place <= place and max(gains, default=0.0) > 0:
            gains = [*map(min, gains, prices.gains(ahead.sent(left.popleft(), marked=marked)))]
        rows.append(gains)
    return zip(*rows, strict=True)


_Chain: TypeAlias = tuple[float, tuple[int, ...]]
"""What markers are worth together, and the places that they stand at."""


def _best_chain(ahead: Ahead, places: Sequence[int], gains: Sequence[float], budget: int) -> _Chain:
    """Return the at most ``budget`` places that are worth most together: each pays for the tokens since the last.

    Of places where a token is worth the same none pays like the last of them, and where it is worth nothing none does.
    """
    ends, given, following = ahead.ends, ahead.given, (*gains, 0.0)[1:]
    rows = [(place, gain) for place, gain, after in zip(places, gains, following, strict=True) if gain > max(after, 0)]
    best: tuple[float, tuple[int, ...]] = (0.0, ())
    chains: list[tuple[float, tuple[int, ...]]] = [((ends[place] - given) * gain, (place,)) for place, gain in rows]
    for count in range(1, budget + 1):
        best = max([best, *chains], key=itemgetter(0))
        chains = [
            max((worth + (ends[place] - ends[marks[-1]]) * gain, (*marks, place)) for worth, marks in chains[:number])
            for number, (place, gain) in enumerate(rows[count:], start=1)
        ]
    return best
