"""The prefixes that were sent, as a tree of digests: how often and when, and until when the provider holds an entry."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from operator import attrgetter

from msgspec import Struct

from prefixcache_integrations.prompt.priors import SAID
from prefixcache_integrations.prompt.rates import MANY, Class, Likeness, Rates, Wait, depth

TURNS = 3
"""From how many turns on conversations are taken for alike."""

ROOT = 0
"""The number of the empty prefix."""


class Step(Struct, frozen=True, array_like=True, gc=False):
    """One block of a prompt as it is remembered: its digest and what kind of prefix ends with it.

    ``writes`` is the lifetime in seconds that a marker here asks for, 0 without one.
    """

    key: bytes
    likeness: Likeness
    writes: float = 0.0


def ending(steps: Sequence[Step]) -> int:
    """Return the step that ends what is said in a prompt; behind it is what primes the reply. -1 without one."""
    places = (place for place in reversed(range(len(steps))) if steps[place].likeness.kind != "framing")
    return next(places, -1)


def beyond_tools(steps: Sequence[Step], path: Sequence[int]) -> Sequence[int]:
    """Return ``path``, with which ``steps`` begin, or nothing where a part of the tools is all that was sent of them.

    How often others had these tools too says nothing of a prompt.
    """
    return path if path and steps[len(path) - 1].likeness.kind != "tools" else ()


class Prefix(Struct, gc=False):
    """What is known of one prefix. ``alive_until``: when its entry at the provider ends, 0 where none was written.

    ``visits`` is how often it was sent, up to `MANY`. ``wait`` is what is waited for since then, ``turns`` how many
    prompts ended with it or before it; ``as_it_came``: the latest of these was sent as it came, which was in another
    order.
    """

    parent: int
    key: bytes
    visits: int = 0
    turns: int = 0
    as_it_came: bool = False
    seen_at: float = 0.0
    lifetime: float = 0.0
    alive_until: float = 0.0
    wait: Wait | None = None
    children: dict[bytes, int] | None = None

    def alive(self, now: float) -> bool:
        """Tell whether the provider should hold an entry at ``now``, where entries stand at markers."""
        return self.alive_until > 0 and self.alive_until >= now


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
    ) -> list[int]:
        """Remember a request sent at ``now``, and return its prefixes.

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
        begun = self.begun(before or beyond_tools(steps, path))
        self._renew(path, now)
        numbers = self._numbered(steps, path)
        seen = [self._known[number] for number in numbers]
        _visit(seen, steps, now)
        end = ending(steps)
        turns = self._known[before[-1]].turns if before else 0
        self._ended(numbers[end:] if end >= 0 else (), turns, as_it_came=as_it_came)
        self._returned(before, seen, clock)
        self._sent(seen, steps, len(path), begun, clock)
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

    def _sent(self, seen: Sequence[Prefix], steps: Sequence[Step], known: int, begun: int, clock: float) -> None:
        """Begin to wait for the prefixes ``seen``, with which ``steps`` end: for those that are alike together.

        So many of them were ``known`` before.
        """
        alike = [*zip(map(_likeness, steps), map(_visits, seen), repeat(0, known), strict=False)]
        new = enumerate(map(_likeness, islice(steps, known, None)))
        alike += [(likeness, 1, depth(likeness.kind, number)) for number, likeness in new]
        waits = {
            (likeness, visits, deep): self.rates.sent(Class(likeness, visits, begun, deep), count, clock)
            for (likeness, visits, deep), count in Counter(alike).items()
        }
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


def _visit(seen: Sequence[Prefix], steps: Sequence[Step], now: float) -> None:
    """Note that the prefixes ``seen``, with which ``steps`` end, are sent at ``now``."""
    for prefix, step in zip(seen, steps, strict=True):
        if prefix.visits < MANY:
            prefix.visits += 1
        if prefix.seen_at < now:  # noqa: PLR1730 - for each block of each prompt, and max takes three times as long
            prefix.seen_at = now
        if step.writes:
            prefix.lifetime = max(step.writes, prefix.lifetime if prefix.alive(now) else 0.0)
            prefix.alive_until = max(prefix.alive_until, now + prefix.lifetime)


_key: Callable[[Step], bytes] = attrgetter("key")
_likeness: Callable[[Step], Likeness] = attrgetter("likeness")
_visits: Callable[[Prefix], int] = attrgetter("visits")
_wait: Callable[[Prefix], Wait | None] = attrgetter("wait")
