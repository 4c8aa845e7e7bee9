"""Which request came before which: the calls of a process, sorted into conversations.

A session may hold several at once (an agent, its sub-agents, what names the chat), and most applications name none.
So a request follows the one with which it shares the most of what was said; one that shares nothing begins a
conversation of its own. Without a session it must also add to what it follows: two users may begin alike.
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
from prefixcache_integrations.insight.sameness import Wording, grown, worded

_INSTRUCTIONS = ("system", "developer")
_Words: TypeAlias = tuple[str, ...]


class Turn:
    """One request in its conversation, sent ``at`` so many seconds of any clock.

    ``begun`` is set by its owner once the response has begun; ``previous_begun`` tells of the moment it was sent.
    ``answer_id`` is what the owner knows of the answer's id. ``extends``: it begins with all messages of ``previous``.
    ``previous`` is the owner's to drop once it is not needed: it keeps a whole request. ``rows`` are what its owner has
    read of the prompt.
    """

    def __init__(self, request: Request, at: float, wording: Wording, begins_like: Turn | None = None) -> None:
        self.request = request
        self.wording = wording
        self.at = at
        self.conversation = ""
        self.begun = False
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
    """Remembers the last request of each conversation. Not thread-safe: its owner serialises calls.

    ``max_sessions`` bounds how many sessions, or openings where there is none, are remembered; ``max_heads`` how many
    conversations of each.
    """

    def __init__(self, *, max_sessions: int = 256, max_heads: int = 8) -> None:
        self._max_sessions = max_sessions
        self._max_heads = max_heads
        self._heads: OrderedDict[str, list[Turn]] = OrderedDict()
        self._numbers = count(1)

    def place(self, request: Request, at: float, session: str | None = None, *, instead_of: Turn | None = None) -> Turn:
        """Return ``request`` as a turn behind the one it follows; it takes that one's place if it instructs alike."""
        if instead_of is not None:
            self.withdraw(instead_of)
        heads = self._heads_of(_key(request, session))
        turn = _behind(heads, request, at, session)
        previous = turn.previous
        if previous is None:
            turn.conversation = self._name(session) if instead_of is None else instead_of.conversation
        else:
            turn.conversation, turn.previous_begun = previous.conversation, previous.begun
            if previous.instructions == turn.instructions:
                heads.remove(previous)
        heads.append(turn)
        del heads[: -self._max_heads]
        return turn

    def preview(self, request: Request, at: float, session: str | None = None) -> Turn:
        """Return ``request`` as the turn that `place` would make of it; nothing changes."""
        return _behind(self._heads.get(_key(request, session), ()), request, at, session)

    def beside(self, turn: Turn) -> list[Turn]:
        """Return the other turns of the conversation that are remembered, oldest first: those instructed otherwise."""
        heads = next((heads for heads in self._heads.values() if turn in heads), [])
        return [each for each in heads if each is not turn and each.conversation == turn.conversation]

    def withdraw(self, turn: Turn) -> None:
        """Take back a turn that was refused: it left nothing for the next one to read."""
        for heads in self._heads.values():
            if turn in heads:
                heads.remove(turn)
                if turn.previous is not None and turn.previous not in heads:
                    heads.append(turn.previous)
                return

    def _heads_of(self, key: str) -> list[Turn]:
        heads = self._heads.setdefault(key, [])
        self._heads.move_to_end(key)
        if len(self._heads) > self._max_sessions:
            self._heads.popitem(last=False)
        return heads

    def _name(self, session: str | None) -> str:
        number = next(self._numbers)
        return f"conversation {number}" if session is None else f"{session} #{number}"


def _key(request: Request, session: str | None) -> str:
    return f"opening:{_opening(request)}" if session is None else f"session:{session}"


def _behind(heads: Sequence[Turn], request: Request, at: float, session: str | None) -> Turn:
    turn, begins_like = _turn(request, at, heads)
    turn.previous = _followed(turn, heads, must_add=session is None)
    turn.extends = turn.previous is not None and turn.previous is begins_like
    return turn


def _turn(request: Request, at: float, heads: Sequence[Turn]) -> tuple[Turn, Turn | None]:
    """Return ``request`` as a turn that shares what it can with one of ``heads``, and that one: nothing is twice."""
    for head in reversed(heads):
        wording = grown(head.wording, request.messages)
        if wording is not None:
            return Turn(replace(request, messages=wording.messages), at, wording, begins_like=head), head
    return Turn(request, at, worded(request.messages)), None


def _opening(request: Request) -> str:
    first = next((message for message in request.messages if message.role not in _INSTRUCTIONS), None)
    said = "\0".join(_said(first)) if first else ""
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _followed(turn: Turn, heads: Sequence[Turn], *, must_add: bool) -> Turn | None:
    """Return the turn to whose words ``turn`` adds: one with the same instructions first, then the most shared words.

    Between two that share as many it is the one with the same tools: an agent may be given others from turn to turn.
    An opening alone is shared by every agent that is given the same question: that makes none of them a follower.
    """
    found, best = None, (False, 0, False)
    for head in reversed(heads):
        adds = len(turn.said) > len(head.said)
        shared = _shared(head.said, turn.said)
        if head.request.dialect != turn.request.dialect or not shared or not (adds or (shared > 1 and not must_add)):
            continue
        score = (head.instructions[1:] == turn.instructions[1:], shared, head.instructions == turn.instructions)
        if score > best:
            found, best = head, score
    return found


def _shared(previous: Sequence[_Words], current: Sequence[_Words]) -> int:
    """Return how many messages both have, wherever they stand: dropped ones shift the others."""
    if previous == current[: len(previous)]:
        return len(previous)
    earlier = set(previous)
    return sum(words in earlier for words in current)


def _said(message: Message) -> _Words:
    parts = message.parts
    if len(parts) == 1 and parts[0].text:  # nearly every message of a long conversation
        return (message.role, parts[0].text)
    return (message.role, *(part.text or str(part.call_id) for part in parts))
