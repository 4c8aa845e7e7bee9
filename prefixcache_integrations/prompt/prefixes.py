"""The prefixes that were sent, as a tree of digests: how often and when, and until when the provider holds an entry."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from operator import attrgetter

from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.classes import ANY, MANY, Class, Likeness, depth
from prefixcache_integrations.prompt.prefix import Prefix, begin, visit
from prefixcache_integrations.prompt.priors import SAID
from prefixcache_integrations.prompt.rates import Rates, Wait
from prefixcache_integrations.prompt.steps import Step, beyond_tools, ending, in_many_orders

TURNS = 3
"""From how many turns on conversations are taken for alike."""

ROOT = 0
"""The number of the empty prefix."""


class Prefixes:
    """A bounded number of prefixes by number, the least recent go first, with how often their like came back."""

    def __init__(self, *, limit: int, horizon: float) -> None:
        self.rates = Rates()
        self._limit = limit
        self._horizon = horizon
        self._next = 1
        self._known: OrderedDict[int, Prefix] = OrderedDict({ROOT: Prefix(parent=-1, key=b"")})

    def __len__(self) -> int:
        """Return how many are known, the empty one apart."""
        return len(self._known) - 1

    def get(self, number: int | None) -> Prefix | None:
        """Return a prefix by its number, ``None`` where it is not known."""
        return None if number is None else self._known.get(number)

    def follow(self, number: int | None, key: bytes) -> int | None:
        """Return the prefix that continues one with a step, ``None`` if it was never sent."""
        known = self.get(number)
        return None if known is None or known.children is None else known.children.get(key)

    def continuations(self, number: int) -> Mapping[bytes, int]:
        """Return the prefixes that continue one with a step, by that."""
        known = self.get(number)
        return {} if known is None or known.children is None else known.children

    def path(self, keys: Sequence[bytes], begun: Sequence[int] = ()) -> list[int]:
        """Return the prefixes that the steps ``keys`` lead to, as far as they were sent.

        ``begun`` are the first of them, if that is known: those are not looked for if the last of them is there still,
        as what continues a prefix is forgotten before it.
        """
        known = self._known
        numbers = [*begun] if begun and begun[-1] in known else []
        children = known[numbers[-1] if numbers else ROOT].children
        for key in keys[len(numbers) :]:
            number = None if children is None else children.get(key)
            prefix = None if number is None else known.get(number)
            if number is None or prefix is None:
                break
            numbers.append(number)
            children = prefix.children
        return numbers

    def sent_before(self, path: Sequence[int], now: float) -> int:
        """Return how many prefixes of a path were sent before; those behind them are only just being sent."""
        count, known = len(path), self._known
        while count and known[path[count - 1]].is_new(now):
            count -= 1
        return count

    def sent_often(self, path: Sequence[int]) -> Iterator[int]:
        """Yield how many of the prefixes of a path were sent `MANY` times or more, then once less, down to once."""
        known, start = self._known, 0
        for visits in range(MANY, 0, -1):
            start = bisect_right(path, -visits, lo=start, key=lambda number: -known[number].visits)
            yield start

    def begun(self, path: Sequence[int]) -> int:
        """Return how a prompt begins that was sent before as far as ``path``.

        0 where nothing of it was, else how often that much of it was, up to `MANY`; more than `MANY` where it goes on
        with a conversation, by its turns.
        """
        deepest = self._known[path[-1]] if path else Prefix(parent=ROOT, key=b"")
        return MANY + min(deepest.turns, TURNS) if deepest.turns else deepest.visits

    def observe(
        self,
        steps: Sequence[Step],
        previous: int | None,
        now: float,
        clock: float,
        *,
        sent: Sequence[int] = (),
        instead: Sequence[bytes] = (),
        as_it_came: bool = False,
        answer: Answer | None = None,
    ) -> list[int]:
        """Remember a request sent at ``now``, and return its prefixes.

        What is only just being sent for the first time has not come again, nor is it sent once more, as far as learning
        goes: this request could not read it. ``answer`` is that to this request.

        ``clock`` is as much as ``now``, but no two requests have the same. ``sent`` are those of its prefixes of which
        it is known that they were sent.

        One that was sent before others that are known already keeps nothing alive for less long.
        ``previous`` is the step at which the request before it in the conversation should have ended. ``instead`` are
        the steps as which what it goes on with is remembered, if that is in another order; ``as_it_came``: it was sent
        so, which is not in the order of ``steps``.
        """
        self.rates.grow_older(clock)
        path, before = self.path([*map(_key, steps)], sent), self.path(instead)
        if previous is not None and not instead and self._sent_elsewhere(steps, previous, len(path)):
            self.rates.returned_elsewhere(steps[previous].likeness._replace(last=True), clock)
        known, before_now = len(path), self.sent_before(path, now)
        begun = self.begun(before or beyond_tools(steps, path[:before_now]))
        self._renew(path, now)
        numbers = self._numbered(steps, path)
        seen = [self._known[number] for number in numbers]
        begin(seen, answer, now)
        visit(seen, steps, answer, now)
        end = ending(steps)
        turns = self._known[before[-1]].turns if before else 0
        self._ended(numbers[end:] if end >= 0 else (), turns, as_it_came=as_it_came)
        if before_now < known:
            seen, steps = [*seen[:before_now], *seen[known:]], [*steps[:before_now], *steps[known:]]
        self._written_anew(seen[:before_now], now, clock)
        self._returned(before, seen, clock)
        self._sent(seen, steps, before_now, begun, clock)
        self._forget(now)
        return numbers

    def _returned(self, before: Sequence[int], seen: Sequence[Prefix], clock: float) -> None:
        """Note that prefixes were sent again, ``seen`` and those of the same prompt in another order, ``before``.

        Most of those that were waited for together were so together.
        """
        others = [self._known[number] for number in before]
        again = list({id(each): each for each in (*others, *seen)}.values()) if others else seen
        for wait, count in Counter(map(_wait, again)).items():
            if wait is not None:
                self.rates.returned(wait, count, clock)
        for prefix in others:
            prefix.wait = None

    def _written_anew(self, path: Sequence[Prefix], now: float, clock: float) -> None:
        """Note that prefixes were sent again that are being written anew: they come as late as the one that writes."""
        for prefix in reversed(path):
            if not prefix.awaited(now):
                return
            if prefix.wait is not None:
                self.rates.returned(prefix.wait, 1, clock, pause=now - prefix.before)
                prefix.wait = None

    def _sent(self, seen: Sequence[Prefix], steps: Sequence[Step], known: int, begun: int, clock: float) -> None:
        """Begin to wait for the prefixes ``seen``, with which ``steps`` end: for those that are alike together.

        So many of them were ``known`` before.
        """
        alike = [*zip(map(_likeness, steps), map(_visits, seen), repeat(0, known), repeat(0.0), strict=False)]
        new = enumerate(map(_likeness, islice(steps, known, None)))
        alike += [(likeness, 1, depth(likeness.kind, number), 0.0) for number, likeness in new]
        if in_many_orders(steps):
            alike = [(*each[:3], step.writes) for each, step in zip(alike, steps, strict=True)]
        waits = dict[tuple[Likeness, int, int, float], Wait]()
        for each, count in Counter(alike).items():
            likeness, visits, deep, writes = each
            kind = Class(likeness, visits, ANY if likeness.after_documents else begun, deep, marked=writes > 0)
            waits[each] = self.rates.sent(kind, count, clock)
        for prefix, each in zip(seen, alike, strict=True):
            prefix.wait = waits[each]

    def _sent_elsewhere(self, steps: Sequence[Step], previous: int, known: int) -> bool:
        """Tell whether the request that should have ended at ``previous`` is unknown here: so many steps are known.

        Where the conversation is known up to there, it was sent from here, and ended with something else: what was
        looked up for its question, which the history does not keep.
        """
        goes_on = any(step.likeness.kind in SAID for step in islice(steps, previous))
        return known < (previous if goes_on else previous + 1)

    def _renew(self, path: Sequence[int], now: float) -> None:
        """Keep the longest entry alive that is found on this path: the provider does so for the one it reads."""
        prefixes = map(self._known.__getitem__, reversed(path))
        found = next((prefix for prefix in prefixes if prefix.alive(now)), None)
        if found is not None:
            found.alive_until = max(found.alive_until, now + found.lifetime)

    def _numbered(self, steps: Sequence[Step], path: Sequence[int]) -> list[int]:
        """Return the prefixes of ``steps``, those beyond ``path`` new, and keep them longest."""
        numbers = [*path]
        for step in steps[len(path) :]:
            numbers.append(self._child(numbers[-1] if numbers else ROOT, step.key))
        for number in reversed(numbers):  # so that what continues a prefix is forgotten before it
            self._known.move_to_end(number)
        return numbers

    def _ended(self, numbers: Sequence[int], turns: int, *, as_it_came: bool) -> None:
        """Count a turn where a prompt ends, and behind it; so many ``turns`` came before it in another order."""
        above = self._known[self._known[numbers[0]].parent].turns if numbers else 0
        for at in numbers:
            prefix = self._known[at]
            prefix.turns, prefix.as_it_came = max(turns, above) + 1, as_it_came

    def _child(self, parent: int, key: bytes) -> int:
        above = self._known[parent]
        if above.children is None:
            above.children = {}
        at = above.children.get(key)
        if at is None:
            at, self._next = self._next, self._next + 1
            above.children[key] = at
            self._known[at] = Prefix(parent=parent, key=key, turns=above.turns)
        return at

    def _forget(self, now: float) -> None:
        """Drop what is too old or too much, what continues a prefix before it."""
        while len(self._known) > 1:
            oldest = next(iter(self._known))
            if oldest == ROOT:
                self._known.move_to_end(ROOT)
                continue
            prefix = self._known[oldest]
            if len(self) <= self._limit and now - prefix.seen_at <= self._horizon:
                return
            del self._known[oldest]
            above = self._known.get(prefix.parent)
            if above is not None and above.children is not None:
                above.children.pop(prefix.key, None)


_key: Callable[[Step], bytes] = attrgetter("key")
_likeness: Callable[[Step], Likeness] = attrgetter("likeness")
_visits: Callable[[Prefix], int] = attrgetter("visits")
_wait: Callable[[Prefix], Wait | None] = attrgetter("wait")
