"""Which request another one follows.

It follows the one with which it shares the most of what was said. Without a session it must also add to what it
follows: two users may begin alike. A request that says something else from some message on, and nothing of what was
said there, is a branch: it follows the longest request that both branches go on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress, islice
from operator import is_not
from typing import TypeAlias
from weakref import ref

from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Request
from prefixcache_integrations.insight.prompt_runs import PromptRows
from prefixcache_integrations.insight.sameness import grown, written_size
from prefixcache_integrations.prompt.retrieved import holds_retrieved

INSTRUCTIONS = ("system", "developer")
_Words: TypeAlias = tuple[str, ...]


class Turn:
    """One request in its conversation, sent ``at`` so many seconds of any clock.

    ``begun`` is set by its owner once the response has begun, ``weighed`` where its markers were chosen by what they
    are worth; ``previous_begun`` tells of the moment it was sent. ``answer_id`` is what the owner knows of the answer's
    id. ``extends``: it begins with all messages of ``previous``. ``previous`` is the owner's to drop once it is not
    needed: it keeps a whole request. ``instead`` is what was sent, where its call was taken for this one before that
    was known. ``rows`` are what its owner has read of the prompt. ``read_at`` is when it was last sent or gone on
    with, ``followed`` whether it ever was gone on with, ``elapsed`` the seconds since ``previous`` was, ``before``
    what ``previous`` had of both until then. ``size`` is that of all it says, in bytes, ``weight`` what of it is
    counted here and not with one that says it, too, and more.
    """

    def __init__(self, request: Request, at: float, begins_like: Turn | None = None) -> None:
        self.request = request
        self.at = self.read_at = at
        self.followed = False
        self.elapsed = 0.0
        self.before = False, at
        self.kept_as = ""
        self.conversation = ""
        self.begun = False
        self.weighed = False
        self.answer_id: str | None = None
        self.previous: Turn | None = None
        self.instead: Turn | None = None
        self.rows: PromptRows | None = None
        self.previous_begun = False
        self.extends = False
        self.size = self.weight = 0
        self._begins_like: Callable[[], Turn | None] = _nothing if begins_like is None else ref(begins_like)
        known, given = (begins_like.said, begins_like.instructed) if begins_like else ([], [])
        new = [said(message) for message in request.messages[len(known) + len(given) :]]
        self.said: list[_Words] = known + [words for words in new if words[0] not in INSTRUCTIONS]
        self.instructed: list[_Words] = given + [words for words in new if words[0] in INSTRUCTIONS]
        self.instructions = (request.tools, [part.text for part in request.system], self.instructed)

    @property
    def as_sent(self) -> Turn:
        """What was sent in the end."""
        turn = self
        while turn.instead is not None:
            turn = turn.instead
        return turn

    def take_over(self) -> int:
        """Count all it says here, and no longer with the turn that it begins like; return how much more that is."""
        other = self._begins_like()
        if other is None:
            self.size = self.weight = written_size(chain(*_said_in(self.request)))
            return self.weight
        left = written_size(_apart(other.request, self.request))
        self.size = self.weight = other.size - left + written_size(_apart(self.request, other.request))
        counted, other.weight = other.weight, min(other.weight, left)
        return self.weight + other.weight - counted

    def hand_back(self, kept: Sequence[Turn]) -> int:
        """Count with the turn that it begins like, if that one is ``kept``, what was counted here; return the rest."""
        other = self._begins_like()
        if other is None or self.weight < self.size or other not in kept:
            return self.weight
        counted, other.weight = other.weight, other.size
        return self.weight + counted - other.weight


def _said_in(request: Request) -> tuple[tuple[object, ...], ...]:
    return request.tools, request.system, request.messages


def _apart(request: Request, other: Request) -> Iterator[object]:
    """Yield what ``request`` says in other objects than ``other``, or beyond it."""
    for said_here, said_there in zip(_said_in(request), _said_in(other), strict=True):
        if said_here is not said_there:
            yield from compress(said_here, map(is_not, said_here, said_there))
            yield from islice(said_here, len(said_there), None)


def _nothing() -> None:
    """Stand where nothing is begun like."""


def behind(turns: Sequence[Turn], request: Request, at: float, session: str | None) -> tuple[Turn, Turn | None]:
    """Return ``request`` behind the turn that it follows, and the one that it is most like."""
    turn, begins_like = _turn(request, at, turns)
    nearest = turn.previous = begins_like
    if begins_like is None or not _is_plainly_next(turn, begins_like, turns, must_add=session is None):
        nearest = _nearest(turn, turns, must_add=session is None)
        turn.previous = nearest and _followed(turn, nearest, turns)
    turn.extends = turn.previous is not None and turn.previous is begins_like
    turn.elapsed = 0.0 if turn.previous is None else at - turn.previous.read_at
    return turn, nearest


def _turn(request: Request, at: float, turns: Sequence[Turn]) -> tuple[Turn, Turn | None]:
    """Return ``request`` as a turn that shares what it can with one of ``turns``, and that one: nothing is twice."""
    for each in reversed(turns):
        messages = grown(each.request.messages, request.messages)
        if messages is not None:
            return Turn(replace(request, messages=messages), at, begins_like=each), each
    return Turn(request, at), None


def _is_plainly_next(turn: Turn, begins_like: Turn, turns: Sequence[Turn], *, must_add: bool) -> bool:
    """Tell whether ``turn`` adds to the longest one there is, as nearly every one does: no other can be nearer."""
    length = len(begins_like.said)
    return (
        0 < length < len(turn.said)
        and not (must_add and begins_like.followed)
        and begins_like.request.dialect == turn.request.dialect
        and begins_like.instructions == turn.instructions
        and all(len(each.said) <= length for each in turns)
    )


def _nearest(turn: Turn, turns: Sequence[Turn], *, must_add: bool) -> Turn | None:
    """Return the turn that ``turn`` is most like: one with the same instructions first, then the most shared words.

    Between two that share as many it is the one with the same tools: an agent may be given others from turn to turn.
    An opening alone is shared by every agent that is given the same question: that makes none of them a follower.
    """
    found, best = None, (False, 0, False, False)
    for each in reversed(turns):
        adds = len(turn.said) > len(each.said)
        shared = _shared(each.said, turn.said)
        comparable = each.request.dialect == turn.request.dialect and not (must_add and each.followed)
        if not comparable or not shared or not (adds or (shared > 1 and not must_add)):
            continue
        alike = each.instructions[1:] == turn.instructions[1:]
        score = (alike, shared, each.instructions == turn.instructions, not each.followed)
        if score > best:
            found, best = each, score
    return found


def _followed(turn: Turn, nearest: Turn, turns: Sequence[Turn]) -> Turn | None:
    """Return what ``turn`` goes on with: where it is a branch, the longest turn with all whose words it begins."""
    same = _alike(nearest.said, turn.said)
    if same == len(nearest.said):
        return nearest
    alike = nearest.instructions[1:] == turn.instructions[1:]
    begun = [
        each
        for each in turns
        if 0 < len(each.said) == _alike(each.said, turn.said)
        and each.request.dialect == turn.request.dialect
        and (each.instructions[1:] == turn.instructions[1:] or not alike)
    ]
    longest = max(begun, key=lambda each: (len(each.said), each.instructions == turn.instructions), default=None)
    if longest is not None and len(longest.said) > same:
        return longest
    return longest if _branches_off(turn, nearest) else nearest


def _branches_off(turn: Turn, other: Turn) -> bool:
    """Tell whether ``turn`` goes another way than ``other`` from some block on, where it says nothing of the other."""
    if len(turn.said) > len(other.said):
        return False
    one, two = ([(role, text) for role, *texts in each.said for text in texts] for each in (turn, other))
    same = _alike(one, two)
    return not {*one[same:]} & {*two[same:]}


def _alike(one: Sequence[object], two: Sequence[object]) -> int:
    """Return with how many items both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _shared(previous: Sequence[_Words], current: Sequence[_Words]) -> int:
    """Return how many messages both have, wherever they stand: dropped ones shift the others."""
    if previous == current[: len(previous)]:
        return len(previous)
    earlier = set(previous)
    return sum(map(earlier.__contains__, current))


def said(message: Message) -> _Words:
    """Return who says what in ``message``, as far as it is compared: not what was retrieved for a question."""
    parts = message.parts
    if len(parts) == 1 and parts[0].text:  # nearly every message of a long conversation
        return (message.role, parts[0].text)
    return (message.role, *(part.text or str(part.call_id) for part in parts if not holds_retrieved(part)))
