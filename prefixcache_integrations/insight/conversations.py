"""Which request came before which: the calls of a process, sorted into conversations.

A session may hold several at once (an agent, its sub-agents, what names the chat), and most applications name none.
So a request follows the one with which it shares the most of what was said; one that shares nothing begins a
conversation of its own. Without a session it must also add to what it follows: two users may begin alike. A request
that says something else from some message on, and nothing of what was said there, is a branch: it follows the longest
request that both branches go on with.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count
from typing import TypeAlias

from msgspec.structs import replace

from prefixcache_integrations.canonical import Message, Request
from prefixcache_integrations.insight.prompt_runs import PromptRows
from prefixcache_integrations.insight.sameness import grown

_INSTRUCTIONS = ("system", "developer")
_Words: TypeAlias = tuple[str, ...]


class Turn:
    """One request in its conversation, sent ``at`` so many seconds of any clock.

    ``begun`` is set by its owner once the response has begun, ``weighed`` where its markers were chosen by what they
    are worth; ``previous_begun`` tells of the moment it was sent. ``answer_id`` is what the owner knows of the answer's
    id. ``extends``: it begins with all messages of ``previous``. ``previous`` is the owner's to drop once it is not
    needed: it keeps a whole request. ``rows`` are what its owner has read of the prompt. ``read_at`` is when it was
    last sent or gone on with, ``followed`` whether it ever was gone on with, ``elapsed`` the seconds since ``previous``
    was, ``before`` what ``previous`` had of both until then.
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
        self.rows: PromptRows | None = None
        self.previous_begun = False
        self.extends = False
        known, given = (begins_like.said, begins_like.instructed) if begins_like else ([], [])
        new = [_said(message) for message in request.messages[len(known) + len(given) :]]
        self.said: list[_Words] = known + [words for words in new if words[0] not in _INSTRUCTIONS]
        self.instructed: list[_Words] = given + [words for words in new if words[0] in _INSTRUCTIONS]
        self.instructions = (request.tools, [part.text for part in request.system], self.instructed)


class Conversations:
    """Remembers the latest requests of each conversation. Not thread-safe: its owner serialises calls.

    ``max_sessions`` bounds how many sessions, or openings where there is none, are remembered; ``max_turns`` how many
    requests of each, ``max_followed`` how many of them that were gone on with; the oldest go first.
    """

    def __init__(self, *, max_sessions: int = 256, max_turns: int = 32, max_followed: int = 4) -> None:
        self._max_sessions = max_sessions
        self._max_turns = max_turns
        self._max_followed = max_followed
        self._turns: OrderedDict[str, list[Turn]] = OrderedDict()
        self._numbers = count(1)

    def place(self, request: Request, at: float, session: str | None = None, *, instead_of: Turn | None = None) -> Turn:
        """Return ``request`` as a turn behind the one it follows."""
        if instead_of is not None:
            self.withdraw(instead_of)
        key = _key(request, session)
        turns = self._turns_of(key)
        turn, nearest = _behind(turns, request, at, session)
        turn.kept_as = key
        previous = turn.previous
        if previous is not None:
            turn.conversation, turn.previous_begun = previous.conversation, previous.begun
            turn.before = previous.followed, previous.read_at
            previous.followed, previous.read_at = True, at
        elif nearest is not None:
            turn.conversation = nearest.conversation
        else:
            turn.conversation = self._name(session) if instead_of is None else instead_of.conversation
        turns.append(turn)
        self._forget(turns)
        return turn

    def preview(self, request: Request, at: float, session: str | None = None) -> Turn:
        """Return ``request`` as the turn that `place` would make of it; nothing changes."""
        return _behind(self._turns.get(_key(request, session), ()), request, at, session)[0]

    def beside(self, turn: Turn) -> list[Turn]:
        """Return the other turns of the conversation that are remembered, oldest first: those instructed otherwise."""
        kept = self._turns.get(turn.kept_as, ())
        return [
            each for each in kept if each.conversation == turn.conversation and each.instructions != turn.instructions
        ]

    def withdraw(self, turn: Turn) -> None:
        """Take back a turn that was refused: it left nothing for the next one to read."""
        turns = self._turns.get(turn.kept_as, [])
        if turn in turns:
            turns.remove(turn)
            if turn.previous is not None and turn.previous.read_at == turn.at:
                turn.previous.followed, turn.previous.read_at = turn.before

    def _forget(self, turns: list[Turn]) -> None:
        followed = [each for each in turns if each.followed]
        if len(followed) > self._max_followed or (followed and len(turns) > self._max_turns):
            turns.remove(followed[0])
        elif len(turns) > self._max_turns:
            del turns[0]

    def _turns_of(self, key: str) -> list[Turn]:
        turns = self._turns.setdefault(key, [])
        self._turns.move_to_end(key)
        if len(self._turns) > self._max_sessions:
            self._turns.popitem(last=False)
        return turns

    def _name(self, session: str | None) -> str:
        number = next(self._numbers)
        return f"conversation {number}" if session is None else f"{session} #{number}"


def _key(request: Request, session: str | None) -> str:
    return f"opening:{_opening(request)}" if session is None else f"session:{session}"


def _behind(turns: Sequence[Turn], request: Request, at: float, session: str | None) -> tuple[Turn, Turn | None]:
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


def _opening(request: Request) -> str:
    first = next((message for message in request.messages if message.role not in _INSTRUCTIONS), None)
    said = "\0".join(_said(first)) if first else ""
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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


def _said(message: Message) -> _Words:
    parts = message.parts
    if len(parts) == 1 and parts[0].text:  # nearly every message of a long conversation
        return (message.role, parts[0].text)
    return (message.role, *(part.text or str(part.call_id) for part in parts))
